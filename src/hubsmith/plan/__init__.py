"""The plan of an image: its manifest, a pure function of definition, lock and the modules' sources.

It depends on no clock, network or environment, so the result is the same on the build machine and in the sandbox.
"""

from hubsmith.plan.manifest import dumps, make

__all__ = ["dumps", "make"]
