"""Settings of the hub's name and its certificate."""

from __future__ import annotations

import ipaddress
import re
from datetime import UTC, datetime
from typing import Annotated, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator

from hubsmith.settings.scalars import Bool, Label, Secret, Str
from hubsmith.settings.tables import Field, Findings, Table, rule, table

#: Top-level domains that no public authority certifies (RFC 2606, 6761, 6762, 8375, and ICANN's `internal`).
PRIVATE_TOP_LEVELS = frozenset({"test", "example", "invalid", "localhost", "local", "internal", "arpa", "onion", "lan"})
_LABEL = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")


def domain(value: str) -> str:
    """Validate a DNS name in lower case, without scheme, port, path, wildcard or final dot."""
    if "://" in value or "/" in value:
        raise ValueError("a name is wanted, not a URL: leave out `https://` and everything after the name")
    try:
        ipaddress.ip_address(value.strip("[]"))
    except ValueError:
        pass
    else:
        raise ValueError("a name is wanted, not an IP address: leave the key out to answer on any address")
    if ":" in value:
        raise ValueError("a name is wanted, without a port: the hub is always on 443")
    if not value.isascii():
        raise ValueError("write an international name in its ASCII form (`xn--…`)")
    if len(value) > 253 or not all(_LABEL.fullmatch(label) for label in value.split(".")):
        raise ValueError("not a domain name: lower-case letters, digits and `-` between dots")
    return value


def email(value: str) -> str:
    """Validate an e-mail address of the form ``local@domain``."""
    local, at, host = value.rpartition("@")
    if not at or not re.fullmatch(r"[A-Za-z0-9.!#$%&'*+/=?^_`{|}~-]{1,64}", local):
        raise ValueError("not an e-mail address")
    try:
        domain(host.lower())
    except ValueError:
        raise ValueError("not an e-mail address: what follows the @ is not a domain name") from None
    return value


def https_url(value: str) -> str:
    """Validate a URL with the scheme ``https`` and a host, without user name, password or fragment."""
    try:
        parts = urlsplit(value)
        parts.port  # noqa: B018 (it is parsed when it is read)
    except ValueError:
        raise ValueError("not a URL") from None
    if parts.scheme != "https" or not parts.hostname or re.search(r"\s", value):
        raise ValueError("not a URL that starts with https://")
    if parts.username is not None or parts.fragment:
        raise ValueError("the URL must not hold a user name, a password or a fragment")
    return value


# `cryptography` is slow to import and only needed for TLS, so functions import it when they need it.


def certificates(value: str) -> str:
    """Validate one or more PEM certificates."""
    from cryptography import x509

    try:
        x509.load_pem_x509_certificates(value.encode())
    except ValueError:
        raise ValueError("not a PEM certificate (`-----BEGIN CERTIFICATE-----` …)") from None
    return value


def private_key(value: str) -> str:
    """Validate a PEM private key without a pass phrase."""
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    try:
        load_pem_private_key(value.encode(), password=None)
    except TypeError:
        raise ValueError("the key has a pass phrase; `openssl pkey -in KEY -out PLAIN` removes it") from None
    except (ValueError, UnsupportedAlgorithm):
        raise ValueError("not a PEM private key (`-----BEGIN PRIVATE KEY-----` …)") from None
    return value


