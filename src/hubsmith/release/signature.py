"""Signatures of releases: OpenSSH's, since everybody who uses a cloud has `ssh-keygen`."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory

from hubsmith.errors import HubsmithError
from hubsmith.paths import config_dir
from hubsmith.run import CommandFailed, run

#: What the signatures are for: one that was made for something else does not count.
NAMESPACE = "hubsmith-release"
#: Who signs, to `ssh-keygen`; the key is what counts.
IDENTITY = "release"


class NotSigned(HubsmithError):
    """A signature is missing, or is not by a key that is trusted."""


def default_key() -> Path:
    """The private key of whoever makes releases."""
    return config_dir() / "release_key"


def sign(file: Path, key: Path) -> Path:
    """Sign a file.

    :param key: a private key, or the public one of a key that an agent holds.
    :returns: the signature, `FILE.sig`.
    :raises HubsmithError: there is no key, or it cannot be used.
    """
    if not key.is_file():
        raise HubsmithError(
            "there is no key to sign with", where=str(key),
            mend=f"mkdir -p {key.parent} && ssh-keygen -t ed25519 -C hubsmith-release -f {key}",
        )  # fmt: skip
    try:
        run(["ssh-keygen", "-q", "-Y", "sign", "-f", key, "-n", NAMESPACE, file])
    except CommandFailed as error:
        raise HubsmithError(
            f"the key cannot sign: {error.stderr.strip()}", where=str(key),
            mend=f"ssh-add {key}   # if it has a passphrase; then --key {key}.pub",
        ) from error  # fmt: skip
    return file.with_name(f"{file.name}.sig")


def check(file: Path, keys: Path) -> str:
    """Whether a file's signature is by one of some keys.

    :param keys: public keys, one in a line.
    :returns: the kind and the fingerprint of the key that signed.
    :raises NotSigned: it is not, or there is none.
    :raises HubsmithError: there are no keys to compare with.
    """
    signature = file.with_name(f"{file.name}.sig")
    if not signature.is_file():
        raise NotSigned("there is no signature", where=str(signature))
    if not keys.is_file():
        raise HubsmithError(
            "there are no public keys to check the signature with", where=str(keys),
            mend="hubsmith verify FOLDER --keys FILE   # of whoever made the release",
        )  # fmt: skip
    trusted = [line.strip() for line in keys.read_text(encoding="utf-8").splitlines() if line.strip()]
    lines = [f'{IDENTITY} namespaces="{NAMESPACE}" {line}\n' for line in trusted if not line.startswith("#")]
    with TemporaryDirectory(prefix="hubsmith-signers-") as scratch:
        allowed = Path(scratch) / "allowed_signers"
        allowed.write_text("".join(lines), encoding="utf-8")
        try:
            done = run(
                ["ssh-keygen", "-Y", "verify", "-f", allowed, "-I", IDENTITY, "-n", NAMESPACE, "-s", signature],
                stdin=file.read_text(encoding="utf-8"),
            )
        except (CommandFailed, UnicodeDecodeError) as error:
            why = error.stderr.strip() if isinstance(error, CommandFailed) else str(error)
            raise NotSigned(f"the signature is not by a key of {keys}: {why}", where=str(signature)) from error
    return done.stdout.strip().partition(" with ")[2] or done.stdout.strip()
