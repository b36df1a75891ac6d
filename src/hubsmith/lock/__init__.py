"""Locks: every artifact of an image with its checksum, as chosen by apt, pip and npm."""

from hubsmith.lock.files import LockChoice, committed_path, load, locate, save
from hubsmith.lock.inputs import Inputs, inputs_of
from hubsmith.lock.models import DebianPackage, Lock, NpmPackage, Wheel

__all__ = [
    "DebianPackage",
    "Inputs",
    "Lock",
    "LockChoice",
    "NpmPackage",
    "Wheel",
    "committed_path",
    "inputs_of",
    "load",
    "locate",
    "save",
]
