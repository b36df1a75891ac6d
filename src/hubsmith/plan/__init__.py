"""The plan: an image's manifest, a pure function of its definition, its lock and the sources of its modules.

No clock, no network, no environment: it runs the same on the build machine and inside the build's sandbox.
"""

from hubsmith.plan.manifest import dumps, make

__all__ = ["dumps", "make"]
