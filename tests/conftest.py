"""Shared by all tests."""

pytest_plugins = ["hubsmith.testing.plugin"]
