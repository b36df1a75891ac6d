"""The command line, with one thin module per verb.

A verb is an entry of :data:`VERBS`, and a module here with ``configure(parser)`` and ``main(args) -> int``.
"""

from __future__ import annotations

import argparse
import importlib
import logging
import os
import select
import sys
from collections.abc import Sequence
from types import ModuleType

from hubsmith.errors import HubsmithError

#: Verbs in the order of the pipeline. A verb's module is imported when it is called, so that `hubsmith --help` is fast.
VERBS = {
    "lock": "solve an image's packages and write its lock",
    "fetch": "bring locked artifacts into the cache and the Nix store",
    "plan": "print an image's manifest",
    "build": "build images",
    "diff": "compare two manifests or two built images",
    "archive": "pack all inputs of an image into one file",
    "test": "prove a built image in virtual machines and write its report",
    "release": "make signed releases of proven images",
    "verify": "check a release: signature, checksums, tests",
    "publish": "publish a release in a catalog (a folder, or a cloud's)",
    "catalog": "list, show or retire published images",
    "settings": "check a settings file, or print the reference",
    "roster": "make accounts with one-time passwords to hand out to a class",
    "up": "start a deployment",
    "deploy": "replace machines whose image or definition has changed",
    "info": "list a deployment's machines",
    "check": "check a deployment's machines",
    "ssh": "open a shell on a machine",
    "ssh-for-each": "run a command on several machines",
    "scp": "copy files from or to a machine",
    "reboot": "restart machines of a deployment",
    "scale": "change the number of machines of a host",
    "down": "stop a deployment",
}


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point of the ``hubsmith`` command.

    :returns: exit code (see ``docs/operators/exit-codes.md``).
    """
    args = parse(list(sys.argv[1:] if argv is None else argv))
    logging.basicConfig(level=logging.DEBUG if args.verbose else logging.INFO, format="%(message)s", stream=sys.stderr)
    for noisy in ("urllib3", "asyncio", "qemu"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
    try:
        code = int(_module(args.verb).main(args))
        sys.stdout.flush()
        return code
    except HubsmithError as error:
        print(f"hubsmith {args.verb}: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        print(f"hubsmith {args.verb}: interrupted; run it again to go on", file=sys.stderr)
        return 130
    except BrokenPipeError:
        if not _nobody_reads(sys.stdout.fileno()):
            raise
        # `hubsmith plan | head`. Python would fail again when it flushes the output at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141


def _nobody_reads(pipe: int) -> bool:
    poll = select.poll()
    poll.register(pipe, 0)
    return any(event & select.POLLERR for _, event in poll.poll(0))


def parse(words: list[str]) -> argparse.Namespace:
    """Parse a command line; exit if it is invalid."""
    parser = argparse.ArgumentParser(prog="hubsmith", description="Immutable JupyterHub appliance images.")
    parser.add_argument("-v", "--verbose", action="store_true", help="log every command that is run")
    verbs = parser.add_subparsers(dest="verb", metavar="VERB", required=True)
    wanted = next((word for word in words if not word.startswith("-")), None)
    for name, help_line in VERBS.items():
        sub = verbs.add_parser(name, help=help_line, description=help_line[0].upper() + help_line[1:] + ".")
        if name == wanted:
            _module(name).configure(sub)
    return parser.parse_args(words)


def _module(verb: str) -> ModuleType:
    return importlib.import_module(f"hubsmith.cli.{verb.replace('-', '_')}")
