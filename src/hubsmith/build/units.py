"""Links that enable and mask units according to their `[Install]` sections, like `systemctl enable`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

FOLDER = "etc/systemd/system"


def install_section(text: str) -> dict[str, list[str]]:
    """Parse the `[Install]` section of a unit file and return the words of each key."""
    found: dict[str, list[str]] = {}
    section = ""
    # The values of a repeated key add up.
    for line in text.replace("\\\n", " ").splitlines():
        stripped = line.strip()
        if stripped.startswith("["):
            section = stripped
        elif section == "[Install]" and "=" in stripped and stripped[0] not in "#;":
            key, _, value = stripped.partition("=")
            found.setdefault(key.strip(), []).extend(value.split())
    return found


def template_of(unit: str) -> str:
    """Return the unit file of a unit: for `serial-getty@ttyS0.service` it is `serial-getty@.service`."""
    stem, dot, suffix = unit.rpartition(".")
    return f"{stem.partition('@')[0]}@{dot}{suffix}" if "@" in stem else unit


def links(enable: Iterable[str], mask: Iterable[str], files: Mapping[str, tuple[str, str]]) -> dict[str, str]:
    """Return the symbolic links (path → target) that enable and mask units.

    :param enable: units to enable.
    :param mask: units to mask.
    :param files: path in the image and text of each unit file, by name.
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
