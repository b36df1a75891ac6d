"""Manage the hub's certificate: select the best one, and get one from an ACME authority.

``select [--boot]``
    publish the best certificate for NGINX in ``/run/hubsmith/tls``, and reload NGINX if it changed;
``renew [--force] [--keep-trying]``
    with ``tls.mode = "letsencrypt"``, let certbot issue or renew the certificate if that is due, then select;
``status``
    print one JSON object for ``/usr/lib/hubsmith/status.d``.

``/run/hubsmith/tls`` is a symbolic link to a folder with ``fullchain.pem``, ``key.pem`` and ``headers.conf``, so that
NGINX never sees a partial change. Before the settings are applied (``/run/hubsmith/tls.json`` does not exist), the
certificate of the last boot is used, or else a self-signed one.
"""

from __future__ import annotations

import argparse
import fcntl
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from hubsmith.guest import files
from hubsmith.guest.status.answer import answer

SETTINGS = Path("/run/hubsmith/tls.json")
LIVE = Path("/run/hubsmith/tls")
FACTS = Path("/run/hubsmith/certificate.json")
STATE = Path("/var/lib/hubsmith/tls")
LETSENCRYPT = Path("/etc/letsencrypt")
WEBROOT = Path("/var/lib/letsencrypt/webroot")
#: Log of certbot, which each run overwrites.
LOG = Path("/var/log/letsencrypt/letsencrypt.log")

#: RFC 8555 directories of Let's Encrypt (letsencrypt.org/getting-started, letsencrypt.org/docs/staging-environment).
PRODUCTION = "https://acme-v02.api.letsencrypt.org/directory"
STAGING = "https://acme-staging-v02.api.letsencrypt.org/directory"
#: RFC 8555, section 6.7.
UNKNOWN_ACCOUNT = "urn:ietf:params:acme:error:accountDoesNotExist"
DAY = 86_400
#: Days before its expiry at which a provided certificate, or one whose renewal fails, counts as a problem.
WARN_DAYS = 14
#: Validity of the self-signed certificate. Browsers reject more than 825 days (support.apple.com/103769).
SELF_SIGNED_DAYS = 825
#: Seconds between failed attempts; the last value repeats. Let's Encrypt allows 5 failed validations per account, name
#: and hour (letsencrypt.org/docs/rate-limits). With these pauses, four attempts are in the first hour.
PAUSES = (60, 240, 900, 3600)
HSTS = 'add_header Strict-Transport-Security "max-age=31536000" always;\n'


@dataclass(frozen=True)
class Choice:
    """A certificate that NGINX can use.

    :ivar source: ``self-signed``, ``provided`` or ``acme``.
    :ivar trusted: whether browsers trust it, so that HSTS may be enabled.
    :ivar not_before: start of its validity, in seconds since the epoch.
    :ivar not_after: end of its validity, in seconds since the epoch.
    """

    source: str
    folder: str
    trusted: bool
    names: tuple[str, ...]
    issuer: str
    not_before: float
    not_after: float

    @property
    def renewal_due(self) -> bool:
        """Whether less than a third of the lifetime is left, as Let's Encrypt recommends."""
        return time.time() > self.not_after - (self.not_after - self.not_before) / 3


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON object. Empty if the file is missing or invalid."""
    try:
        found = json.loads(path.read_text())
    except (FileNotFoundError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def write(path: Path, text: str) -> None:
    """Write a file for root only, atomically and durably."""
    files.write(path, text, mode=0o600, durable=True)


def inspect(folder: Path, source: str, *, trusted: bool) -> Choice | None:
    """Read a folder with ``fullchain.pem`` and ``key.pem``; None if they are no matching pair.

    The match is checked, because the power may fail between two writes.
    """
    from cryptography import x509
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    try:
        leaf = x509.load_pem_x509_certificates((folder / "fullchain.pem").read_bytes())[0]
        key = load_pem_private_key(key_of(folder).read_bytes(), None)
    except (OSError, ValueError, TypeError):
        return None
    if key.public_key() != leaf.public_key():
        return None
    try:
        san = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        names = tuple(san.get_values_for_type(x509.DNSName))
    except x509.ExtensionNotFound:
        names = ()
    issuers = leaf.issuer.get_attributes_for_oid(x509.NameOID.COMMON_NAME)
    return Choice(
        source=source,
        folder=str(folder),
        trusted=trusted,
        names=names,
        issuer=str(issuers[0].value) if issuers else leaf.issuer.rfc4514_string(),
        not_before=leaf.not_valid_before_utc.timestamp(),
        not_after=leaf.not_valid_after_utc.timestamp(),
    )


def key_of(folder: Path) -> Path:
    """Return the private key's path. certbot uses another name."""
    certbots = folder / "privkey.pem"
    return certbots if certbots.exists() else folder / "key.pem"


