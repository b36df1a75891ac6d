"""A real ACME authority for the tests: Pebble, with a DNS server that says what the test wants.

Both come from Debian's package `pebble`. They run on the test machine; the appliance under test reaches the
authority at an address of that machine, and the authority reaches port 80 of the appliance where ``http_port`` says.
"""

from __future__ import annotations

import datetime
import ipaddress
import json
import socket
import time
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

import requests
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from hubsmith.run import spawn


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
            .not_valid_after(now + datetime.timedelta(days=30))
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
    """Pebble and its DNS server; a context manager that ends both.

    :param folder: a folder for its files.
    :param address: where the appliance reaches this machine, such as ``10.0.2.2`` in QEMU's user network.
    :param http_port: the port at which port 80 of the appliance is reached from here.
    :param appliance: the address that every name resolves to.
    :param validity: seconds of validity of the certificates.
    """

    def __init__(self, folder: Path, *, address: str, http_port: int, appliance: str = "127.0.0.1",
                 validity: int = 90 * 86_400) -> None:  # fmt: skip
        self.folder, self.address, self.http_port, self.appliance = folder, address, http_port, appliance
        self.validity = validity
        self.port, self.management, self.dns, self.dns_management = (free_port() for _ in range(4))
        folder.mkdir(parents=True, exist_ok=True)
        #: What the appliance needs as `tls.ca_bundle`.
        self.ca_bundle = write_identity(folder, [address, "127.0.0.1"])
        self.log = folder / "pebble.log"
        self._children: list = []

    @property
    def directory_url(self) -> str:
        """What the appliance needs as `tls.directory_url`."""
        return f"https://{self.address}:{self.port}/dir"

    def start(self) -> Self:
        """Start both and wait until they answer."""
        config = {"pebble": {
            "listenAddress": f"0.0.0.0:{self.port}", "managementListenAddress": f"127.0.0.1:{self.management}",
            "certificate": str(self.folder / "cert.pem"), "privateKey": str(self.folder / "key.pem"),
            "httpPort": self.http_port, "tlsPort": 1, "ocspResponderURL": "",
            "externalAccountBindingRequired": False, "certificateValidityPeriod": self.validity,
        }}  # fmt: skip
        path = self.folder / "pebble.json"
        path.write_text(json.dumps(config))
        with self.log.open("ab") as log:
            self._children = [
                spawn(["pebble-challtestsrv", "-defaultIPv4", self.appliance, "-defaultIPv6", "", "-http01", "",
                       "-https01", "", "-tlsalpn01", "", "-dns01", f"127.0.0.1:{self.dns}",
                       "-management", f"127.0.0.1:{self.dns_management}"], stdout=log, stderr=log),
                spawn(["pebble", "-config", str(path), "-dnsserver", f"127.0.0.1:{self.dns}"],
                      env={"PEBBLE_VA_NOSLEEP": "1", "PEBBLE_AUTHZREUSE": "0"}, stdout=log, stderr=log),
            ]  # fmt: skip
        deadline = time.monotonic() + 30
        while True:
            try:
                self._get(f"https://127.0.0.1:{self.port}/dir").raise_for_status()
                return self
            except requests.RequestException as error:
                if time.monotonic() > deadline:
                    self.stop()
                    raise RuntimeError(f"Pebble did not start within 30 s: {error}; see {self.log}") from error
                time.sleep(0.1)

    def stop(self) -> None:
        """End both; safe to call twice."""
        for child in self._children:
            child.terminate()
        for child in self._children:
            child.wait(timeout=10)
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

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        self.stop()
