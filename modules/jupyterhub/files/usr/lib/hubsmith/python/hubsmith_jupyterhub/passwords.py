"""Passwords of the machine's accounts: only from the login form, and not too many wrong ones."""

from __future__ import annotations

import hmac
from typing import Any

from jupyterhub.auth import PAMAuthenticator
from jupyterhub.handlers.login import LoginHandler
from tornado.web import HTTPError
from traitlets import Any as AnyTrait
from traitlets import Set, Unicode, default

from hubsmith_jupyterhub.throttle import Throttle

#: Header with which NGINX proves that it passes on a login, and with it the limits that it has applied.
LOGIN_HEADER = "X-Hubsmith-Login"


class PasswordAuthenticator(PAMAuthenticator):
    """A :class:`PAMAuthenticator` that checks passwords of the login form only."""

    users = Set(Unicode(), help="Users of the hub. Other names are not looked up.").tag(config=True)
    login_token = Unicode(help="The value that NGINX puts into :data:`LOGIN_HEADER`.").tag(config=True)
    throttle = AnyTrait()

    @default("throttle")
    def _throttle(self) -> Throttle:
        return Throttle()

    async def authenticate(self, handler: Any, data: dict[str, str]) -> str | None:
        """Check a password.

        JupyterHub's API takes passwords, too, and users reach the hub without NGINX. Both would bypass the limits.

        :raises HTTPError: 403 if it does not come from the login form through NGINX, 429 after too many wrong ones.
        """
        header = handler.request.headers.get(LOGIN_HEADER, "").encode()
        if not isinstance(handler, LoginHandler) or not hmac.compare_digest(header, self.login_token.encode()):
            raise HTTPError(403, "passwords are only accepted from the login form")
        user, address = data["username"], handler.request.remote_ip
        if user not in self.users:
            return None
        if self.throttle.blocks(address, user):
            self.log.warning("Too many wrong passwords for %s from %s", user, address)
            raise HTTPError(429, "Too many wrong passwords. Please try again in a minute.")
        name: str | None = await super().authenticate(handler, data)
        if name is None:
            self.throttle.failed(address, user)
        else:
            self.throttle.succeeded(address, user)
        return name