def self_signed(names: tuple[str, ...]) -> Choice:
    """Return the machine's self-signed certificate. Create a new one if the names differ or it expires within 30 days.

    :param names: names in the certificate; empty accepts any names.
    """
    folder = STATE / "self-signed"
    found = inspect(folder, "self-signed", trusted=False)
    if found and found.not_after > time.time() + 30 * DAY and (not names or found.names == names):
        return found
    names = names or (os.uname().nodename,)
    new = STATE / "self-signed.new"
    shutil.rmtree(new, ignore_errors=True)
    new.mkdir(mode=0o700, parents=True)
    subprocess.run(
        [
            "/usr/bin/openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-noenc",
            "-days", str(SELF_SIGNED_DAYS), "-subj", f"/CN={names[0][:64]}",
            "-addext", "subjectAltName=" + ",".join(f"DNS:{name}" for name in names),
            "-addext", "basicConstraints=critical,CA:FALSE", "-addext", "extendedKeyUsage=serverAuth",
            "-keyout", str(new / "key.pem"), "-out", str(new / "fullchain.pem"),
        ],
        check=True, capture_output=True,
    )  # fmt: skip
    (new / "key.pem").chmod(0o600)
    os.sync()
    shutil.rmtree(folder, ignore_errors=True)
    new.rename(folder)
    made = inspect(folder, "self-signed", trusted=False)
    assert made is not None, "openssl made a pair that does not fit together"
    return made


def directory(settings: dict[str, Any]) -> str:
    """Return the URL of the ACME directory."""
    return settings["directory_url"] or (STAGING if settings["staging"] else PRODUCTION)


def lineage(settings: dict[str, Any]) -> str:
    """Return certbot's name for the certificate, which depends on the authority and the domain."""
    return f"{settings['domain']}-{hashlib.sha256(directory(settings).encode()).hexdigest()[:8]}"


def choose(settings: dict[str, Any]) -> Choice:
    """Return the best available certificate."""
    if not settings:
        last = read_json(STATE / "last.json")
        known = last and inspect(Path(last["folder"]), last["source"], trusted=last["trusted"])
        return known if known and known.not_after > time.time() else self_signed(())
    own = tuple(dict.fromkeys(name for name in (settings["domain"], settings["hostname"], "localhost") if name))
    found = None
    if settings["mode"] == "provided":
        folder = STATE / "provided"
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        write(folder / "fullchain.pem", settings["certificate"])
        write(folder / "key.pem", settings["key"])
        found = inspect(folder, "provided", trusted=True)
    elif settings["mode"] == "letsencrypt":
        found = inspect(LETSENCRYPT / "live" / lineage(settings), "acme", trusted=not settings["staging"])
        if found and settings["domain"] not in found.names:
            found = None
    return found if found and found.not_after > time.time() else self_signed(own)


def publish(choice: Choice) -> bool:
    """Point ``/run/hubsmith/tls`` to a certificate.

    :returns: whether the published certificate changed.
    """
    chain, key = Path(choice.folder, "fullchain.pem").read_text(), key_of(Path(choice.folder)).read_text()
    headers = HSTS if choice.trusted else ""
    digest = hashlib.sha256("\0".join((chain, key, headers)).encode()).hexdigest()[:16]
    folder = LIVE.with_name(f"tls.{digest}")
    if LIVE.is_symlink() and LIVE.readlink() == Path(folder.name):
        return False
    folder.mkdir(mode=0o700, exist_ok=True)
    write(folder / "fullchain.pem", chain)
    write(folder / "key.pem", key)
    write(folder / "headers.conf", headers)
    link = LIVE.with_name(".tls.new")
    link.unlink(missing_ok=True)
    link.symlink_to(folder.name)
    link.rename(LIVE)
    for old in LIVE.parent.glob("tls.*[0-9a-f]"):
        if old.is_dir() and len(old.name) == len(folder.name) and old != folder:
            shutil.rmtree(old)
    return True


