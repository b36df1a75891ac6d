"""Units enabled, disabled and masked by their `[Install]` sections, as `systemctl enable` would do it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

FOLDER = "etc/systemd/system"


def install_section(text: str) -> dict[str, list[str]]:
    """The `[Install]` section of a unit file: key → words."""
    found: dict[str, list[str]] = {}
    section = ""
    # A key may stand several times, which adds up.
    for line in text.replace("\\\n", " ").splitlines():
        stripped = line.strip()
        if stripped.startswith("["):
            section = stripped
        elif section == "[Install]" and "=" in stripped and stripped[0] not in "#;":
            key, _, value = stripped.partition("=")
            found.setdefault(key.strip(), []).extend(value.split())
    return found


def template_of(unit: str) -> str:
    """`serial-getty@ttyS0.service` → `serial-getty@.service`; other units are their own file."""
    stem, dot, suffix = unit.rpartition(".")
    return f"{stem.partition('@')[0]}@{dot}{suffix}" if "@" in stem else unit


def links(enable: Iterable[str], mask: Iterable[str], files: Mapping[str, tuple[str, str]]) -> dict[str, str]:
    """The symbolic links that enable and mask units: path → target.

    :param files: unit file name → (its path in the image, its text).
    :raises ValueError: a unit does not exist or cannot be enabled.
    """
    made: dict[str, str] = {}
    queue = list(enable)
    seen: set[str] = set()
    while queue:
        unit = queue.pop(0)
        if unit in seen:
            continue
        seen.add(unit)
        if template_of(unit) not in files:
            raise ValueError(f"the unit {unit} is enabled, but no package and no module brings it")
        path, text = files[template_of(unit)]
        section = install_section(text)
        if not section:
            raise ValueError(f"the unit {unit} has no [Install] section")
        for key, suffix in (("WantedBy", "wants"), ("RequiredBy", "requires"), ("UpheldBy", "upholds")):
            for target in section.get(key, []):
                made[f"{FOLDER}/{target}.{suffix}/{unit}"] = f"/{path}"
        for alias in section.get("Alias", []):
            made[f"{FOLDER}/{alias}"] = f"/{path}"
        queue += section.get("Also", [])
    for unit in mask:
        made[f"{FOLDER}/{unit}"] = "/dev/null"
    return made
