"""Private keys of a deployment, and pins (fingerprints) of their public keys."""

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
    """Generate an Ed25519 private key (PEM, PKCS #8)."""
    key = Ed25519PrivateKey.generate()
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()


def load_private_key(text: str) -> Ed25519PrivateKey:
    """Load an Ed25519 private key from PEM.

    :raises ValueError: the text is not a private key, or the key is of another type.
    """
    key = load_pem_private_key(text.encode(), None)
    if not isinstance(key, Ed25519PrivateKey):
        raise ValueError("not an Ed25519 private key")
    return key


def pin(key: Ed25519PublicKey) -> str:
    """Return the pin of a public key: ``sha256:`` and the hex digest of its SubjectPublicKeyInfo (as in RFC 7469)."""
    info = key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return f"sha256:{hashlib.sha256(info).hexdigest()}"


def pin_of(private_key: str) -> str:
    """Return the :func:`pin` of a private key's public key.

    :param private_key: PEM.
    """
    return pin(load_private_key(private_key).public_key())
