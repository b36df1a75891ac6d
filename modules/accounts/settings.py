"""Settings of the users: the tables `users`, and the admins of the hub."""

from __future__ import annotations

import base64
import binascii
import re
import struct
from typing import Annotated

from pydantic import AfterValidator

from hubsmith.settings.scalars import Label, Secret, Str
from hubsmith.settings.tables import Field, Findings, Table, fact, rule, table

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
    """Validate a Unix name that is not reserved for a system account."""
    if not USER_NAME.fullmatch(value):
        raise ValueError(
            "not a user name: a lower-case letter, then lower-case letters, digits, `-` and `_`; at most 32 characters"
        )
    if value in RESERVED_USERS or value.startswith("systemd-"):
        raise ValueError("the system keeps this name for itself")
    return value


def password_hash(value: str) -> str:
    """Validate a crypt(5) hash in a format that Debian's PAM verifies and that is still considered strong."""
    if any(pattern.fullmatch(value) for pattern in _HASHES):
        return value
    for prefix, name in _OTHER_HASHES.items():
        if value.startswith(prefix):
            raise ValueError(f"{name} hashes are not taken, only yescrypt, bcrypt and SHA-512; {MAKE_A_HASH}")
    if value.startswith(("$y$", "$6$", "$2")):
        raise ValueError(f"the hash is not complete; {MAKE_A_HASH}")
    raise ValueError(f"not a password hash (a plain password must never be in this file); {MAKE_A_HASH}")


def _ssh_field(blob: bytes, offset: int) -> tuple[bytes, int]:
    """Return a length-prefixed field of an SSH key blob (RFC 4251, section 5), and the offset of the next field."""
    (length,) = struct.unpack_from(">I", blob, offset)
    end = offset + 4 + length
    if end > len(blob):
        raise struct.error("truncated")
    return blob[offset + 4 : end], end


def ssh_key(value: str) -> str:
    """Validate a line of an ``authorized_keys`` file without options: type, base64, comment."""
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


#: The keys of which each user needs one to come in. None of them: people log in with accounts of another place.
WAYS_IN = fact("ways_in", default=("ssh_keys",))

UserName = Annotated[Str, AfterValidator(user_name), Label("user name")]
PasswordHash = Annotated[Str, AfterValidator(password_hash), Label("password hash"), Secret()]
SshKey = Annotated[Str, AfterValidator(ssh_key), Label("SSH public key")]


@table("hub")
class Hub(Table):
    admins: tuple[UserName, ...] = Field(
        default=(),
        description="Users who may use JupyterHub's admin page and write to the shared folder. Each must be in "
        "`users`. An admin of the hub is not root on the machine.",
        examples=[["alice"]],
    )


@table("users", many=True)
class User(Table):
    """A user of the hub. A user who is removed from the settings is locked out; the home is kept."""

    name: UserName = Field(
        description="The Unix name, and the name on the hub: a lower-case letter, then lower-case letters, digits, `-` "
        "and `_`; at most 32 characters.",
        examples=["alice"],
    )
    password_hash: PasswordHash | None = Field(
        default=None,
        repr=False,
        description="Password hash for the hub's login: yescrypt (`$y$`), bcrypt (`$2b$`) or SHA-512 (`$6$`). "
        "`hubsmith settings hash-password` makes one. Without a hash the user can log in by SSH only.",
        examples=["$2b$12$…"],
    )
    ssh_keys: tuple[SshKey, ...] = Field(
        default=(),
        description="Public keys that may log in by SSH. SSH takes no passwords: on an image without a hub, each user "
        "needs a key.",
        examples=[["ssh-ed25519 AAAA… alice@laptop"]],
    )


@rule("users")
def names_are_unique(users: tuple[User, ...]) -> Findings:
    first: dict[str, int] = {}
    for index, user in enumerate(users):
        if user.name in first:
            yield f"users[{index}].name", f"the same name as `users[{first[user.name]}]`"
        first.setdefault(user.name, index)


@rule("users", facts=("ways_in",))
def every_user_can_log_in(users: tuple[User, ...], ways_in: tuple[str, ...]) -> Findings:
    for index, user in enumerate(users):
        if ways_in and not any(getattr(user, key) for key in ways_in):
            useless = "" if "password_hash" in ways_in else "; this image has no hub, and SSH takes no passwords"
            yield (
                f"users[{index}]",
                f"the user has no way in: give {' or '.join(f'`{key}`' for key in ways_in)}{useless}",
            )


@rule("hub", "users")
def admins_are_users(hub: Hub, users: tuple[User, ...]) -> Findings:
    names = {user.name for user in users}
    for index, name in enumerate(hub.admins):
        if name not in names:
            yield f"hub.admins[{index}]", "an admin who is not among `users`"
        elif name in hub.admins[:index]:
            yield f"hub.admins[{index}]", "the same name twice"
