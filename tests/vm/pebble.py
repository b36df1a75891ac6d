"""A real ACME authority for the tests: Pebble, with a DNS server that says what the test wants.

Both come from Debian's package `pebble`. They run on the test machine; the appliance under test reaches the
authority at an address of that machine, and the authority reaches port 80 of the appliance through its forwarded port.
"""

from __future__ import annotations

import datetime
import ipaddress
import json
import socket
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path

import requests
import urllib3
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from hubsmith.errors import HarnessFailed
from hubsmith.vm.testbed import Testbed, kill

# Its own certificate is the subject of no test.
urllib3.disable_warnings(urllib3.exceptions.InsecureRequestWarning)


def free_port() -> int:
    """A TCP port that is free now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def write_identity(folder: Path, addresses: Sequence[str]) -> str:
    """A private authority and the certificate of Pebble's own web server; returns the authority as PEM."""
    now = datetime.datetime.now(datetime.UTC)

    def certificate(name: str, key: ec.EllipticCurvePrivateKey, issuer: str, signer: ec.EllipticCurvePrivateKey,
                    extension: x509.ExtensionType) -> x509.Certificate:  # fmt: skip
        return (
            x509.CertificateBuilder()
            .subject_name(x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)]))
            .issuer_name(x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, issuer)]))
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(days=1))
            .not_valid_after(now + datetime.timedelta(days=3650))  # tests move the appliance's clock
            .add_extension(extension, critical=isinstance(extension, x509.BasicConstraints))
            .sign(signer, hashes.SHA256())
        )

    root_key, key = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))
    root = certificate("test authority", root_key, "test authority", root_key, x509.BasicConstraints(True, None))
    names = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address(address)) for address in addresses])
    leaf = certificate("pebble", key, "test authority", root_key, names)
    pem = serialization.Encoding.PEM
    (folder / "cert.pem").write_bytes(leaf.public_bytes(pem))
    (folder / "key.pem").write_bytes(
        key.private_bytes(pem, serialization.PrivateFormat.TraditionalOpenSSL, serialization.NoEncryption())
    )
    return root.public_bytes(pem).decode()


class Pebble:
    """Pebble and its DNS server.

    :param testbed: where they run; they end with it.
    :param name: unique in the testbed.
    :param address: where the appliance reaches this machine, such as ``10.0.2.2`` in QEMU's user network.
    :param appliance: the address that every name resolves to.
    :param validity: seconds of validity of the certificates.
    """

    def __init__(self, testbed: Testbed, name: str = "pebble", *, address: str = "10.0.2.2",
                 appliance: str = "127.0.0.1", validity: int = 90 * 86_400) -> None:  # fmt: skip
        self.testbed, self.address, self.appliance, self.validity = testbed, address, appliance, validity
        self.folder = testbed.folder / name
        self.folder.mkdir()
        self.port, self.management, self.dns, self.dns_management = (free_port() for _ in range(4))
        #: What the appliance needs as `tls.ca_bundle`.
        self.ca_bundle = write_identity(self.folder, [address, "127.0.0.1"])
        self.log = self.folder / "pebble.log"
        self._children: list[subprocess.Popen[bytes]] = []

    @property
    def directory_url(self) -> str:
        """What the appliance needs as `tls.directory_url`."""
        return f"https://{self.address}:{self.port}/dir"

    @property
    def settings(self) -> dict[str, str | bool]:
        """The table `tls` of an appliance that uses it."""
        return {
            "mode": "letsencrypt", "email": "admin@example.org", "directory_url": self.directory_url,
            "ca_bundle": self.ca_bundle,
        }  # fmt: skip

    def start(self, http_port: int) -> None:
        """Start both and wait until they answer.

        :param http_port: the port of this machine that leads to port 80 of the appliance.
        :raises HarnessFailed: they do not answer within 30 s.
        """
        config = {"pebble": {
            "listenAddress": f"0.0.0.0:{self.port}", "managementListenAddress": f"127.0.0.1:{self.management}",
            "certificate": str(self.folder / "cert.pem"), "privateKey": str(self.folder / "key.pem"),
            "httpPort": http_port, "tlsPort": 1, "ocspResponderURL": "",
            "externalAccountBindingRequired": False, "certificateValidityPeriod": self.validity,
        }}  # fmt: skip
        path = self.folder / "pebble.json"
        path.write_text(json.dumps(config))
        self._children = [
            self.testbed.spawn(["pebble-challtestsrv", "-defaultIPv4", self.appliance, "-defaultIPv6", "",
                                "-http01", "", "-https01", "", "-tlsalpn01", "", "-dns01", f"127.0.0.1:{self.dns}",
                                "-management", f"127.0.0.1:{self.dns_management}"], output=self.log),
            self.testbed.spawn(["env", "PEBBLE_VA_NOSLEEP=1", "PEBBLE_AUTHZREUSE=0", "pebble", "-config", path,
                                "-dnsserver", f"127.0.0.1:{self.dns}"], output=self.log),
        ]  # fmt: skip
        deadline = time.monotonic() + 30
        while True:
            try:
                self._get(f"https://127.0.0.1:{self.port}/dir").raise_for_status()
                return
            except requests.RequestException as error:
                if time.monotonic() > deadline:
                    self.stop()
                    raise HarnessFailed(f"Pebble did not answer within 30 s: {error}; see {self.log}") from error
                time.sleep(0.1)

    def stop(self) -> None:
        """End both; safe to call twice."""
        for child in self._children:
            kill(child, grace=5)
        self._children = []

    def _get(self, url: str) -> requests.Response:
        with requests.Session() as session:
            session.trust_env, session.verify = False, False
            return session.get(url, timeout=5)

    @property
    def root(self) -> str:
        """The authority that signs the issued certificates, as PEM; another one after each start."""
        return self._get(f"https://127.0.0.1:{self.management}/roots/0").text

    def resolve(self, name: str, address: str) -> None:
        """Let a name resolve to another address."""
        url = f"http://127.0.0.1:{self.dns_management}/add-a"
        requests.post(url, json={"host": f"{name}.", "addresses": [address]}, timeout=5).raise_for_status()

    def is_revoked(self, serial: int) -> bool:
        """Whether the authority has revoked the certificate with that serial number."""
        answer = self._get(f"https://127.0.0.1:{self.management}/cert-status-by-serial/{serial:x}")
        answer.raise_for_status()
        return bool(answer.json()["Status"] == "Revoked")
