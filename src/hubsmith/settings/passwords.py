"""One-time passwords, and password hashes for ``users.password_hash``."""

from __future__ import annotations

import secrets

import bcrypt

from hubsmith.errors import HubsmithError

#: Minimum length. Shorter passwords are too easy to guess for a public login (NIST SP 800-63B asks for 8 or more).
SHORTEST = 8
#: Maximum length in bytes. bcrypt would silently ignore the rest.
LONGEST_BYTES = 72
#: A one-time password has 12 characters of 5 bits each, in groups that are easy to type.
_ALPHABET = "abcdefghjkmnpqrstuvwxyz23456789"
_GROUPS, _GROUP = 3, 4


def one_time_password() -> str:
    """Generate a one-time password."""
    return "-".join("".join(secrets.choice(_ALPHABET) for _ in range(_GROUP)) for _ in range(_GROUPS))


def hash_password(password: str, *, cost: int = 12) -> str:
    """Hash a password with bcrypt, in the crypt(5) format that Debian's PAM verifies.

    :param cost: binary logarithm of the number of rounds, 4 to 31. Each step doubles the time of a login.
    :raises HubsmithError: the password is too short or too long.
    """
    if len(password) < SHORTEST:
        raise HubsmithError(f"the password is too short: take at least {SHORTEST} characters")
    if len(password.encode()) > LONGEST_BYTES or "\0" in password:
        raise HubsmithError(f"the password is too long for bcrypt: at most {LONGEST_BYTES} bytes, and no NUL")
    return bcrypt.hashpw(password.encode(), bcrypt.gensalt(cost)).decode()
