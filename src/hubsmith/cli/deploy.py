"""`hubsmith deploy`: replace machines that differ from their definition or image. New ones keep the volumes."""

from __future__ import annotations

import argparse

from hubsmith.cli import up
from hubsmith.deploy.qemu import Replacing


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    up.configure(parser)
    parser.add_argument("hosts", metavar="HOST", nargs="*", help="machines or hosts (default: all)")
    parser.add_argument(
        "--delete-homes", action="store_true", help="replace machines even if their homes are on their system disks"
    )


def main(args: argparse.Namespace) -> int:
    """Run the verb."""
    return up.bring_up(args, Replacing.ALWAYS if args.delete_homes else Replacing.KEEPING_HOMES, args.hosts)
