"""Paths inside an appliance."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Layout:
    """Paths of the guest below ``root``. Tests use another root."""

    root: Path = Path("/")

    def at(self, path: str) -> Path:
        """Return an absolute path of the appliance, below the root."""
        return self.root / path.lstrip("/")

    @property
    def settings(self) -> Path:
        """The launch-time settings (0600)."""
        return self.at("/etc/hubsmith/settings.toml")

    @property
    def modules(self) -> Path:
        """One folder per module: ``module.toml``, ``settings.py`` and ``templates/``."""
        return self.at("/usr/lib/hubsmith/modules")

    @property
    def preparation(self) -> Path:
        """Hooks that run before the machine's secrets are read."""
        return self.at("/usr/lib/hubsmith/prepare.d")

    @property
    def hooks(self) -> Path:
        """Hooks of apply."""
        return self.at("/usr/lib/hubsmith/apply.d")

    @property
    def checks(self) -> Path:
        """Executables and unit files of status."""
        return self.at("/usr/lib/hubsmith/status.d")

    @property
    def state(self) -> Path:
        """State that survives a reboot (0700)."""
        return self.at("/var/lib/hubsmith")

    @property
    def kept(self) -> Path:
        """State that outlives the machine, such as its secrets and its users' uids (0700)."""
        return self.state / "kept"

    @property
    def run(self) -> Path:
        """Files that are created again at each boot."""
        return self.at("/run/hubsmith")

    @property
    def outcome(self) -> Path:
        """Outcome of the last apply (0600)."""
        return self.run / "apply.json"

    @property
    def facts(self) -> Path:
        """Facts derived from the settings, for status items and checks (0644)."""
        return self.run / "facts.json"

    @property
    def status(self) -> Path:
        """The public status: ``status.json`` and ``index.html``."""
        return self.run / "status"
