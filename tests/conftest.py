"""Shared by all tests."""

pytest_plugins = ["hubsmith.vm.pytest_plugin"]
