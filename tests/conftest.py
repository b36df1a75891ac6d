"""Shared by all tests."""

import sys
from pathlib import Path

pytest_plugins = ["hubsmith.testing.plugin"]

# The modules' packages, which are in one folder of a machine.
sys.path += map(str, sorted(Path(__file__).parents[1].glob("modules/*/files/usr/lib/hubsmith/python")))
