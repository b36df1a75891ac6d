"""What a single value of the settings must look like.

Each check returns the value or raises :class:`ValueError` with one sentence that never repeats the value: some of
them are secrets, and the sentences are also shown on the public status page.
"""

from __future__ import annotations

import base64
import binascii
import ipaddress
import re
import struct
from datetime import UTC, datetime
from urllib.parse import urlsplit

#: Accounts of Debian 13 (base-passwd, systemd and the packages of the images), names that cloud-init gives to the
#: operator's account, and names that hubsmith uses itself.
RESERVED_USERS = frozenset({
    "root", "daemon", "bin", "sys", "sync", "games", "man", "lp", "mail", "news", "uucp", "proxy", "www-data",
    "backup", "list", "irc", "nobody", "sshd", "messagebus", "polkitd", "uuidd", "tcpdump", "chrony", "ntp",
    "ntpsec", "statd", "rpc", "munge", "slurm", "ceph", "docker", "dockerremap", "etcd", "postgres", "redis",
    "sudo", "admin", "adm", "wheel", "staff", "shadow", "users", "nogroup", "disk", "tty", "kmem", "debian",
    "ubuntu", "exouser", "centos", "rocky", "cloud-user", "ec2-user", "operator", "hubsmith", "hubusers",
    "hubadmins", "jupyter", "jupyterhub", "hub", "shared",
})  # fmt: skip
USER_NAME = re.compile(r"[a-z][a-z0-9_-]{0,31}")
_LABEL = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")

_HASHES = (
    re.compile(r"\$y\$[./A-Za-z0-9]{1,16}\$[./A-Za-z0-9]{1,86}\$[./A-Za-z0-9]{43}"),
    re.compile(r"\$6\$(rounds=[1-9]\d{3,8}\$)?[./A-Za-z0-9]{1,16}\$[./A-Za-z0-9]{86}"),
    re.compile(r"\$2[aby]\$(0[4-9]|[12]\d|3[01])\$[./A-Za-z0-9]{53}"),
)
_OTHER_HASHES = {"$1$": "MD5", "$5$": "SHA-256", "$7$": "scrypt", "$gy$": "gost-yescrypt", "$argon2": "Argon2"}
MAKE_A_HASH = "`hubsmith settings hash-password` makes one"

SSH_KEY_TYPES = (
    "ssh-ed25519",
    "ssh-rsa",
    "ecdsa-sha2-nistp256",
    "ecdsa-sha2-nistp384",
    "ecdsa-sha2-nistp521",
    "sk-ssh-ed25519@openssh.com",
    "sk-ecdsa-sha2-nistp256@openssh.com",
)


def user_name(value: str) -> str:
    """A Unix name that no system account has."""
    if not USER_NAME.fullmatch(value):
        raise ValueError(
            "not a user name: a lower-case letter, then lower-case letters, digits, `-` and `_`; at most 32 characters"
        )
    if value in RESERVED_USERS or value.startswith("systemd-"):
        raise ValueError("the system keeps this name for itself")
    return value


def domain(value: str) -> str:
    """A DNS name in lower case, without scheme, port, path, wildcard or final dot."""
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
    """A plain address, ``local@domain``."""
    local, at, host = value.rpartition("@")
    if not at or not re.fullmatch(r"[A-Za-z0-9.!#$%&'*+/=?^_`{|}~-]{1,64}", local):
        raise ValueError("not an e-mail address")
    try:
        domain(host.lower())
    except ValueError:
        raise ValueError("not an e-mail address: what follows the @ is not a domain name") from None
    return value


def https_url(value: str) -> str:
    """A URL with the scheme ``https`` and a host, without user name, password or fragment."""
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


def one_line(value: str) -> str:
    """Text without line breaks and other control characters."""
    if any(ord(character) < 32 or ord(character) == 127 for character in value):
        raise ValueError("one line of plain text is wanted, without control characters")
    return value


def volume(value: str) -> str:
    """The serial number of a disk, or ``auto``."""
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}", value):
        raise ValueError('not the serial number of a volume: letters, digits, `-`, `.` and `_`; or "auto"')
    return value


def private_network(value: str) -> str:
    """A private IPv4 network, such as ``10.77.0.0/24``."""
    try:
        network = ipaddress.IPv4Network(value)
    except ValueError:
        raise ValueError("not an IPv4 network: write its first address and its size, such as 10.77.0.0/24") from None
    if not network.is_private or not 8 <= network.prefixlen <= 30:
        raise ValueError("a private network is wanted: of 10.0.0.0/8, 172.16.0.0/12 or 192.168.0.0/16")
    return value


def address(value: str) -> str:
    """An IPv4 address."""
    try:
        return str(ipaddress.IPv4Address(value))
    except ValueError:
        raise ValueError("not an IPv4 address") from None


