"""A machine to attack."""

from __future__ import annotations

from scene import scene, scene_snapshot  # noqa: F401  (fixtures)
