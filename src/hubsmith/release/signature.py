"""Signatures of releases, made with OpenSSH, because everyone who uses a cloud has `ssh-keygen`."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory

from hubsmith.errors import HubsmithError
from hubsmith.paths import config_dir
from hubsmith.run import CommandFailed, run

#: Namespace of the signatures. A signature made for another purpose is not accepted.
NAMESPACE = "hubsmith-release"
#: Identity for `ssh-keygen`, which requires one. Only the key matters.
IDENTITY = "release"


class NotSigned(HubsmithError):
    """A signature is missing or was not made with a trusted key."""


def default_key() -> Path:
    """Return the path of the default private key."""
    return config_dir() / "release_key"


def sign(file: Path, key: Path) -> Path:
    """Sign a file.

    :param key: private key, or the public key of one that an agent holds.
    :returns: path of the signature, `FILE.sig`.
    :raises HubsmithError: the key is missing or cannot be used.
    """
    if not key.is_file():
        raise HubsmithError(
            "the signing key is missing", where=str(key),
            hint=f"mkdir -p {key.parent} && ssh-keygen -t ed25519 -C hubsmith-release -f {key}",
        )  # fmt: skip
    try:
        run(["ssh-keygen", "-q", "-Y", "sign", "-f", key, "-n", NAMESPACE, file])
    except CommandFailed as error:
        raise HubsmithError(
            f"the key cannot sign: {error.stderr.strip()}", where=str(key),
            hint=f"ssh-add {key}   # if it has a passphrase; then --key {key}.pub",
        ) from error  # fmt: skip
    return file.with_name(f"{file.name}.sig")


def check(file: Path, keys: Path) -> str:
    """Verify that a file was signed with a trusted key.

    :param keys: file with trusted public keys, one per line.
    :returns: type and fingerprint of the key.
    :raises NotSigned: the signature is missing or was not made with a trusted key.
    :raises HubsmithError: the file of keys is missing.
    """
    signature = file.with_name(f"{file.name}.sig")
    if not signature.is_file():
        raise NotSigned("there is no signature", where=str(signature))
    if not keys.is_file():
        raise HubsmithError(
            "the file of trusted public keys is missing", where=str(keys),
            hint="hubsmith verify FOLDER --keys FILE   # ask the publisher of the release for it",
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
            raise NotSigned(f"not signed with a key in {keys}: {why}", where=str(signature)) from error
    return done.stdout.strip().partition(" with ")[2] or done.stdout.strip()
