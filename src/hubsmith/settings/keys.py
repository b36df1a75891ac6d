"""Keys by which the machines of a cluster know each other, and the pins that tell them apart."""

from __future__ import annotations

import hashlib

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
)


def new_private_key() -> str:
    """An Ed25519 private key (PEM, PKCS #8)."""
    key = Ed25519PrivateKey.generate()
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()


def load_private_key(text: str) -> Ed25519PrivateKey:
    """The key of a PEM text.

    :raises ValueError: it is none, or of another kind.
    """
    key = load_pem_private_key(text.encode(), None)
    if not isinstance(key, Ed25519PrivateKey):
        raise ValueError("not an Ed25519 private key")
    return key


def pin(key: Ed25519PublicKey) -> str:
    """By which others know a public key: ``sha256:`` and the digits of its SubjectPublicKeyInfo (as in RFC 7469)."""
    info = key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return f"sha256:{hashlib.sha256(info).hexdigest()}"


def pin_of(private_key: str) -> str:
    """The :func:`pin` of the public key that belongs to a private one (PEM)."""
    return pin(load_private_key(private_key).public_key())
