"""Download single files: resume, verify, and retry after temporary errors."""

from __future__ import annotations

import contextlib
import hashlib
import io
import logging
import os
import threading
from collections.abc import Callable
from dataclasses import dataclass, field

import requests
from urllib3 import HTTPResponse

from hubsmith.archives.cache import Cache
from hubsmith.errors import FetchError

log = logging.getLogger("hubsmith.archives")

CHUNK = 1 << 18
#: Name of a hashlib algorithm, and the checksum in hex.
Checksum = tuple[str, str]
#: Timeouts in seconds: for connecting, and without receiving a byte.
TIMEOUT = (15, 60)
ATTEMPTS = 5
#: Seconds before the second attempt, doubled for each further attempt.
BACK_OFF = 0.5


class Gone(Exception):
    """The server does not have the file (404, 410)."""


class _Passing(Exception):
    """Temporary error of the network or of the server."""


class _Damaged(Exception):
    """The file does not match the lock."""


class Interrupted(Exception):
    """The download was cancelled."""


@dataclass
class Downloader:
    """Downloads files into the cache.

    :ivar on_bytes: called with the number of received bytes, which is negative if a transfer starts over.
    :ivar stop: set to stop all transfers; see :meth:`cancel`.
    """

    cache: Cache
    on_bytes: Callable[[int], None] = lambda _: None
    stop: threading.Event = field(default_factory=threading.Event)
    _answers: set[HTTPResponse] = field(default_factory=set)

    def cancel(self) -> None:
        """Stop all transfers at once, including those that wait for a server."""
        self.stop.set()
        for answer in list(self._answers):
            # A transfer that has just ended has no socket.
            with contextlib.suppress(RuntimeError, ValueError, OSError):
                answer.shutdown()

    def get(
        self,
        session: requests.Session,
        address: str,
        *,
        sha256: str = "",
        sha512: str = "",
        size: int | None = None,
        what: str,
    ) -> str:
        """Download a file into the cache.

        :param session: HTTP session.
        :param address: URL of the file.
        :param sha256: expected SHA-256 (hex). If it is not known, ``sha512`` is verified instead.
        :param size: expected size in bytes, if known.
        :param what: name of the artifact, for error messages.
        :returns: SHA-256 of the file.
        :raises Gone: the server does not have the file.
        :raises FetchError: the server cannot be reached, refuses the request, or sends other bytes.
        """
        checksum = ("sha256", sha256) if sha256 else ("sha512", sha512)
        with self.cache.part(checksum[1]) as part:
            if part is None:
                self.on_bytes(self.cache.path(sha256).stat().st_size)
                return sha256
            self._with_retries(session, address, part, checksum, size, what)
            part.seek(0)
            found = sha256 or hashlib.file_digest(part, "sha256").hexdigest()
            self.cache.complete_part(checksum[1], found)
            return found

    def _with_retries(
        self,
        session: requests.Session,
        address: str,
        part: io.BufferedRandom,
        checksum: Checksum,
        size: int | None,
        what: str,
    ) -> None:
        started_over = False
        attempt = 1
        while not self.stop.is_set():
            resumed = part.seek(0, os.SEEK_END) > 0
            try:
                self._transfer(session, address, part, size)
                self._verify(part, checksum)
                return
            except _Damaged as error:
                self._empty(part)
                # The partial file of an earlier run may be the cause: start over once.
                if resumed and not started_over:
                    started_over = True
                    continue
                raise FetchError(str(error), where=what) from None
            except _Passing as error:
                if attempt == ATTEMPTS:
                    raise FetchError(f"{error} ({ATTEMPTS} attempts)", where=what, hint="run it again later") from None
                log.debug("%s: %s; attempt %d", what, error, attempt + 1)
                if self.stop.wait(BACK_OFF * 2 ** (attempt - 1)):
                    break
                attempt += 1
        raise Interrupted

    def _transfer(self, session: requests.Session, address: str, part: io.BufferedRandom, size: int | None) -> None:
        have = part.seek(0, os.SEEK_END)
        if size is not None and have == size:
            self.on_bytes(have)
            return
        if size is not None and have > size:
            self._empty(part)
            have = 0
        headers = {"Accept-Encoding": "identity", **({"Range": f"bytes={have}-"} if have else {})}
        try:
            with session.get(address, headers=headers, stream=True, timeout=TIMEOUT) as answer:
                self._check_status(answer)
                if answer.status_code != 206 and have:
                    self._empty(part)
                    have = 0
                counted = have
                self.on_bytes(have)
                self._answers.add(answer.raw)
                try:
                    expected = (
                        have + int(answer.headers["Content-Length"]) if "Content-Length" in answer.headers else None
                    )
                    for chunk in answer.iter_content(CHUNK):
                        part.write(chunk)
                        counted += len(chunk)
                        self.on_bytes(len(chunk))
                        if self.stop.is_set():
                            raise Interrupted
                        if size is not None and counted > size:
                            raise _Damaged(f"the server sends more than the {size} bytes of the lock")
                    if expected is not None and counted < expected:
                        raise _Passing(f"the connection ended after {counted} of {expected} bytes")
                except BaseException:
                    self.on_bytes(-counted)
                    raise
                finally:
                    self._answers.discard(answer.raw)
                    part.flush()
        except requests.RequestException as error:
            raise _Passing(_plain(error)) from None

    def _check_status(self, answer: requests.Response) -> None:
        status = answer.status_code
        if status in (404, 410):
            raise Gone
        if status >= 500 or status == 429:
            raise _Passing(f"the server answers {status} {answer.reason}")
        if status == 416:
            raise _Damaged("the server has fewer bytes than were fetched before")
        if status not in (200, 206):
            raise FetchError(f"the server answers {status} {answer.reason}", where=answer.request.path_url)

    def _verify(self, part: io.BufferedRandom, checksum: Checksum) -> None:
        algorithm, wanted = checksum
        have = part.seek(0, os.SEEK_END)
        part.seek(0)
        found = hashlib.file_digest(part, algorithm).hexdigest()
        if found != wanted:
            self.on_bytes(-have)
            raise _Damaged(f"the server's file is not the locked one ({algorithm} {found}, locked {wanted})")

    def _empty(self, part: io.BufferedRandom) -> None:
        part.truncate(0)
        part.seek(0)


def _plain(error: requests.RequestException) -> str:
    """Return the innermost cause, without the nested representation that requests prints."""
    inner: BaseException = error
    while inner.args and isinstance(inner.args[0], BaseException):
        inner = inner.args[0]
    reason = getattr(inner, "reason", None) or inner
    return f"{type(error).__name__}: {reason}"
