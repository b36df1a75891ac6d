"""`hubsmith settings`: check a settings file, print the reference, or make values for it."""

from __future__ import annotations

import argparse
import getpass
import json
import secrets
import sys
from pathlib import Path

from hubsmith.errors import HubsmithError
from hubsmith.paths import project_root

REFERENCE = Path("docs/operators/settings.md")


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the actions."""
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    check = actions.add_parser("check", help="report all problems of a settings file")
    check.add_argument("file", type=Path)
    check.add_argument(
        "--image",
        metavar="NAME",
        help="image of the machine (default: the one that reads most of the tables)",
    )
    check.add_argument("--json", action="store_true", help="print the problems as JSON")
    reference = actions.add_parser("reference", help="print the reference of all settings as Markdown")
    reference.add_argument("--write", action="store_true", help=f"write it to {REFERENCE}")
    hashing = actions.add_parser(
        "hash-password", help="make a password_hash; the password is asked for, or read from standard input"
    )
    hashing.add_argument(
        "--cost", type=int, default=12, choices=range(4, 18), metavar="N", help="cost of bcrypt (default: 12)"
    )
    cluster = actions.add_parser(
        "cluster", help="make the [cluster] tables of a master and its workers that are launched by hand"
    )
    cluster.add_argument("folder", type=Path, help="output folder for master.toml and worker.toml")
    cluster.add_argument("--network", required=True, metavar="CIDR", help="private network of all machines")
    cluster.add_argument("--manager", required=True, metavar="ADDRESS", help="address of the master in the network")


def main(args: argparse.Namespace) -> int:
    """Run one action.

    :returns: 0, or 3 if the settings are invalid.
    """
    if args.action == "check":
        return _check(args.file, args.image, as_json=args.json)
    if args.action == "reference":
        return _reference(write=args.write)
    if args.action == "cluster":
        return _cluster(args.folder, args.network, args.manager)
    return _hash_password(args.cost)


def _check(file: Path, image: str | None, *, as_json: bool) -> int:
    from hubsmith.definition.schemas import closest_image, schema_for, schemas
    from hubsmith.settings.errors import SettingsError
    from hubsmith.settings.load import load

    root, guessed = project_root(), image is None
    image = image or closest_image(file, schemas(root))
    schema = schema_for(root, image, "--image")
    try:
        load(file, schema)
    except SettingsError as error:
        print(json.dumps({**error.as_json(), "image": image}, indent=1, ensure_ascii=False) if as_json else error)
        if guessed:
            print(f"checked for the image {image}; `--image` names another one", file=sys.stderr)
        return error.exit_code
    good = f"{file}: good for the image {image}"
    print(json.dumps({"file": str(file), "problems": [], "image": image}, indent=1) if as_json else good)
    return 0


def _reference(*, write: bool) -> int:
    from hubsmith.definition.schemas import all_readers, whole_schema
    from hubsmith.settings.reference import reference

    root = project_root()
    text = reference(whole_schema(root), all_readers(root))
    if write:
        file = root / REFERENCE
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, encoding="utf-8")
        print(f"wrote {file}")
    else:
        print(text, end="")
    return 0


def _hash_password(cost: int) -> int:
    from hubsmith.settings.passwords import hash_password

    if sys.stdin.isatty():
        password = getpass.getpass("Password: ")
        if getpass.getpass("Again: ") != password:
            raise HubsmithError("the two passwords are not the same")
    else:
        password = sys.stdin.readline().rstrip("\r\n")
    print(hash_password(password, cost=cost))
    return 0


def _cluster(folder: Path, network: str, manager: str) -> int:
    import tomli_w

    from hubsmith.definition.schemas import problems_of
    from hubsmith.deploy.roster import write_new
    from hubsmith.settings.keys import new_private_key, pin_of

    key, secret = new_private_key(), secrets.token_hex(32)
    tables = {
        "master": {"network": network, "secret": secret, "key": key},
        "worker": {"network": network, "manager": manager, "secret": secret, "pin": pin_of(key)},
    }
    for table in tables.values():
        if problems := problems_of(project_root(), "cluster", table):
            raise HubsmithError("; ".join(f"--{one.key.removeprefix('cluster.')}: {one.what}" for one in problems))
    for file in write_new(folder, {f"{name}.toml": tomli_w.dumps({"cluster": one}) for name, one in tables.items()}):
        print(f"wrote {file}")
    return 0
