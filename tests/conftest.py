"""Shared by all tests."""

pytest_plugins = ["hubsmith.testing.plugin", "hubsmith.testing.images", "hubsmith.testing.proving"]
