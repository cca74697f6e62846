"""
The wire: one endpoint called, one message back.

JSON travels through requests, bytes through the urllib3 below it, with the same proxies and certificates. What goes wrong
leaves this module as one of our own errors, also while a body is being read; nothing of those libraries reaches a user.

The token travels as an auth object, never as a bare header, which requests would replace with an entry of ``.netrc``. No
redirect is followed, for the token would follow it; but bytes may be asked of the lab's own store, without the token.
"""

from __future__ import annotations

import contextlib
import email.utils
import functools
import http.client
import importlib.metadata
import ipaddress
import os
import random
import threading
import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from http.cookiejar import DefaultCookiePolicy
from typing import IO, Any, Self, TypeVar, cast
from urllib.parse import quote, urlencode, urlsplit

import msgspec
import requests
import urllib3
from requests.adapters import HTTPAdapter
from urllib3.exceptions import ConnectTimeoutError, HTTPError, NewConnectionError, SSLError

from epista.contract import endpoints
from epista.contract.endpoints import Endpoint
from epista.contract.errors import (
    ERRORS,
    AuthenticationError,
    EpistaError,
    ForbiddenError,
    InvalidRequestError,
    RateLimitError,
    ServerError,
    TooLargeError,
    UnavailableError,
    UnreachableError,
)
from epista.contract.messages import Reply, Request
from epista.contract.tokens import NewToken

CONNECT_SECONDS = 10.0
"""How long to wait for a connection."""

READ_SECONDS = 120.0
"""How long to wait for the next bytes of an answer."""

ATTEMPTS = 5
"""How often a call is made before it fails."""

MAX_DELAY_SECONDS = 8.0
"""The longest wait that we choose ourselves between two attempts."""

MAX_RETRY_AFTER_SECONDS = 60.0
"""The longest wait that a server may ask of us; more than that is the caller's decision."""

MAX_PROBLEM_BYTES = 1024 * 1024
"""How much of an error's body is read."""

RENEW_BEFORE = timedelta(seconds=60)
"""How long before its end a token is renewed, or a tenth of its life if that is less."""

_UNSENT = (NewConnectionError, ConnectTimeoutError)
"""Failures before the first byte went out, so that nothing can have happened yet."""

R = TypeVar("R", bound=Reply)
T = TypeVar("T")

Body = bytes | IO[bytes] | Iterable[bytes]
"""Bytes to send. Bytes and seekable files can be sent again after a failure, other iterables cannot."""


