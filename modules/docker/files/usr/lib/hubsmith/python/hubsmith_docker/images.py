"""Register the container images of the sealed root with the Docker Engine, before it starts.

`docker load` would copy each layer to the state partition, and read its bytes several times. The layers are unpacked in
the sealed root, so the engine's image store only has to refer to them (docs/decisions/0017). The files written here are
those that Docker Engine 26 writes for an image (its folders `image/overlay2` and `overlay2`), except for
`tar-split.json.gz`. Therefore `docker save` and `docker push` do not work with these images.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
from pathlib import Path
from typing import Any

from hubsmith.guest.files import write

BROUGHT = Path("/usr/share/hubsmith/containers")
ENGINE = Path("/var/lib/docker")
#: Name of a bundled image in the engine. The engine asks an image's registry before each start. Nothing listens at this
#: address, and only root could.
REPOSITORY = "localhost:1/{}"
TAG = "bundled"
#: Bytes of a layer's short name. The engine puts these names into mount options, which must fit in one page.
SHORT = 16


def folder(path: Path) -> Path:
    path.mkdir(parents=True, exist_ok=True, mode=0o710)
    return path


def link(path: Path, target: str) -> None:
    if not path.is_symlink():
        path.symlink_to(target)
    elif str(path.readlink()) != target:
        path.unlink()
        path.symlink_to(target)


def give_layer(place: Path, layer: dict[str, Any], below: list[tuple[str, str]]) -> tuple[str, str]:
    """Register a layer of the root with the engine.

    :param place: folder with the layer's files.
    :param layer: `diff`, the checksum of its tar, and `size` in bytes.
    :param below: chain ID and short name of each lower layer, the topmost first.
    :returns: chain ID and short name of this layer.
    """
    diff = layer["diff"]
    # OCI image specification 1.1, config.md: a chain ID depends on all lower layers.
    chain = f"sha256:{hashlib.sha256(f'{below[0][0]} {diff}'.encode()).hexdigest()}" if below else diff
    cache = chain.removeprefix("sha256:")
    short = base64.b32encode(bytes.fromhex(cache)[:SHORT]).decode().rstrip("=")
    stored = folder(ENGINE / "overlay2" / cache)
    link(stored / "diff", str(place))
    link(folder(ENGINE / "overlay2/l") / short, f"../{cache}/diff")
    folder(stored / "work")
    write(stored / "link", short)
    write(stored / "committed", "")
    known = folder(ENGINE / "image/overlay2/layerdb/sha256" / cache)
    if below:
        write(stored / "lower", ":".join(f"l/{name}" for _, name in below))
        write(known / "parent", below[0][0])
    write(known / "diff", diff)
    write(known / "size", str(layer["size"]))
    write(known / "cache-id", cache)
    return chain, short


def give(brought: Path) -> None:
    """Register an image of the root: its layers, configuration and name, in this order."""
    below: list[tuple[str, str]] = []
    for number, layer in enumerate(json.loads((brought / "layers.json").read_text())):
        below.insert(0, give_layer(brought / str(number), layer, below))
    config = (brought / "config.json").read_text()
    image = hashlib.sha256(config.encode()).hexdigest()
    write(ENGINE / "image/overlay2/imagedb/content/sha256" / image, config, mode=0o600)
    names = ENGINE / "image/overlay2/repositories.json"
    known = json.loads(names.read_text()) if names.exists() else {"Repositories": {}}
    repository = REPOSITORY.format(brought.name)
    known["Repositories"][repository] = {f"{repository}:{TAG}": f"sha256:{image}"}
    write(names, json.dumps(known), mode=0o600, durable=True)


def main() -> None:
    os.umask(0o022)
    if BROUGHT.is_dir():
        for brought in sorted(BROUGHT.iterdir()):
            give(brought)


if __name__ == "__main__":
    main()
