"""Sources of artifacts: the mirrors that this computer's package clients use."""

from __future__ import annotations

import threading
import urllib.parse
from collections.abc import Callable
from pathlib import Path

import requests
from pypi_simple import NoSuchProjectError, PyPISimple
from requests.adapters import HTTPAdapter
from urllib3.util.retry import Retry

from hubsmith.archives.artifacts import Artifact, Kind
from hubsmith.archives.download import ATTEMPTS, BACK_OFF, Gone
from hubsmith.archives.machine import apt_proxy, debian_mirrors, npm_config, pip_config
from hubsmith.errors import FetchError

#: Debian's certificate bundle, which apt uses for HTTPS mirrors.
SYSTEM_CERTIFICATES = Path("/etc/ssl/certs/ca-certificates.crt")
TIMEOUT = 60


def _session(jobs: int, retries: Retry | int = 0) -> requests.Session:
    session = requests.Session()
    for scheme in ("http://", "https://"):
        session.mount(scheme, HTTPAdapter(pool_maxsize=jobs, max_retries=retries))
    return session


class DebianSource:
    """Debian archives, at apt's mirrors and through apt's proxies."""

    def __init__(self, jobs: int) -> None:
        self.mirrors = debian_mirrors()
        self.session = _session(jobs)
        if SYSTEM_CERTIFICATES.exists():
            self.session.verify = str(SYSTEM_CERTIFICATES)
        for scheme in ("http", "https"):
            proxy = apt_proxy(scheme)
            if proxy is not None:
                # apt's configuration has precedence over the environment, as in apt itself.
                self.session.trust_env = False
                self.session.proxies[scheme] = proxy

    def address(self, artifact: Artifact) -> str:
        """Return the URL of an artifact."""
        return f"{self.mirrors[artifact.kind]}/{urllib.parse.quote(artifact.path, safe='/')}"


class PypiSource:
    """Python package indices of pip's configuration."""

    def __init__(self, jobs: int) -> None:
        config = pip_config()
        self.session = _session(jobs)
        # The downloader retries files itself, since it can resume them. Index pages are retried here.
        pages = _session(jobs, Retry(ATTEMPTS - 1, backoff_factor=BACK_OFF, status_forcelist=(429, 500, 502, 503, 504)))
        for session in (self.session, pages):
            if config.cert:
                session.verify = config.cert
            if config.proxy:
                session.proxies.update({"http": config.proxy, "https": config.proxy})
        self.indices = [PyPISimple(url, session=pages) for url in (config.index_url, *config.extra_index_urls)]

    def address(self, artifact: Artifact) -> str:
        """Return the URL of a wheel.

        :raises Gone: no index has a file of that name.
        :raises FetchError: an index cannot be read.
        """
        for index in self.indices:
            try:
                page = index.get_project_page(artifact.name, timeout=TIMEOUT)
            except NoSuchProjectError:
                continue
            except requests.RequestException as error:
                raise FetchError(f"cannot read the index: {type(error).__name__}", where=str(artifact)) from None
            for package in page.packages:
                if package.filename == artifact.path:
                    return package.url
        raise Gone


class NpmSource:
    """Registry of npm's configuration."""

    def __init__(self, jobs: int) -> None:
        config = npm_config()
        self.registry = config.registry
        self.session = _session(jobs)
        if config.cafile:
            self.session.verify = config.cafile
        if config.proxy:
            self.session.proxies.update({"http": config.proxy, "https": config.proxy})

    def address(self, artifact: Artifact) -> str:
        """Return the URL of a tarball."""
        return self.registry + urllib.parse.quote(artifact.path, safe="/@")


Source = DebianSource | PypiSource | NpmSource

_MAKERS: dict[Kind, Callable[[int], Source]] = {
    "debian": DebianSource,
    "debian-security": DebianSource,
    "pypi": PypiSource,
    "npm": NpmSource,
}


class Sources:
    """Sources of all kinds, each created at its first use, since asking a package client takes time."""

    def __init__(self, jobs: int) -> None:
        self.jobs = jobs
        self._made: dict[Callable[[int], Source], Source] = {}
        self._mutex = threading.Lock()

    def of(self, kind: Kind) -> Source:
        """Return the source for a kind of artifact."""
        maker = _MAKERS[kind]
        with self._mutex:
            if maker not in self._made:
                self._made[maker] = maker(self.jobs)
            return self._made[maker]