class Wire:
    """
    A connection to one server, for one token. Safe to use from several threads, and after a fork.

    *check* is asked before a failed connection is tried again, and raises if there is no point.
    """

    def __init__(
        self,
        url: str,
        secret: str | None,
        *,
        refresh_url: str | None = None,
        check: Callable[[], None] | None = None,
        sleep: Callable[[float], object] = time.sleep,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self.url = url
        self.round_trip_seconds = 0.0
        """The shortest time that an answer took to begin; 0 before the first one."""
        self.is_away = False
        """Whether the last call got no answer."""
        self._hurry = threading.local()
        self._token = None if secret is None else _Token(secret, functools.partial(self._renewed, refresh_url), clock)
        self._check = check
        self._sleep = sleep
        self._lock = threading.Lock()
        self._lines: dict[str, _Lines] = {}
        self._detours = True
        self._closed = False

    def __repr__(self) -> str:
        return f"Wire({self.url!r})"

    def hurried(self, act: Callable[[], T]) -> T:
        """Do *act*, whose calls in this thread are made once, without waiting and trying again."""
        self._hurry.is_on = True
        try:
            return act()
        finally:
            self._hurry.is_on = False

    def call(self, name: str, request: Request, *, reply: type[R] | None = None, read_seconds: float = READ_SECONDS) -> R:
        """
        Call the endpoint *name* and return its reply, decoded as *reply* or else as the row says.

        Raises:
            EpistaError: what the server answers, as the class it was there; or one of the errors of connections.
        """
        row = endpoints.BY_NAME[name]
        address, body = self._spell(row, request)
        headers = {"Accept": "application/json", "User-Agent": _user_agent()}
        if row.retry == "key":
            headers["Idempotency-Key"] = uuid.uuid4().hex
        if body is not None:
            headers["Content-Type"] = "application/json"
        as_type = cast("type[R]", reply or row.reply)

        def attempt() -> R:
            response, text = self._request(row.method, address, headers, body, read_seconds)
            return _decoded(response.status_code, response.headers, text, as_type, self.url)

        return self._persist(row, attempt)

    def part(self, text: msgspec.Raw, as_type: type[T]) -> T:
        """Decode what a reply left as it came."""
        return _read(text, as_type, f"{self.url} answers something that is not Epista's")

    def open(
        self,
        name: str,
        request: Request,
        *,
        headers: Mapping[str, str] | None = None,
        read_seconds: float = READ_SECONDS,
        may_detour: bool = False,
    ) -> urllib3.BaseHTTPResponse:
        """
        Call an endpoint that answers bytes and return the answer, whose body is still to be read, inside `reading`.

        If it *may_detour*, the bytes may come from where the server says that they lie.

        The caller releases the connection: ``response.drain_conn()`` or reading to the end, then ``release_conn()``;
        or ``close()``.
        """
        row = endpoints.BY_NAME[name]
        address, body = self._spell(row, request)
        given = {"Accept-Encoding": "identity", "User-Agent": _user_agent(), **(headers or {})}

        def attempt() -> urllib3.BaseHTTPResponse:
            if may_detour and self._detours:
                response = self._exchange(row.method, address, {**given, "Prefer": "redirect"}, body, read_seconds)
                if not _is_detour(response):
                    return response
                response.drain_conn()
                if found := self._detour(response.headers.get("Location", ""), given, read_seconds):
                    return found
            return self._exchange(row.method, address, given, body, read_seconds)

        return self._persist(row, attempt)

    def read(self, name: str, request: Request) -> bytes:
        """Call an endpoint that answers bytes and return them all, asking again if they break off."""
        row = endpoints.BY_NAME[name]
        address, body = self._spell(row, request)
        headers = {"Accept-Encoding": "identity", "User-Agent": _user_agent()}

        def attempt() -> bytes:
            response = self._exchange(row.method, address, headers, body, READ_SECONDS)
            try:
                with self.reading():
                    return response.read()
            finally:
                response.close()

        return self._persist(row, attempt)

    def send(
        self,
        name: str,
        request: Request,
        *,
        body: Body,
        size: int,
        headers: Mapping[str, str] | None = None,
        reply: type[R] | None = None,
        read_seconds: float = READ_SECONDS,
    ) -> R:
        """Call an endpoint that takes bytes: exactly *size* of them, from where *body* stands now."""
        row = endpoints.BY_NAME[name]
        address, _ = self._spell(row, request)
        given = {
            "Accept": "application/json",
            "Content-Type": "application/octet-stream",
            "Content-Length": str(size),
            "User-Agent": _user_agent(),
            **(headers or {}),
        }
        if row.retry == "key":
            given.setdefault("Idempotency-Key", uuid.uuid4().hex)
        start = cast("IO[bytes]", body).tell() if _is_seekable(body) else None
        can_repeat = isinstance(body, bytes) or start is not None
        as_type = cast("type[R]", reply or row.reply)

        def rewind() -> None:
            if start is not None:
                cast("IO[bytes]", body).seek(start)

        def attempt() -> R:
            rewind()
            response = self._exchange(row.method, address, given, body, read_seconds, rewind if can_repeat else None)
            try:
                with self.reading():
                    return _decoded(response.status, response.headers, response.read(), as_type, self.url)
            finally:
                response.close()

        return self._persist(row, attempt, can_repeat=can_repeat)

    @contextlib.contextmanager
    def reading(self) -> Iterator[None]:
        """Turn what goes wrong inside, while a body is sent or read, into our own errors."""
        try:
            yield
        except EpistaError:
            # Ours already, though some inherit ConnectionError.
            raise
        except SSLError as error:
            raise UnreachableError(
                f"no trusted connection to {self.url}: {_reason(error)}",
                hint="REQUESTS_CA_BUNDLE names the file with your organisation's certificates",
            ) from error
        except (HTTPError, http.client.HTTPException, ConnectionError, TimeoutError) as error:
            raise UnreachableError(
                f"no answer from {self.url}: {_reason(error)}",
                hint="check the address, the network and any proxy, then try again",
            ) from error

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections; later calls are refused."""
        with self._lock:
            self._closed = True
            known, self._lines = self._lines, {}
        for lines in known.values():
            if lines.pid == os.getpid():
                lines.session.close()
                lines.bytes.close()

    def _spell(self, row: Endpoint, request: Request) -> tuple[str, bytes | None]:
        """Return the address of a request and its JSON body, if it has one."""
        fields = cast("dict[str, Any]", msgspec.to_builtins(request))
        path = row.path
        try:
            for name in [name for name in fields if f"{{{name}}}" in path]:
                value = str(fields.pop(name))
                if value in ("", ".", ".."):
                    raise InvalidRequestError(f"{name} may not be {value!r}")
                path = path.replace(f"{{{name}}}", quote(value, safe=""))
            if row.method in ("GET", "DELETE") or row.raw == "up":
                query = urlencode(list(_parameters(fields)), quote_via=quote, safe="")
                return f"{self.url}{path}{'?' if query else ''}{query}", None
            return self.url + path, msgspec.json.encode(fields)
        except UnicodeEncodeError as error:
            raise InvalidRequestError("the request has half a surrogate pair, which UTF-8 cannot say") from error

    def _request(
        self, method: str, address: str, headers: Mapping[str, str], body: bytes | None, read_seconds: float
    ) -> tuple[requests.Response, bytes]:
        """Make one request for JSON, and once more if the token had to be renewed; return the answer and its body."""

        def once(secret: str | None) -> tuple[requests.Response, bytes]:
            with self.reading(), _unwrapped():
                response = self._connected().session.request(
                    method,
                    address,
                    headers=headers,
                    data=body,
                    auth=_Bearer(secret),
                    timeout=(CONNECT_SECONDS, read_seconds),
                    allow_redirects=False,
                    stream=True,
                )
                # At once: requests itself would take a page of a megabyte apart into a hundred pieces.
                with response:
                    return response, response.raw.read(decode_content=True)

        secret = self._token.current() if self._token else None
        response, text = once(secret)
        seconds = response.elapsed.total_seconds()
        self.round_trip_seconds = min(self.round_trip_seconds or seconds, seconds)
        if response.status_code == 401 and self._token and secret and self._token.renew(secret):
            response, text = once(self._token.current())
        return response, text

    def _exchange(
        self,
        method: str,
        address: str,
        headers: Mapping[str, str],
        body: Body | None,
        read_seconds: float,
        rewind: Callable[[], None] | None = lambda: None,
    ) -> urllib3.BaseHTTPResponse:
        """Make one request for bytes, and once more if the token had to be renewed; refuse all but success."""

        def once(secret: str | None) -> urllib3.BaseHTTPResponse:
            with self.reading():
                pool, target = self._connected().to(address)
                return pool.urlopen(
                    method,
                    target,
                    body=cast("Any", body),
                    headers={**headers, **_authorization(secret)},
                    redirect=False,
                    # A plain proxy is asked for the whole address, which is on another host than its own.
                    assert_same_host=False,
                    retries=False,
                    timeout=urllib3.Timeout(connect=CONNECT_SECONDS, read=read_seconds),
                    preload_content=False,
                    decode_content=False,
                )

        secret = self._token.current() if self._token else None
        response = once(secret)
        if response.status == 401 and self._token and secret and self._token.renew(secret) and rewind:
            response.close()
            rewind()
            response = once(self._token.current())
        if response.status < 300 or response.status == 304 or _is_detour(response):
            return response
        try:
            with self.reading():
                text = response.read(MAX_PROBLEM_BYTES)
        finally:
            response.close()
        raise _problem(response.status, response.headers, text, self.url)

    def _detour(self, address: str, headers: Mapping[str, str], read_seconds: float) -> urllib3.BaseHTTPResponse | None:
        """Ask elsewhere for bytes, never with the token; None if they are not to be had there, and the server is to be asked."""
        there = urlsplit(address)
        if there.scheme != "https" and (there.scheme != "http" or self.url.startswith("https:")):
            return None
        try:
            with self.reading():
                pool, target = self._connected(f"{there.scheme}://{there.netloc}").to(address)
                response = pool.urlopen(
                    "GET",
                    target,
                    headers=headers,
                    redirect=False,
                    assert_same_host=False,
                    retries=False,
                    timeout=urllib3.Timeout(connect=CONNECT_SECONDS, read=read_seconds),
                    preload_content=False,
                    decode_content=False,
                )
        except UnreachableError:
            # The store may be reached by the server alone; from now on that is not tried again.
            self._detours = False
            return None
        if response.status in (200, 206):
            return response
        response.close()
        return None

    def send_elsewhere(self, address: str, *, body: Body, headers: Mapping[str, str], read_seconds: float = READ_SECONDS) -> bool:
        """Send bytes with PUT to where the server says, never with the token; whether they were taken."""
        there = urlsplit(address)
        if not self._detours or (there.scheme != "https" and (there.scheme != "http" or self.url.startswith("https:"))):
            return False
        try:
            with self.reading():
                pool, target = self._connected(f"{there.scheme}://{there.netloc}").to(address)
                response = pool.urlopen(
                    "PUT",
                    target,
                    body=cast("Any", body),
                    headers=headers,
                    redirect=False,
                    assert_same_host=False,
                    retries=False,
                    timeout=urllib3.Timeout(connect=CONNECT_SECONDS, read=read_seconds),
                )
        except UnreachableError as error:
            if isinstance(error.__cause__, _UNSENT):
                self._detours = False
            return False
        return response.status == 200

    def _renewed(self, refresh_url: str | None, secret: str) -> NewToken:
        row = endpoints.BY_NAME["tokens.renew"]
        address = refresh_url or self.url + row.path

        def attempt() -> NewToken:
            # Another host may have other proxies and certificates, so not over the session to the server.
            with self.reading(), _unwrapped(), _session(address) as session:
                response = session.post(
                    address,
                    json={},
                    headers={"Accept": "application/json", "User-Agent": _user_agent()},
                    auth=_Bearer(secret),
                    timeout=(CONNECT_SECONDS, READ_SECONDS),
                    allow_redirects=False,
                )
            return _decoded(response.status_code, response.headers, response.content, NewToken, address)

        return self._persist(row, attempt)

    def _persist(self, row: Endpoint, attempt: Callable[[], T], *, can_repeat: bool = True) -> T:
        """Attempt until it works, fails for good, or has failed often enough: exponential backoff with full jitter."""
        number = 1
        while True:
            try:
                found = attempt()
                self.is_away = False
                return found
            except (UnreachableError, UnavailableError, RateLimitError) as error:
                if isinstance(error, UnreachableError) and self._check and not self._closed:
                    self._check()
                delay = random.uniform(0, min(MAX_DELAY_SECONDS, 0.25 * 2**number))  # noqa: S311 - spreads load, hides nothing
                asked = error.details.get("retry_after_seconds")
                delay += asked if isinstance(asked, int | float) and asked > 0 else 0
                may_repeat = (can_repeat and row.retry != "never") or isinstance(error.__cause__, _UNSENT)
                is_last = number == ATTEMPTS or getattr(self._hurry, "is_on", False)
                if self._closed or not may_repeat or not passes(error) or is_last or delay > MAX_RETRY_AFTER_SECONDS:
                    self.is_away = isinstance(error, UnreachableError)
                    raise
                number += 1
                self._sleep(delay)

    def _connected(self, url: str | None = None) -> _Lines:
        """Return the connections to *url*, or else to the server."""
        url = url or self.url
        with self._lock:
            if self._closed:
                hint = "open it again: epista.Workspace(...)"
                raise UnreachableError(f"the workspace at {self.url} is closed", hint=hint, details={"lasts": True})
            # A forked child must not share sockets with its parent.
            if url not in self._lines or self._lines[url].pid != os.getpid():
                self._lines[url] = _Lines(url)
            return self._lines[url]


class _Token:
    """The token in use, and how it is followed by a fresh one."""

    def __init__(self, secret: str, renew: Callable[[str], NewToken], clock: Callable[[], datetime]) -> None:
        self._secret = secret
        self._renew = renew
        self._clock = clock
        self._renew_at: datetime | None = None
        self._can_renew = True
        self._lock = threading.RLock()

    def current(self) -> str:
        """Return the secret, renewed if it is about to end. Its end is known once it was renewed for the first time."""
        with self._lock:
            if self._renew_at is not None and self._clock() >= self._renew_at:
                try:
                    self._follow()
                except EpistaError:
                    # The one in hand may still be good; if not, the call itself says so.
                    pass
            return self._secret

    def renew(self, refused: str) -> bool:
        """Return whether there is another secret to try instead of *refused*."""
        with self._lock:
            if self._secret != refused:
                return True
            if self._can_renew:
                try:
                    self._follow()
                except (UnreachableError, UnavailableError, RateLimitError, ServerError):
                    pass
                except EpistaError:
                    # Not a kernel token, or one that has come to its end: the refusal itself is the better message.
                    self._can_renew = False
            return self._secret != refused

    def _follow(self) -> None:
        fresh = self._renew(self._secret)
        self._secret, self._renew_at = fresh.secret, None
        if fresh.token.expires_at is not None:
            # The server's clock says how long the token lives, ours since when: the two need not agree.
            life = fresh.token.expires_at - fresh.token.created_at
            self._renew_at = self._clock() + life - min(RENEW_BEFORE, life / 10)


class _Bearer(requests.auth.AuthBase):
    def __init__(self, secret: str | None) -> None:
        self._secret = secret

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        request.headers.update(_authorization(self._secret))
        return request


class _Adapter(HTTPAdapter):
    """Pools with the large blocks that bytes need."""

    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        super().init_poolmanager(*args, **kwargs, blocksize=1024 * 1024)


class _Lines:
    """The open connections of one process to one server."""

    def __init__(self, url: str) -> None:
        self.pid = os.getpid()
        self.session = _session(url)
        self.session.mount(url, HTTPAdapter(pool_maxsize=32))
        self.bytes = _Adapter(pool_maxsize=32)
        self._url = url

    def to(self, address: str) -> tuple[urllib3.HTTPConnectionPool, str]:
        """Return the pool for an address there, and what to ask of it."""
        pool, asks_for_all = self._way
        there = urlsplit(address)
        path = there.path or "/"
        return pool, address if asks_for_all else f"{path}?{there.query}" if there.query else path

    @functools.cached_property
    def _way(self) -> tuple[urllib3.HTTPConnectionPool, bool]:
        """The pool, and whether the whole address is asked of it, as of a plain proxy."""
        # Found out once: for each small object it would take requests as long as all the rest.
        there = requests.Request("GET", self._url).prepare()
        proxies = cast("dict[str, str]", self.session.proxies)
        with _unwrapped():
            pool = self.bytes.get_connection_with_tls_context(there, self.session.verify, proxies=proxies)
        return cast("urllib3.HTTPConnectionPool", pool), self.bytes.request_url(there, proxies).startswith("http")


def _session(url: str) -> requests.Session:
    """Return a requests session with the proxies and certificates of the environment, and nothing else of it."""
    session = requests.Session()
    found: dict[str, Any] = dict(session.merge_environment_settings(url, {}, None, None, None))
    session.trust_env = False
    # No proxy reaches this machine's own ports.
    session.proxies = {} if _is_loopback(url) else found["proxies"]
    session.verify = found["verify"]
    session.cookies.set_policy(DefaultCookiePolicy(allowed_domains=[]))
    return session


def _is_loopback(url: str) -> bool:
    host = urlsplit(url).hostname or ""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


@contextlib.contextmanager
def _unwrapped() -> Iterator[None]:
    """Turn the errors of requests into those of urllib3 below it, or of the socket."""
    try:
        yield
    except requests.exceptions.RequestException as error:
        inner = _innermost(error)
        if isinstance(error, requests.exceptions.SSLError):
            raise SSLError(inner) from error
        raise (inner if isinstance(inner, HTTPError | ConnectionError | TimeoutError) else HTTPError(inner)) from error


def _innermost(error: BaseException) -> BaseException:
    """Return what lies at the bottom of wrapped connection errors, as far as it says what was wrong."""
    while True:
        inner = getattr(error, "reason", None) or next((a for a in error.args if isinstance(a, BaseException)), None)
        if not isinstance(inner, BaseException):
            return error
        error = inner


def _reason(error: BaseException) -> str:
    """Say in a few words what is wrong, without the addresses of objects that these libraries print."""
    inner = _innermost(error)
    if isinstance(inner, NewConnectionError):
        text = str(inner).rpartition(": ")[2]
        return (text.partition("] ")[2] or text).rstrip(")")
    if isinstance(inner, TimeoutError | urllib3.exceptions.TimeoutError):
        return "it took too long"
    if isinstance(inner, OSError) and inner.strerror:
        return inner.strerror
    return "the connection broke off"


def passes(error: EpistaError) -> bool:
    """Whether a failure may be gone a moment later; a certificate that is not trusted stays so."""
    return not isinstance(error.__cause__, SSLError) and not error.details.get("lasts")


def _parameters(fields: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    for name, value in fields.items():
        for item in value if isinstance(value, list | tuple) else [value]:
            if isinstance(item, bool):
                yield name, "true" if item else "false"
            elif item is not None:
                yield name, str(item)


def _authorization(secret: str | None) -> dict[str, str]:
    return {} if secret is None else {"Authorization": f"Bearer {secret}"}


def _is_detour(response: urllib3.BaseHTTPResponse) -> bool:
    """Whether the server sends us on as we asked it to; any other redirect is none of its doing."""
    return response.status == 307 and response.headers.get("Preference-Applied") == "redirect"


def _is_seekable(body: Any) -> bool:
    return callable(getattr(body, "seekable", None)) and bool(body.seekable())


def _decoded(status: int, headers: Mapping[str, str], text: bytes, as_type: type[R], url: str) -> R:
    if not 200 <= status < 300:
        raise _problem(status, headers, text, url)
    return _read(text, as_type, f"{url} answers something that is not Epista's ({_title(headers)})")


def _read(text: bytes | msgspec.Raw, as_type: type[T], otherwise: str) -> T:
    try:
        return msgspec.json.decode(text, type=as_type)
    except (msgspec.DecodeError, UnicodeDecodeError):
        # Not chained: the decoder's message may quote the reply, and the reply may be a token.
        raise ServerError(otherwise, hint="is this the address of an Epista server?") from None


def _problem(status: int, headers: Mapping[str, str], text: bytes, url: str) -> EpistaError:
    """Return the error that an answer stands for: problem+json as the class it was, anything else in one sentence."""
    with contextlib.suppress(msgspec.DecodeError, UnicodeDecodeError):
        problem = msgspec.json.decode(text, type=_Problem)
        if problem.code:
            details = dict(problem.details or {})
            if problem.code == RateLimitError.code or status == 503:
                details = {**_retry_after(headers), **details}
            error = ERRORS.get(problem.code, ServerError if status >= 500 else EpistaError)
            message = problem.detail or problem.title or f"{url} answers {status}"
            return error(message, hint=problem.hint, details=details, request_id=problem.request_id)
    answer = f"{url} answers {status} {http.client.responses.get(status, '')}".rstrip() + f" ({_title(headers)})"
    if 300 <= status < 400:
        return UnreachableError(
            f"{answer}: the address has moved", hint="give the new address; a token follows no redirect", details={"lasts": True}
        )
    if status in (502, 503, 504):
        return UnavailableError(answer, hint="try again in a moment", details=_retry_after(headers))
    if status == 429:
        return RateLimitError(answer, hint="wait, then try again", details=_retry_after(headers))
    if status >= 500:
        return ServerError(answer, hint="the server's log has the rest")
    plain: dict[int, type[EpistaError]] = {401: AuthenticationError, 403: ForbiddenError, 413: TooLargeError}
    error = plain.get(status, UnreachableError)
    return error(f"{answer}, not from Epista", hint="is this the address of an Epista server?", details={"lasts": True})


class _Problem(msgspec.Struct, frozen=True, kw_only=True):
    """RFC 9457, with our own members."""

    title: str | None = None
    detail: str | None = None
    code: str | None = None
    hint: str | None = None
    details: dict[str, Any] | None = None
    request_id: str | None = None


def _title(headers: Mapping[str, str]) -> str:
    kind = str(headers.get("Content-Type", "")).partition(";")[0].strip().lower()
    return {"text/html": "a web page", "": "no content"}.get(kind, kind if kind.isprintable() else "no content")


def _retry_after(headers: Mapping[str, str]) -> dict[str, float]:
    """Return how long the server asks to wait, if it does: seconds, or until a date (RFC 9110)."""
    text = headers.get("Retry-After")
    if not text:
        return {}
    if text.isascii() and text.isdigit():
        return {"retry_after_seconds": float(text)}
    try:
        until = email.utils.parsedate_to_datetime(text)
    except ValueError:
        return {}
    return {"retry_after_seconds": max(0.0, (until.astimezone(UTC) - datetime.now(UTC)).total_seconds())}


@functools.cache
def _user_agent() -> str:
    try:
        return f"epista/{importlib.metadata.version('epista')}"
    except importlib.metadata.PackageNotFoundError:
        return "epista"
