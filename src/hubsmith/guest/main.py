"""The ``hubsmith`` command inside an appliance.

Each verb imports only what it needs: `hubsmith status` must be fast on an emulated processor, and the status service
must use little memory.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from hubsmith.errors import HubsmithError
from hubsmith.guest.layout import Layout

EXIT_REFUSED = 3


def _apply(args: argparse.Namespace) -> int:
    from hubsmith.guest.apply import apply

    if os.geteuid() != 0:
        raise HubsmithError("only root can apply settings", hint="sudo hubsmith apply")
    result = apply(Layout(args.root), boot=args.boot)
    if result.state == "refused":
        # systemd takes a leading <3> as the priority "error" of a journal line.
        mark = "<3>" if args.boot else ""
        for reason in result.reasons:
            print(f"{mark}refused: " + reason.detail.replace("\n", f"\n{mark}"), file=sys.stderr)
        return EXIT_REFUSED
    print(f"settings applied: {len(result.changed)} files changed")
    for name in result.changed:
        print(f"  wrote {name}")
    for unit in result.refreshed:
        print(f"  refreshed {unit}")
    return 0


def _status(args: argparse.Namespace) -> int:
    from hubsmith.guest.status import report

    return report.main(Layout(args.root), as_json=args.json)


def _serve_status(args: argparse.Namespace) -> int:
    from hubsmith.guest.status import service

    service.serve(Layout(args.root))
    return 0


def _check(args: argparse.Namespace) -> int:
    from hubsmith.settings.errors import SettingsError
    from hubsmith.settings.load import load
    from hubsmith.settings.schema import compose, read_parts

    try:
        load(args.file, compose(read_parts(Layout(args.root).modules)))
    except SettingsError as error:
        print(json.dumps(error.as_json(), indent=1) if args.json else error)
        return error.exit_code
    print(json.dumps({"file": str(args.file), "problems": []}) if args.json else f"{args.file}: good")
    return 0


def _servers(args: argparse.Namespace) -> int:
    from hubsmith.guest import servers

    if os.geteuid() != 0:
        raise HubsmithError("only root has the hub's token", hint="sudo hubsmith servers …")
    return servers.main(Layout(args.root), args.action, args.users, timeout=args.timeout, as_json=args.json)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="hubsmith", description="This machine's settings and status.")
    parser.add_argument("--root", type=Path, default=Path("/"), help=argparse.SUPPRESS)
    verbs = parser.add_subparsers(metavar="VERB", required=True)
    apply = verbs.add_parser("apply", help="apply the settings to this machine")
    apply.add_argument("--boot", action="store_true", help=argparse.SUPPRESS)
    apply.set_defaults(run=_apply)
    status = verbs.add_parser("status", help="show the state of each part of this machine, and why")
    status.add_argument("--json", action="store_true")
    status.set_defaults(run=_status)
    verbs.add_parser("serve-status").set_defaults(run=_serve_status)
    servers = verbs.add_parser("servers", help="start or stop users' notebook servers, for example before a class")
    servers.add_argument("action", choices=("list", "start", "stop"))
    servers.add_argument("users", nargs="*", metavar="USER", help="by default all users")
    servers.add_argument("--timeout", type=float, default=1800, metavar="SECONDS", help="for all of them (1800)")
    servers.add_argument("--json", action="store_true")
    servers.set_defaults(run=_servers)
    settings = verbs.add_parser("settings", help="check a settings file").add_subparsers(
        metavar="ACTION", required=True
    )
    check = settings.add_parser("check", help="report all problems of a settings file")
    check.add_argument("file", type=Path, nargs="?", default=Path("/etc/hubsmith/settings.toml"))
    check.add_argument("--json", action="store_true")
    check.set_defaults(run=_check)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point of ``/usr/bin/hubsmith``.

    :returns: 0 done or ready; 1 failed or not ready; 3 the settings were rejected.
    """
    args = _parser().parse_args(argv)
    os.umask(0o022)  # folders below /run/hubsmith are world-readable; every file has its own mode
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    try:
        return int(args.run(args))
    except HubsmithError as error:
        print(f"hubsmith: {error}", file=sys.stderr)
        return error.exit_code
    except PermissionError as error:
        print(f"hubsmith: {error.filename}: only root may read it; use sudo", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