def certificate_problems(certificate: str, key: str, domain: str | None) -> list[str]:
    """Return the problems of a certificate with its key: it is expired, or for another key or name."""
    from cryptography import x509
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_private_key

    leaf = x509.load_pem_x509_certificates(certificate.encode())[0]
    form = (Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    problems = []
    if leaf.public_key().public_bytes(*form) != load_pem_private_key(key.encode(), None).public_key().public_bytes(
        *form
    ):
        problems.append("the certificate and `tls.key` do not belong together")
    if leaf.not_valid_after_utc < datetime.now(UTC):
        problems.append(f"the certificate expired on {leaf.not_valid_after_utc:%Y-%m-%d}")
    try:
        names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value.get_values_for_type(
            x509.DNSName
        )
    except x509.ExtensionNotFound:
        names = []
    if domain and domain not in names and f"*.{domain.partition('.')[2]}" not in names:
        problems.append(f"the certificate is for {', '.join(names) or 'no name'}, not for `hub.domain`")
    return problems


Domain = Annotated[Str, AfterValidator(domain), Label("domain name")]
Email = Annotated[Str, AfterValidator(email), Label("e-mail address")]
HttpsUrl = Annotated[Str, AfterValidator(https_url), Label("https URL")]
Certificates = Annotated[Str, AfterValidator(certificates), Label("PEM text")]
PrivateKey = Annotated[Str, AfterValidator(private_key), Label("PEM text"), Secret()]


@table("hub")
class Hub(Table):
    domain: Domain | None = Field(
        default=None,
        description="The name under which people reach the hub. Without it the hub answers on any name and address.",
        examples=["hub.example.org"],
    )


@table("tls")
class Tls(Table):
    """The certificate of the hub."""

    mode: Literal["self-signed", "letsencrypt", "provided"] = Field(
        default="self-signed",
        description="`self-signed`: made on the machine, browsers warn. `letsencrypt`: issued and renewed by an ACME "
        "authority. `provided`: the one in `certificate` and `key`.",
        examples=["letsencrypt"],
    )
    email: Email | None = Field(
        default=None,
        description="Where the authority writes about the certificate. Needed for `letsencrypt`.",
        examples=["admin@example.org"],
    )
    staging: Bool = Field(
        default=False,
        description="Use the staging service of Let's Encrypt, for trials: its rate limits are high, and browsers do "
        "not trust its certificates.",
        examples=[True],
    )
    directory_url: HttpsUrl | None = Field(
        default=None,
        description="The directory of another ACME authority, instead of that of Let's Encrypt.",
        examples=["https://ca.example.org/acme/directory"],
    )
    ca_bundle: Certificates | None = Field(
        default=None,
        description="The PEM certificates that sign the ACME authority's own web server, when it is a private one.",
        examples=["-----BEGIN CERTIFICATE-----\n…\n-----END CERTIFICATE-----\n"],
    )
    certificate: Certificates | None = Field(
        default=None,
        description="For `provided`: the PEM certificate of the hub, followed by its intermediate ones.",
        examples=["-----BEGIN CERTIFICATE-----\n…\n-----END CERTIFICATE-----\n"],
    )
    key: PrivateKey | None = Field(
        default=None,
        repr=False,
        description="For `provided`: the PEM private key of the certificate, without a pass phrase.",
        examples=["-----BEGIN PRIVATE KEY-----\n…\n-----END PRIVATE KEY-----\n"],
    )


@rule("hub", "tls")
def an_authority_needs_a_public_name(hub: Hub, tls: Tls) -> Findings:
    if tls.mode != "letsencrypt":
        return
    if hub.domain is None:
        yield "hub.domain", 'needed when `tls.mode` is "letsencrypt": a certificate is for a name'
    elif tls.directory_url is None and ("." not in hub.domain or hub.domain.rpartition(".")[2] in PRIVATE_TOP_LEVELS):
        yield "hub.domain", "Let's Encrypt certifies only public names: take one, or set `tls.directory_url`"


@rule("tls")
def an_authority_needs_an_address(tls: Tls) -> Findings:
    if tls.mode == "letsencrypt" and tls.email is None:
        yield "tls.email", 'needed when `tls.mode` is "letsencrypt"'


@rule("tls")
def keys_belong_to_the_mode(tls: Tls) -> Findings:
    modes = {
        "email": "letsencrypt", "staging": "letsencrypt", "directory_url": "letsencrypt", "ca_bundle": "letsencrypt",
        "certificate": "provided", "key": "provided",
    }  # fmt: skip
    for key, mode in modes.items():
        if getattr(tls, key) and tls.mode != mode:
            yield f"tls.{key}", f'is for `tls.mode = "{mode}"` only'


@rule("tls")
def one_authority(tls: Tls) -> Findings:
    if tls.staging and tls.directory_url:
        yield "tls.staging", "Let's Encrypt's staging service and `tls.directory_url` exclude each other"
    if tls.ca_bundle and not tls.directory_url and tls.mode == "letsencrypt":
        yield "tls.ca_bundle", "is for a private authority: it needs `tls.directory_url`"


@rule("hub", "tls")
def a_provided_certificate_fits(hub: Hub, tls: Tls) -> Findings:
    if tls.mode != "provided":
        return
    for key in ("certificate", "key"):
        if getattr(tls, key) is None:
            yield f"tls.{key}", 'needed when `tls.mode` is "provided"'
    if tls.certificate and tls.key:
        for problem in certificate_problems(tls.certificate, tls.key, hub.domain):
            yield "tls.certificate", problem
