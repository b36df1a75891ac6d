"""A guest in one boot sector, which boots in a second on any host: for tests of the harness itself.

The source and what it can do are in ``tiny.S``.
"""

from __future__ import annotations

import hashlib
import json
import subprocess
from collections.abc import Sequence
from pathlib import Path

_CODE = bytes.fromhex(
    "31c08ed88ec08ed0bc007c8816007dc606007e30ba0206b80001effbbeb77ce87a00f4ba0006edf6c4017535bafd03ec"
    "a80174eeb2f8ec3c7074193c72741d3c6f741e3c6374233c7774363c6c7436e85500ebcebec47ce84200ebc6b0fee664"
    "f4ba0406b80020efebb8fe06007ebeed7ce82800a0007ee82d00b00ae82800eba1b443eb02b44230c0be047d8a16007d"
    "cd1373dabef47ce80200eb86ac84c07405e80300ebf6c35250bafd03eca82074fb58b2f8ee5ac374696e793a20726561"
    "64790a005b20312e305d204b65726e656c2070616e6963202d206e6f742073796e63696e673a2074696e790a0074696e"
    "793a200074696e793a206469736b0a00008d740010000100007e000001"
)
#: One megabyte: the boot sector, and one that the guest writes.
SIZE = 2**20


#: Where the boot sector is in memory, and the place in it of a longer first word.
_ORIGIN, _FREE = 0x7C00, 0x190
_HELLO = b"tiny: ready\n\0"


def tree(folder: Path, *images: str) -> None:
    """Make a project whose images understand the settings of a hub, though none of them has one."""
    for name in ("images", "hosts"):
        (folder / name).mkdir()
    (folder / "modules").symlink_to(Path(__file__).parents[2] / "modules")
    for name in images:
        head = f'[image]\nname = "{name}"\nsummary = "A boot sector"\nhostname = "{name}"\n'
        (folder / "images" / f"{name}.toml").write_text(f'{head}modules = ["spawner-local", "data-volume"]\n')


def make_image(path: Path, says: str = "") -> Path:
    """Write the raw disk image.

    :param says: one more line that it prints when it has booted.
    """
    code = _CODE
    if says:
        # `mov si, offset hello` gets another offset.
        hello = (_ORIGIN + code.index(_HELLO)).to_bytes(2, "little")
        code = code.replace(b"\xbe" + hello, b"\xbe" + (_ORIGIN + _FREE).to_bytes(2, "little")).ljust(_FREE, b"\0")
        code += _HELLO[:-1] + says.encode() + b"\n\0"
    boot = code.ljust(510, b"\0") + b"\x55\xaa"
    path.write_bytes((boot + b"0").ljust(SIZE, b"\0"))
    return path


def make_output(root: Path, name: str, says: str = "", modules: Sequence[str] = (), more: bytes = b"") -> None:
    """Put it where a build puts an image.

    :param root: of a project's tree.
    :param modules: that its manifest names.
    :param more: bytes of its disk, so that it is another image.
    """
    out = root / "out" / name
    out.mkdir(parents=True, exist_ok=True)
    raw, image = make_image(root / f"{name}.raw", says), out / f"{name}.qcow2"
    raw.write_bytes(raw.read_bytes() + more)
    image.unlink(missing_ok=True)
    subprocess.run(["qemu-img", "convert", "-f", "raw", "-O", "qcow2", raw, image], check=True)
    (out / "manifest.json").write_text(json.dumps({"modules": list(modules)}))
    (out / "SHA256SUMS").write_text(f"{hashlib.sha256(image.read_bytes()).hexdigest()}  {image.name}\n")
