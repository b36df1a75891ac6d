"""`hubsmith servers`: starts, stops and lists users' notebook servers, for example before a class."""

from __future__ import annotations

import http.client
import json
import sys
import time
from collections.abc import Callable, Iterable
from typing import Any
from urllib.parse import quote

from hubsmith.errors import HubsmithError
from hubsmith.guest.layout import Layout
from hubsmith.guest.unix_http import UnixConnection

#: Socket of configurable-http-proxy, through which root and NGINX reach the hub, whatever its network namespace.
PROXY = "/run/configurable-http-proxy/public.sock"
#: Seconds between two queries, and the timeout for an answer of the hub.
LOOK, PATIENCE = 2.0, 60.0


class Api(UnixConnection):
    """Connection to the hub's REST API with the token of the service `operator`."""

    def __init__(self, path: str, token: str) -> None:
        super().__init__(path, timeout=PATIENCE)
        self._token = token

    def ask(self, method: str, what: str) -> tuple[int, Any]:
        """Send a request and return the answer's status code and JSON (None if it has no JSON).

        :raises HubsmithError: the hub does not answer.
        """
        try:
            self.request(method, f"/hub/api/{what}", headers={"Authorization": f"token {self._token}"})
            answer = self.getresponse()
            body = answer.read()
        except (OSError, http.client.HTTPException) as error:
            self.close()
            raise HubsmithError(f"the hub does not answer: {error}", hint="hubsmith status") from error
        return answer.status, json.loads(body) if body.startswith((b"{", b"[")) else None


def connect(layout: Layout) -> Api:
    """Return a connection to this machine's hub.

    :raises HubsmithError: the hub is not started.
    """
    secrets = json.loads((layout.kept / "secrets.json").read_text())
    if not (path := layout.at(PROXY)).exists():
        raise HubsmithError("the hub is not started", hint="hubsmith status")
    return Api(str(path), secrets["operator_token"])


def states(api: Api) -> dict[str, str]:
    """Return the state of each user's server: `ready`, `starting`, `stopping` or `stopped`."""
    found: dict[str, str] = {}
    while True:
        code, page = api.ask("GET", f"users?limit=200&offset={len(found)}")
        if code != 200:
            raise HubsmithError(f"the hub answers {code}", hint="journalctl --unit jupyterhub")
        for user in page:
            server = user["servers"].get("")
            if server is None:
                found[user["name"]] = "stopped"
            else:
                found[user["name"]] = "ready" if server["ready"] else str(server["pending"] or "stopped")
        if len(page) < 200:
            return {name: {"spawn": "starting", "stop": "stopping"}.get(state, state) for name, state in found.items()}


def chosen(api: Api, names: Iterable[str]) -> dict[str, str]:
    """Return the states of some users' servers. No names select all users.

    :raises HubsmithError: a user is unknown.
    """
    every = states(api)
    if unknown := [name for name in names if name not in every]:
        raise HubsmithError(f"the hub does not know {', '.join(unknown)}")
    return {name: every[name] for name in names} or every


def change(
    api: Api, names: Iterable[str], wanted: str, *, timeout: float, report: Callable[[str], None] = lambda line: None
) -> dict[str, str]:
    """Start or stop servers and wait. As many start in parallel as the hub allows.

    :param wanted: `ready` or `stopped`.
    :param timeout: seconds for all servers.
    :param report: called with a line whenever the counts change.
    :returns: for each server that did not reach the state, the reason.
    """
    method, under_way = ("POST", "starting") if wanted == "ready" else ("DELETE", "stopping")
    asked: set[str] = set()
    failed: dict[str, str] = {}
    end, last = time.monotonic() + timeout, ""
    names = list(chosen(api, names))
    while True:
        now = chosen(api, names)
        for name, state in now.items():
            if state in (wanted, under_way) or name in failed:
                continue
            if name in asked:  # it was starting or stopping, but is not any longer
                failed[name] = "it ended while it was starting: `journalctl --unit jupyterhub` has the reason"
                continue
            code, answer = api.ask(method, f"users/{quote(name)}/server")
            if code in (201, 202, 204):
                asked.add(name)
            elif code == 429:
                break  # too many are starting: try the others later
            else:
                failed[name] = str((answer or {}).get("message", code))
        count = sum(state == wanted for state in now.values())
        line = f"{count} of {len(now)} {wanted}" + (f", {len(failed)} failed" if failed else "")
        if line != last:
            report(line)
        last = line
        if count + len(failed) >= len(now):
            return failed
        if time.monotonic() > end:
            late = {name: f"still {state} after {timeout:.0f} s" for name, state in now.items() if state != wanted}
            return late | failed
        time.sleep(LOOK)


def main(layout: Layout, action: str, names: list[str], *, timeout: float, as_json: bool) -> int:
    """Run `hubsmith servers`.

    :returns: 0; 1 if a server did not reach the wanted state.
    """
    api = connect(layout)
    if action == "list":
        found = chosen(api, names)
        print(
            json.dumps(found, indent=1) if as_json else "\n".join(f"{name}\t{state}" for name, state in found.items())
        )
        return 0
    wanted = "ready" if action == "start" else "stopped"
    failed = change(
        api, names, wanted, timeout=timeout, report=lambda line: print(line, file=sys.stderr, flush=True)
    )  # fmt: skip
    if as_json:
        print(json.dumps({"failed": failed}, indent=1))
    else:
        for name, why in failed.items():
            print(f"{name}: {why}", file=sys.stderr)
    return 1 if failed else 0
