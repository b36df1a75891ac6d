"""A person at a browser, without the browser: log in to a hub, start a server, compute in a kernel."""

from __future__ import annotations

import json
import ssl
import uuid
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Self
from urllib.parse import urlsplit

import requests
import urllib3
import websocket

# The hubs of the tests have self-signed certificates; that TLS is right is tested where it is the subject.
urllib3.disable_warnings(urllib3.exceptions.InsecureRequestWarning)


class NotLetIn(Exception):
    """The hub refused the name or the password."""


class NotServed(Exception):
    """The server did not start; ``messages`` is what the person was told."""

    def __init__(self, messages: list[str]) -> None:
        self.messages = messages
        super().__init__(" / ".join(messages))


@dataclass
class Kernel:
    """A running kernel; ``execute`` returns what a person would see below the cell."""

    client: HubClient
    id: str
    timeout: float = 180
    _socket: websocket.WebSocket | None = field(default=None, repr=False)

    def connect(self) -> websocket.WebSocket:
        """The websocket of the kernel, opened when it is first needed."""
        if self._socket is None:
            parts = urlsplit(self.client.base)
            url = f"wss://{parts.netloc}/user/{self.client.name}/api/kernels/{self.id}/channels?session_id={uuid.uuid4().hex}"
            self._socket = websocket.create_connection(
                url,
                timeout=self.timeout,
                sslopt={"cert_reqs": ssl.CERT_NONE, "check_hostname": False},
                header={"X-XSRFToken": self.client.xsrf(f"/user/{self.client.name}/")},
                cookie="; ".join(f"{c.name}={c.value}" for c in self.client.cookies(f"/user/{self.client.name}/")),
                origin=self.client.base,
                http_no_proxy=[parts.hostname],
            )
        return self._socket

    def send(self, code: str) -> str:
        """Start code without waiting for it; returns the number of the request."""
        ident = uuid.uuid4().hex
        header = {"msg_id": ident, "msg_type": "execute_request", "username": "", "session": ident, "version": "5.4"}
        content = {"code": code, "silent": False, "store_history": True, "user_expressions": {}, "allow_stdin": False}
        message = {"header": header, "parent_header": {}, "metadata": {}, "content": content}
        self.connect().send(json.dumps({**message, "channel": "shell", "buffers": []}))
        return ident

    def execute(self, code: str) -> str:
        """Run code; returns standard output and the value of the last line.

        :raises RuntimeError: the code raised an exception; the message is its name and value.
        """
        ident = self.send(code)
        text, error = "", None
        while True:
            message = json.loads(self.connect().recv())
            if message["parent_header"].get("msg_id") != ident:
                continue
            kind, content = message["msg_type"], message["content"]
            if kind == "stream":
                text += content["text"]
            elif kind == "execute_result":
                text += content["data"]["text/plain"]
            elif kind == "error":
                error = f"{content['ename']}: {content['evalue']}"
            elif kind == "status" and content["execution_state"] == "idle":
                if error:
                    raise RuntimeError(error)
                return text.strip()

    def close(self) -> None:
        """Leave; the kernel goes on."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        self.close()


class HubClient:
    """One person's session with a hub at ``base`` (``https://host:port``)."""

    def __init__(self, base: str, name: str, *, timeout: float = 120) -> None:
        self.base, self.name, self.timeout = base.rstrip("/"), name, timeout
        self.http = requests.Session()
        self.http.verify = False
        self.http.trust_env = False  # a CA bundle in the environment would override `verify`

    def cookies(self, path: str) -> list[Any]:
        """The cookies that a browser sends to ``path``."""
        return [c for c in self.http.cookies if path.startswith(c.path)]

    def xsrf(self, path: str) -> str:
        """The token against cross-site requests that belongs to ``path``."""
        found = [c for c in self.cookies(path) if c.name == "_xsrf"]
        return max(found, key=lambda c: len(c.path)).value or "" if found else ""

    def request(self, method: str, path: str, **kwargs: Any) -> requests.Response:
        """One request, with what a browser's script would add."""
        headers = {"X-XSRFToken": self.xsrf(path), "Referer": f"{self.base}{path}"} | kwargs.pop("headers", {})
        kwargs.setdefault("timeout", self.timeout)
        return self.http.request(method, f"{self.base}{path}", headers=headers, **kwargs)

    def login(self, password: str) -> Self:
        """Fill in the login form.

        :raises NotLetIn: the hub shows the form again.
        """
        self.request("GET", "/hub/login")
        form = {"username": self.name, "password": password, "_xsrf": self.xsrf("/hub/")}
        answer = self.request("POST", "/hub/login", data=form, allow_redirects=False)
        if answer.status_code != 302:
            raise NotLetIn(f"{answer.status_code}: {answer.reason}")
        self.request("GET", "/hub/home")  # the token of somebody who has logged in
        return self

    def logout(self) -> None:
        """Leave the hub."""
        self.request("GET", "/hub/logout")

    def spawn(self, timeout: float = 600) -> list[str]:
        """Start the server, wait until it is ready, and pass its own login.

        :returns: what the person was told meanwhile.
        :raises NotServed: it did not start.
        """
        answer = self.request("GET", "/hub/spawn")
        if answer.status_code >= 400:
            raise NotServed([f"{answer.status_code} {answer.reason}", answer.text])
        messages: list[str] = []
        if "/hub/spawn-pending/" in answer.url:
            path = f"/hub/api/users/{self.name}/server/progress"
            with self.request("GET", path, stream=True, timeout=timeout) as events:
                for line in events.iter_lines():
                    if line.startswith(b"data:"):
                        event = json.loads(line[5:])
                        messages.append(event.get("message", ""))
                        if event.get("failed"):
                            raise NotServed(messages)
        page = self.request("GET", f"/user/{self.name}/lab", timeout=timeout)
        if page.status_code != 200 or not page.url.startswith(f"{self.base}/user/{self.name}/lab"):
            raise NotServed([*messages, f"{page.status_code} at {page.url}", page.text])
        return messages

    def stop(self) -> None:
        """Ask for the server to be stopped."""
        self.request("DELETE", f"/hub/api/users/{self.name}/server").raise_for_status()

    def api(self, method: str, path: str, **kwargs: Any) -> Any:
        """The REST API of the own server, below ``/user/NAME/api/``."""
        answer = self.request(method, f"/user/{self.name}/api/{path}", **kwargs)
        answer.raise_for_status()
        return answer.json() if answer.content else None

    def start_kernel(self, timeout: float = 180) -> Kernel:
        """A new kernel."""
        return Kernel(self, self.api("POST", "kernels", json={"name": "python3"}, timeout=timeout)["id"], timeout)

    def kernels(self) -> list[Kernel]:
        """The kernels that run."""
        return [Kernel(self, found["id"]) for found in self.api("GET", "kernels")]

    def save(self, path: str, text: str) -> None:
        """Write a text file in the home."""
        body = {"type": "file", "format": "text", "content": text}
        self.api("PUT", f"contents/{path}", json=body)

    def read(self, path: str) -> str:
        """A text file of the home."""
        return str(self.api("GET", f"contents/{path}?type=file&format=text")["content"])