def select(*, boot: bool = False, **attempt: Any) -> Choice:
    """Choose and publish a certificate, and record the facts for the status. Reload NGINX if the certificate changed.

    :param boot: do not reload NGINX, which waits for this command.
    :param attempt: ``failure``: the error of the last attempt to get a certificate (None: success). Without it, the
        recorded result is kept as long as the settings ask for the same certificate.
    """
    settings = read_json(SETTINGS)
    STATE.mkdir(mode=0o700, parents=True, exist_ok=True)
    with (STATE / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        choice = choose(settings)
        changed = publish(choice)
        if settings:
            write(STATE / "last.json", json.dumps(asdict(choice)))
        wanted = {key: settings.get(key) for key in ("mode", "domain", "staging", "directory_url")}
        known = read_json(FACTS)
        facts = {"failure": known.get("failure") if known.get("wanted") == wanted else None} | attempt
        write(FACTS, json.dumps({"wanted": wanted, "choice": asdict(choice), **facts}))
    if changed and not boot:
        subprocess.run(["/usr/bin/systemctl", "try-reload-or-restart", "nginx.service"], check=True)
    return choice


def words_of(output: str) -> str:
    """Extract the reason of a failure from certbot's output, preferably the authority's message."""
    lines = [line.strip() for line in output.splitlines()]
    problem: dict[str, str] = {}
    for line in lines:
        key, colon, rest = line.partition(":")
        if colon and key in ("Type", "Detail"):
            problem.setdefault(key, rest.strip())
    if "Detail" in problem:
        return f"{problem['Detail']} ({problem['Type']})" if "Type" in problem else problem["Detail"]
    for number, line in enumerate(lines):
        if line.startswith("An unexpected error occurred"):
            said = " ".join(part for part in lines[number + 1 : number + 3] if part and not part.startswith("Ask for"))
            return re.sub(r"^[\w.]+(Error|Exception): ", "", said)
    kept = [line for line in lines if line and not line.startswith(("Ask for help", "Saving debug log", "See the"))]
    return kept[-1] if kept else "certbot said nothing"


def accounts(settings: dict[str, Any]) -> Path:
    """Return the folder of certbot's accounts with the authority."""
    parts = urlsplit(directory(settings))
    return LETSENCRYPT / "accounts" / f"{parts.netloc}{parts.path}"


def certbot(settings: dict[str, Any]) -> str | None:
    """Let certbot issue a new certificate.

    :returns: the reason if that failed, else None.
    """
    done = run_certbot(settings)
    if done.returncode != 0 and accounts(settings).is_dir() and UNKNOWN_ACCOUNT in log():
        # The authority has lost the account. certbot registers a new one only if it has none.
        print(f"{directory(settings)} does not know the account any more: registering again", file=sys.stderr)
        shutil.rmtree(accounts(settings))
        done = run_certbot(settings)
    return None if done.returncode == 0 else words_of(f"{done.stdout}\n{done.stderr}")


def log() -> str:
    """Return certbot's log; empty if it ended before it wrote one."""
    return LOG.read_text(errors="replace") if LOG.exists() else ""


def run_certbot(settings: dict[str, Any]) -> subprocess.CompletedProcess[str]:
    """Run certbot, which requests a new certificate unconditionally."""
    bundle = STATE / "ca-bundle.pem"
    environment = {"PATH": "/usr/sbin:/usr/bin", "LC_ALL": "C.UTF-8", "HOME": "/nonexistent"}
    if settings["ca_bundle"]:
        write(bundle, settings["ca_bundle"])
        environment["REQUESTS_CA_BUNDLE"] = str(bundle)
    return subprocess.run(
        [
            "/usr/bin/certbot", "certonly", "--non-interactive", "--agree-tos", "--no-eff-email",
            "--email", settings["email"], "--server", directory(settings), "--cert-name", lineage(settings),
            "--domain", settings["domain"], "--webroot", "--webroot-path", str(WEBROOT), "--key-type", "ecdsa",
            # `renew` has decided that it is due. certbot must not skip a name that it knows from another authority.
            "--force-renewal", "--max-log-backups", "5",
        ],
        env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip


def renew(*, force: bool) -> int:
    """Issue or renew the certificate if that is due. Waits for a concurrent run first.

    :returns: 0; 1 if the authority did not issue a certificate.
    """
    STATE.mkdir(mode=0o700, parents=True, exist_ok=True)
    with (STATE / "renew.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        return renew_alone(force=force)


def renew_alone(*, force: bool) -> int:
    """Issue or renew the certificate if that is due, while holding the lock."""
    settings = read_json(SETTINGS)
    choice = select()
    if settings.get("mode") != "letsencrypt" or (choice.source == "acme" and not choice.renewal_due and not force):
        return 0
    reason = certbot(settings)
    if reason:
        select(failure={"at": time.time(), "why": reason})
        print(f"no certificate for {settings['domain']} from {directory(settings)}: {reason}", file=sys.stderr)
        return 1
    choice = select(failure=None)
    if choice.source != "acme":
        print("certbot reported success, but its certificate cannot be used", file=sys.stderr)
        return 1
    print(f"certificate for {settings['domain']} by {choice.issuer}, valid until {day(choice.not_after)}")
    return 0


def keep_trying() -> int:
    """Repeat :func:`renew` until it succeeds."""
    attempt = 0
    while renew(force=False) != 0:
        time.sleep(PAUSES[min(attempt, len(PAUSES) - 1)])
        attempt += 1
    return 0


def day(moment: float) -> str:
    """Format a time as an ISO date."""
    return time.strftime("%Y-%m-%d", time.gmtime(moment))


def status() -> dict[str, str]:
    """Return the state of the certificate and the reason, for the status page."""
    facts = read_json(FACTS)
    if not facts:
        return {"state": "starting", "why": "no certificate has been chosen yet"}
    choice, wanted, failure = facts["choice"], facts["wanted"], facts["failure"]
    left = choice["not_after"] - time.time()
    until = f"valid until {day(choice['not_after'])}"
    tried = ""
    if failure:
        at = time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(failure["at"]))
        tried = f"; the last attempt ({at}) failed: {failure['why']}; it is tried again by itself"
    if wanted["mode"] == "letsencrypt" and choice["source"] != "acme":
        if not failure:
            why = f"waiting for the first certificate for {wanted['domain']}; self-signed meanwhile: browsers warn"
            return {"state": "starting", "why": why}
        return {"state": "degraded", "why": f"self-signed certificate in use: browsers warn{tried}"}
    if left <= 0:
        return {"state": "failed", "why": f"the certificate expired on {day(choice['not_after'])}{tried}"}
    if choice["source"] == "self-signed":
        return {"state": "ready", "why": f"self-signed certificate: browsers warn; {until}"}
    kind = "provided certificate" if choice["source"] == "provided" else f"issued by {choice['issuer']}"
    if choice["source"] == "acme" and wanted["staging"]:
        kind += " (staging: browsers warn)"
    if left < WARN_DAYS * DAY and (choice["source"] == "provided" or failure):
        return {"state": "degraded", "why": f"{kind}, {until}: less than {WARN_DAYS} days are left{tried}"}
    return {"state": "ready", "why": f"{kind}, {until}{tried}"}


def main() -> int:
    """Run a command; see the module's docstring."""
    parser = argparse.ArgumentParser(prog="hubsmith-certificate", description="The certificate of the hub.")
    verbs = parser.add_subparsers(dest="verb", required=True)
    selecting = verbs.add_parser("select", help="publish the best available certificate")
    selecting.add_argument("--boot", action="store_true", help="do not reload NGINX, which starts afterwards")
    forcible = verbs.add_parser("renew", help="issue or renew by ACME if that is due")
    forcible.add_argument("--force", action="store_true", help="even if it is not due (after a revocation)")
    verbs.add_parser("status", help="print the state as JSON")
    forcible.add_argument(
        "--keep-trying", action="store_true", help="until it succeeds: after 1, 4, 15 minutes, then hourly"
    )
    args = parser.parse_args()
    if args.verb == "status":
        answer(**status())
        return 0
    if args.verb == "renew":
        return keep_trying() if args.keep_trying else renew(force=args.force)
    select(boot=args.boot)
    return 0


if __name__ == "__main__":
    sys.exit(main())