def source_network(value: str) -> str:
    """An IPv4 address, or a network such as ``192.0.2.0/28``."""
    try:
        network = ipaddress.IPv4Network(value)
    except ValueError:
        raise ValueError("neither an IPv4 address nor a network (its first address and its size)") from None
    if network.prefixlen < 8:
        raise ValueError("a network as large as this is nearly everybody")
    return str(network)


def cluster_secret(value: str) -> str:
    """Enough random text that nobody guesses it."""
    if not re.fullmatch(r"[\x21-\x7e]{32,128}", value):
        raise ValueError("32 to 128 random characters are wanted, such as from `openssl rand -hex 32`")
    return value


def cluster_key(value: str) -> str:
    """The manager's private key."""
    from cryptography.exceptions import UnsupportedAlgorithm

    from hubsmith.settings import keys

    try:
        keys.load_private_key(value)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        raise ValueError("not an Ed25519 private key in PEM: `openssl genpkey -algorithm ed25519` makes one") from None
    return value


def pin(value: str) -> str:
    """By which the manager's public key is known."""
    if not re.fullmatch(r"sha256:[0-9a-f]{64}", value):
        raise ValueError("not a pin: `sha256:` and 64 hexadecimal digits; `hubsmith settings cluster` makes one")
    return value


def image_reference(value: str) -> str:
    """The name of a container image, with a tag or a digest."""
    part = r"[a-z0-9]+(?:[._-]+[a-z0-9]+)*"
    host = r"(?:[A-Za-z0-9.-]+(?::\d+)?/)?"
    if not re.fullmatch(rf"{host}{part}(?:/{part})*(?::[\w][\w.-]{{0,127}})?(?:@sha256:[0-9a-f]{{64}})?", value):
        raise ValueError("not the name of a container image, such as registry.example.com/notebook:2026-09-01")
    return value


def password_hash(value: str) -> str:
    """A hash in a format of crypt(5) that Debian's PAM verifies and that is still thought strong."""
    if any(pattern.fullmatch(value) for pattern in _HASHES):
        return value
    for prefix, name in _OTHER_HASHES.items():
        if value.startswith(prefix):
            raise ValueError(f"{name} hashes are not taken, only yescrypt, bcrypt and SHA-512; {MAKE_A_HASH}")
    if value.startswith(("$y$", "$6$", "$2")):
        raise ValueError(f"the hash is not complete; {MAKE_A_HASH}")
    raise ValueError(f"not a password hash (a plain password must never be in this file); {MAKE_A_HASH}")


def _ssh_field(blob: bytes, offset: int) -> tuple[bytes, int]:
    """One length-prefixed field of an SSH key blob (RFC 4251, section 5) and the offset of the next."""
    (length,) = struct.unpack_from(">I", blob, offset)
    end = offset + 4 + length
    if end > len(blob):
        raise struct.error("truncated")
    return blob[offset + 4 : end], end


def ssh_key(value: str) -> str:
    """One line of an ``authorized_keys`` file without options: type, base64, comment."""
    if "PRIVATE KEY" in value:
        raise ValueError("this is a private key: keep it to yourself, and write the line of the `.pub` file here")
    if any(ord(character) < 32 for character in value):
        raise ValueError("one key in one line is wanted")
    kind, _, rest = value.strip().partition(" ")
    if kind not in SSH_KEY_TYPES:
        raise ValueError(f"not an SSH public key: it must begin with one of {', '.join(SSH_KEY_TYPES)}")
    try:
        blob = base64.b64decode(rest.split(" ", 1)[0], validate=True)
        inner, offset = _ssh_field(blob, 0)
        if inner.decode("ascii", "replace") != kind:
            raise ValueError("the SSH key is not of the type that it begins with")
        if kind == "ssh-rsa":
            _, offset = _ssh_field(blob, offset)
            modulus, offset = _ssh_field(blob, offset)
            if int.from_bytes(modulus).bit_length() < 2048:
                raise ValueError("RSA keys must have 2048 bits or more")
        else:
            _, offset = _ssh_field(blob, offset)
    except (binascii.Error, struct.error):
        raise ValueError("the SSH key is damaged or cut off") from None
    return value.strip()


# `cryptography` takes long to import and only TLS needs it: the functions that do import it themselves.


def certificates(value: str) -> str:
    """One or more PEM certificates."""
    from cryptography import x509

    try:
        x509.load_pem_x509_certificates(value.encode())
    except ValueError:
        raise ValueError("not a PEM certificate (`-----BEGIN CERTIFICATE-----` …)") from None
    return value


def private_key(value: str) -> str:
    """A PEM private key without a pass phrase."""
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    try:
        load_pem_private_key(value.encode(), password=None)
    except TypeError:
        raise ValueError("the key has a pass phrase; `openssl pkey -in KEY -out PLAIN` takes it off") from None
    except (ValueError, UnsupportedAlgorithm):
        raise ValueError("not a PEM private key (`-----BEGIN PRIVATE KEY-----` …)") from None
    return value


def certificate_problems(certificate: str, key: str, domain: str | None) -> list[str]:
    """What is wrong with a certificate together with its key: expired, another key, another name."""
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
