"""A real cloud for the tests: Keystone and Glance from Debian's packages."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from project import Cloud

from hubsmith.testing.cloud.namespace import Namespace
from hubsmith.testing.cloud.root import servers_root
from hubsmith.testing.cloud.services import Services


@pytest.fixture(scope="session")
def services(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Services]:
    """The servers."""
    with Namespace(servers_root(), tmp_path_factory.mktemp("cloud")) as space:
        services = Services(space)
        services.start_keystone()
        services.start_glance()
        yield services


@pytest.fixture
def cloud(services: Services, tmp_path: Path) -> Cloud:
    """A project of its own in the cloud, and somebody with application credentials for it."""
    return Cloud.new(services, tmp_path)
