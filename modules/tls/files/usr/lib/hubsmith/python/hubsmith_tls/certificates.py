"""The hub's certificate: choose the best one there is, and get one from an ACME authority.

``select [--boot]``
    publish the best certificate for NGINX under ``/run/hubsmith/tls`` and reload NGINX if it changed;
``renew [--force] [--keep-trying]``
    with ``tls.mode = "letsencrypt"``, have certbot issue or renew when that is due; then select;
``status``
    one JSON object for ``/usr/lib/hubsmith/status.d``.

``/run/hubsmith/tls`` is a symbolic link to a folder with ``fullchain.pem``, ``key.pem`` and ``headers.conf``: NGINX
never sees half of a change. Before the settings are applied (``/run/hubsmith/tls.json`` is not there yet), the choice
of the last boot is taken again, else a self-signed certificate.
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
#: What certbot writes anew at each run.
LOG = Path("/var/log/letsencrypt/letsencrypt.log")

#: RFC 8555 directories of Let's Encrypt (letsencrypt.org/getting-started, letsencrypt.org/docs/staging-environment).
PRODUCTION = "https://acme-v02.api.letsencrypt.org/directory"
STAGING = "https://acme-staging-v02.api.letsencrypt.org/directory"
#: RFC 8555, section 6.7.
UNKNOWN_ACCOUNT = "urn:ietf:params:acme:error:accountDoesNotExist"
DAY = 86_400
#: Days before its end from which a certificate that others renew counts as a problem.
WARN_DAYS = 14
#: The self-signed one: browsers refuse leaf certificates of more than 825 days (support.apple.com/103769).
SELF_SIGNED_DAYS = 825
#: Seconds after a failed attempt; the last one for all that follow. Let's Encrypt allows 5 failed validations per
#: account, name and hour (letsencrypt.org/docs/rate-limits): four fall into the first hour.
PAUSES = (60, 240, 900, 3600)
HSTS = 'add_header Strict-Transport-Security "max-age=31536000" always;\n'


@dataclass(frozen=True)
class Choice:
    """A certificate that NGINX can use.

    :ivar source: ``self-signed``, ``provided`` or ``acme``.
    :ivar trusted: browsers trust it: HSTS may be promised.
    :ivar not_before: start of validity, seconds since the epoch; ``not_after`` its end.
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
        """Less than a third of the lifetime is left: the moment that Let's Encrypt recommends."""
        return time.time() > self.not_after - (self.not_after - self.not_before) / 3


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object, or an empty one when there is none."""
    try:
        found = json.loads(path.read_text())
    except (FileNotFoundError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def write(path: Path, text: str) -> None:
    """Write a file of root's alone in one step, through a power cut, too."""
    files.write(path, text, mode=0o600, durable=True)


def inspect(folder: Path, source: str, *, trusted: bool) -> Choice | None:
    """Read a folder with ``fullchain.pem`` and ``key.pem``; None when it has no usable pair.

    Power can fail between two writes, so the pair is checked and not believed.
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
    """The private key: certbot names it otherwise."""
    certbots = folder / "privkey.pem"
    return certbots if certbots.exists() else folder / "key.pem"


def self_signed(names: tuple[str, ...]) -> Choice:
    """The machine's own certificate, made anew when its names change or it ends within 30 days.

    :param names: what it must be valid for; empty when any will do.
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
    """The ACME directory that the settings name."""
    return settings["directory_url"] or (STAGING if settings["staging"] else PRODUCTION)


def lineage(settings: dict[str, Any]) -> str:
    """certbot's name for the certificate: another authority or another domain is another certificate."""
    return f"{settings['domain']}-{hashlib.sha256(directory(settings).encode()).hexdigest()[:8]}"


def choose(settings: dict[str, Any]) -> Choice:
    """The best certificate that there is."""
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
    """Make ``/run/hubsmith/tls`` the chosen one; True when that is a change."""
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
    """Choose, publish, note the facts; NGINX is reloaded if it runs and the certificate is another one.

    :param boot: NGINX waits for this to end, so it must not be told.
    :param attempt: ``failure``: how the last attempt to get a certificate ended (None: well). Without it, what is
        known stays known as long as the settings ask for the same certificate.
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
    """What certbot's output says about the reason: the authority's own words when it gave any."""
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
    """Where certbot keeps its accounts with the authority."""
    parts = urlsplit(directory(settings))
    return LETSENCRYPT / "accounts" / f"{parts.netloc}{parts.path}"


def certbot(settings: dict[str, Any]) -> str | None:
    """Have a new certificate issued; returns the reason when that failed."""
    done = run_certbot(settings)
    if done.returncode != 0 and accounts(settings).is_dir() and UNKNOWN_ACCOUNT in log():
        # The authority has lost its accounts. certbot makes a new one only when it knows of none.
        print(f"{directory(settings)} does not know the account any more: registering again", file=sys.stderr)
        shutil.rmtree(accounts(settings))
        done = run_certbot(settings)
    return None if done.returncode == 0 else words_of(f"{done.stdout}\n{done.stderr}")


def log() -> str:
    """What certbot wrote to its log; empty when it ended too early to write one."""
    return LOG.read_text(errors="replace") if LOG.exists() else ""


def run_certbot(settings: dict[str, Any]) -> subprocess.CompletedProcess[str]:
    """Have certbot ask for a new certificate, now."""
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
            # Whether it is due was decided here; a name that certbot knows under another server must not stop it.
            "--force-renewal", "--max-log-backups", "5",
        ],
        env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip


def renew(*, force: bool) -> int:
    """Issue or renew when that is due; waits for another run to end, which may have done it.

    :returns: 1 when the authority did not give one.
    """
    STATE.mkdir(mode=0o700, parents=True, exist_ok=True)
    with (STATE / "renew.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        return renew_alone(force=force)


def renew_alone(*, force: bool) -> int:
    """The same, when no other run is at work."""
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
    """Renew, again and again until it is done."""
    attempt = 0
    while renew(force=False) != 0:
        time.sleep(PAUSES[min(attempt, len(PAUSES) - 1)])
        attempt += 1
    return 0


def day(moment: float) -> str:
    """A date for people."""
    return time.strftime("%Y-%m-%d", time.gmtime(moment))


def status() -> dict[str, str]:
    """The state of the certificate and why, for the status page."""
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
    """The command line; see the top of this file."""
    parser = argparse.ArgumentParser(prog="hubsmith-certificate", description="The certificate of the hub.")
    verbs = parser.add_subparsers(dest="verb", required=True)
    selecting = verbs.add_parser("select", help="publish the best certificate that there is")
    selecting.add_argument("--boot", action="store_true", help="do not tell NGINX: it starts afterwards")
    forcible = verbs.add_parser("renew", help="issue or renew by ACME when that is due")
    forcible.add_argument("--force", action="store_true", help="also when it is not due (after a revocation)")
    verbs.add_parser("status", help="print the state as JSON")
    forcible.add_argument("--keep-trying", action="store_true", help="until it is done: 1, 4, 15 minutes, then hourly")
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
