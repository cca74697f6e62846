"""The wire: spelling, retries, renewal, and that only our own errors leave it."""

from __future__ import annotations

import io
import json
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import requests
import responses

from epista.client.wire import ATTEMPTS, Wire
from epista.contract import assets, objects, tokens, workspaces
from epista.contract.errors import (
    ERRORS,
    AuthenticationError,
    ConflictError,
    EpistaError,
    InvalidRequestError,
    KeyNotFoundError,
    RateLimitError,
    ServerError,
    UnavailableError,
    UnreachableError,
)

ME = {"user": "ada", "is_lab_admin": False, "scopes": ["read"], "workspaces": ["lab"], "experiments": None, "expires_at": None}
LAB = "http://lab.example"


class Loopback:
    """A real server that answers as the test says: ``answers`` get the handler, one after the other, the last one for ever."""

    def __init__(self) -> None:
        self.answers: list[Callable[[BaseHTTPRequestHandler], None]] = []
        self.requests: list[tuple[str, str, dict[str, str], bytes]] = []
        test = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def _answer(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                test.requests.append((self.command, self.path, {k.lower(): v for k, v in self.headers.items()}, body))
                answer = test.answers[0] if len(test.answers) == 1 else test.answers.pop(0)
                answer(self)

            do_GET = do_POST = do_PUT = do_DELETE = _answer

            def log_message(self, format: str, *args: Any) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        self.thread = threading.Thread(target=self.server.serve_forever, args=(0.01,), daemon=True)
        self.thread.start()

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()
        self.thread.join()


def say(status: int, body: Any, **headers: str) -> Callable[[BaseHTTPRequestHandler], None]:
    text = body if isinstance(body, bytes) else json.dumps(body).encode()

    def answer(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(status)
        for name, value in {"Content_Type": "application/json", "Content_Length": str(len(text)), **headers}.items():
            handler.send_header(name.replace("_", "-"), value)
        handler.end_headers()
        handler.wfile.write(text)

    return answer


def break_off(handler: BaseHTTPRequestHandler) -> None:
    """Promise ten bytes, give three, hang up."""
    handler.send_response(200)
    handler.send_header("Content-Length", "10")
    handler.end_headers()
    handler.wfile.write(b"abc")
    handler.close_connection = True


def hang_up(handler: BaseHTTPRequestHandler) -> None:
    handler.close_connection = True


def new_token(secret: str, expires_at: datetime | None = None) -> dict[str, Any]:
    token: dict[str, Any] = {"id": "tk", "name": "n", "kind": "kernel", "scopes": [], "workspace": None, "experiments": None}
    times = {"created_at": "2026-01-01T00:00:00Z", "expires_at": expires_at and expires_at.isoformat(), "revoked_at": None}
    return {"secret": secret, "token": token | times}


@pytest.fixture
def loopback() -> Iterator[Loopback]:
    server = Loopback()
    yield server
    server.close()


@pytest.fixture
def waits() -> list[float]:
    return []


@pytest.fixture
def wire(loopback: Loopback, waits: list[float]) -> Iterator[Wire]:
    made = Wire(loopback.url, "secret-1", sleep=waits.append)
    yield made
    made.close()


@pytest.fixture
def far(waits: list[float]) -> Iterator[Wire]:
    """A wire for what `responses` answers."""
    made = Wire(LAB, "secret-1", sleep=waits.append)
    yield made
    made.close()


def who(wire: Wire) -> tokens.Me:
    return wire.call("tokens.who", tokens.WhoAmI(), reply=tokens.Me)


def test_path_fields_are_quoted_and_the_others_are_parameters(wire: Wire, loopback: Loopback) -> None:
    loopback.answers = [say(200, {"assets": [], "next": None})]
    at = datetime(2026, 3, 31, tzinfo=UTC)

    wanted = assets.FindAssets(workspace="a/b #?%41", tags=("x y", "&"), prefix="é+", created_after=at)
    wire.call("assets.find", wanted, reply=assets.AssetPage)

    _, path, headers, _ = loopback.requests[0]
    assert path == (
        "/api/v1/workspaces/a%2Fb%20%23%3F%2541/assets"
        "?tags=x%20y&tags=%26&prefix=%C3%A9%2B&created_after=2026-03-31T00%3A00%3A00Z&limit=1000"
    )
    assert headers["authorization"] == "Bearer secret-1"
    assert headers["user-agent"].startswith("epista")


def test_booleans_are_true_and_false(wire: Wire, loopback: Loopback) -> None:
    loopback.answers = [say(404, {"code": "key_not_found", "detail": "no"})]

    with pytest.raises(KeyNotFoundError):
        wire.call("assets.get", assets.GetAsset(workspace="w", ref="r", exact=True), reply=assets.Asset)

    assert "exact=true" in loopback.requests[0][1]


@pytest.mark.parametrize("name", ["", ".", ".."])
def test_a_path_field_never_changes_the_path(wire: Wire, loopback: Loopback, name: str) -> None:
    with pytest.raises(InvalidRequestError):
        wire.call("workspaces.get", workspaces.GetWorkspace(workspace=name), reply=workspaces.Workspace)

    assert loopback.requests == []


def test_half_a_surrogate_pair_is_our_own_error(wire: Wire) -> None:
    with pytest.raises(InvalidRequestError):
        wire.call("assets.search", assets.SearchAssets(workspace="w", query="\ud800"), reply=assets.Hits)
    with pytest.raises(InvalidRequestError):
        wire.call("objects.delete", objects.DeleteAsset(workspace="w", key="\ud800"), reply=assets.Asset)


@pytest.mark.parametrize("code", sorted(ERRORS))
def test_every_error_arrives_as_itself(wire: Wire, loopback: Loopback, code: str) -> None:
    problem = {"type": "x", "title": "t", "detail": "what is so", "code": code, "hint": "next", "details": {"n": 1}}
    loopback.answers = [say(ERRORS[code].status, problem | {"request_id": "r1"}, Content_Type="application/problem+json")]

    with pytest.raises(EpistaError) as caught:
        who(wire)

    error = caught.value
    assert type(error) is ERRORS[code]
    assert (error.message, error.hint, error.details, error.request_id) == ("what is so", "next", {"n": 1}, "r1")


@pytest.mark.parametrize(
    ("status", "expected"),
    [
        (401, AuthenticationError),
        (404, UnreachableError),
        (301, UnreachableError),
        (500, ServerError),
        (503, UnavailableError),
        (429, RateLimitError),
        (200, ServerError),
    ],
)
def test_a_page_of_some_proxy_is_one_clear_sentence(
    wire: Wire, loopback: Loopback, status: int, expected: type[EpistaError]
) -> None:
    loopback.answers = [say(status, b"<html>token=hidden</html>", Content_Type="text/html; charset=utf-8", Location="http://x/")]

    with pytest.raises(expected, match="a web page") as caught:
        who(wire)

    assert "hidden" not in str(caught.value)
    assert "\n" not in caught.value.message


def test_no_redirect_is_followed(wire: Wire, loopback: Loopback) -> None:
    loopback.answers = [say(307, b"", Location=loopback.url + "/elsewhere")]

    with pytest.raises(UnreachableError, match="moved"):
        who(wire)
    with pytest.raises(UnreachableError, match="moved"):
        wire.read("assets.keys", assets.ListKeys(workspace="w"))

    assert len(loopback.requests) == 2


def test_a_safe_call_is_repeated_until_it_works(wire: Wire, loopback: Loopback, waits: list[float]) -> None:
    loopback.answers = [say(503, b""), say(502, b""), hang_up, say(200, ME)]

    assert who(wire).user == "ada"
    assert len(loopback.requests) == 4
    assert all(0 <= wait <= 8 for wait in waits)


def test_a_call_gives_up_in_the_end(wire: Wire, loopback: Loopback) -> None:
    loopback.answers = [say(503, b"")]

    with pytest.raises(UnavailableError):
        who(wire)

    assert len(loopback.requests) == ATTEMPTS


def test_a_write_is_repeated_under_one_idempotency_key(wire: Wire, loopback: Loopback) -> None:
    loopback.answers = [say(503, b""), hang_up, say(200, {"keys": ["a"]})]

    wanted = objects.DeleteFolder(workspace="w", path="a/")
    wire.call("objects.delete_dir", wanted, reply=objects.Keys)
    wire.call("objects.delete_dir", wanted, reply=objects.Keys)

    used = [headers["idempotency-key"] for _, _, headers, _ in loopback.requests]
    assert len(used) == 4
    assert used[0] == used[1] == used[2] != used[3]


def test_a_call_with_a_secret_in_its_reply_is_never_repeated(wire: Wire, loopback: Loopback) -> None:
    loopback.answers = [say(503, b"")]

    with pytest.raises(UnavailableError):
        wire.call("tokens.create", tokens.CreateToken(name="n"), reply=tokens.NewToken)

    assert len(loopback.requests) == 1
    assert "idempotency-key" not in loopback.requests[0][2]


def test_what_was_never_sent_may_always_be_repeated(waits: list[float]) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        wire = Wire(f"http://127.0.0.1:{taken.getsockname()[1]}", None, sleep=waits.append)

        with pytest.raises(UnreachableError, match="Connection refused"):
            wire.call("tokens.sign_in", tokens.SignIn(code="c"), reply=tokens.NewToken)

    wire.close()
    assert len(waits) == ATTEMPTS - 1


def test_retry_after_is_honoured_and_a_long_one_is_the_callers_decision(
    wire: Wire, loopback: Loopback, waits: list[float]
) -> None:
    loopback.answers = [say(429, {"code": "rate_limit", "detail": "slow down"}, Retry_After="7"), say(200, ME)]
    who(wire)
    loopback.answers = [say(429, {"code": "rate_limit", "detail": "slow down"}, Retry_After="3600")]

    with pytest.raises(RateLimitError) as caught:
        who(wire)

    assert len(waits) == 1
    assert 7 <= waits[0] < 8
    assert caught.value.details == {"retry_after_seconds": 3600}


def test_a_refusal_is_not_repeated(wire: Wire, loopback: Loopback) -> None:
    loopback.answers = [say(409, {"code": "conflict", "detail": "no", "details": {"found": "v"}})]

    with pytest.raises(ConflictError):
        who(wire)

    assert len(loopback.requests) == 1


@pytest.mark.parametrize(
    "fault",
    [
        requests.exceptions.ChunkedEncodingError("x"),
        requests.exceptions.ContentDecodingError("x"),
        requests.exceptions.InvalidHeader("hidden"),
        requests.exceptions.ReadTimeout("x"),
        requests.exceptions.ProxyError("x"),
    ],
    ids=lambda fault: type(fault).__name__,
)
def test_no_error_of_requests_leaves_the_wire(far: Wire, fault: Exception) -> None:
    with responses.RequestsMock(assert_all_requests_are_fired=False) as mocked:
        mocked.get(LAB + "/api/v1/me", body=fault)

        with pytest.raises(UnreachableError) as caught:
            who(far)

    assert "hidden" not in str(caught.value)


def test_a_certificate_that_is_not_trusted_is_said_once(far: Wire, waits: list[float]) -> None:
    fault = requests.exceptions.SSLError(ssl.SSLCertVerificationError(1, "certificate verify failed: self-signed certificate"))
    with responses.RequestsMock() as mocked:
        mocked.get(LAB + "/api/v1/me", body=fault)

        with pytest.raises(UnreachableError, match=r"no trusted connection .* self-signed") as caught:
            who(far)

    assert "REQUESTS_CA_BUNDLE" in str(caught.value)
    assert waits == []


def test_an_unknown_host_is_named_with_the_reason(waits: list[float]) -> None:
    with Wire("http://no-such-host.invalid", None, sleep=waits.append) as wire, pytest.raises(UnreachableError) as caught:
        who(wire)

    assert caught.value.message.startswith("no answer from http://no-such-host.invalid: ")
    assert "HTTPConnection" not in caught.value.message


def test_garbage_is_a_fault_of_the_server_and_not_quoted(far: Wire) -> None:
    with responses.RequestsMock() as mocked:
        mocked.get(LAB + "/api/v1/me", body=b'{"user": "hidden', content_type="application/json")

        with pytest.raises(ServerError) as caught:
            who(far)

    assert "hidden" not in str(caught.value)


def test_netrc_never_replaces_the_token(wire: Wire, loopback: Loopback, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "netrc").write_text("machine 127.0.0.1 login other password other\n", encoding="utf-8")
    (tmp_path / "netrc").chmod(0o600)
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    loopback.answers = [say(200, ME)]

    who(wire)
    with Wire(loopback.url, None) as anonymous:
        who(anonymous)

    assert loopback.requests[0][2]["authorization"] == "Bearer secret-1"
    assert "authorization" not in loopback.requests[1][2]


def test_a_proxy_is_not_asked_for_this_machines_own_ports(
    loopback: Loopback, wire: Wire, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    loopback.answers = [say(200, ME)]

    assert who(wire).user == "ada"
    assert wire.read("assets.keys", assets.ListKeys(workspace="w"))


def test_a_proxy_of_the_environment_serves_json_and_bytes_alike(
    loopback: Loopback, waits: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("http_proxy", loopback.url)
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.delenv("NO_PROXY", raising=False)
    loopback.answers = [say(200, ME)]

    with Wire(LAB, "secret-1", sleep=waits.append) as far:
        who(far)
        far.read("assets.keys", assets.ListKeys(workspace="w"))

    asked = [path for _, path, _, _ in loopback.requests]
    assert asked == [LAB + "/api/v1/me", LAB + "/api/v1/workspaces/w/keys?prefix="]


def test_bytes_come_down_as_they_are(wire: Wire, loopback: Loopback) -> None:
    loopback.answers = [say(206, b"\x1f\x8bzip", Content_Encoding="gzip")]

    wanted = objects.ReadContent(workspace="w", version="v")
    response = wire.open("objects.content", wanted, headers={"Range": "bytes=0-4"})
    with wire.reading():
        data = response.read()
    response.release_conn()

    assert (response.status, data) == (206, b"\x1f\x8bzip")
    assert loopback.requests[0][2]["range"] == "bytes=0-4"
    assert loopback.requests[0][2]["accept-encoding"] == "identity"


def test_a_body_that_breaks_off_is_our_own_error(wire: Wire, loopback: Loopback) -> None:
    loopback.answers = [break_off]

    response = wire.open("objects.content", objects.ReadContent(workspace="w", version="v"))
    with pytest.raises(UnreachableError), wire.reading():
        response.read()
    response.close()


def test_a_listing_that_breaks_off_is_asked_for_again(wire: Wire, loopback: Loopback) -> None:
    loopback.answers = [break_off, say(200, b"a\nb\n")]

    assert wire.read("assets.keys", assets.ListKeys(workspace="w")) == b"a\nb\n"


def test_a_refused_download_is_the_servers_error(wire: Wire, loopback: Loopback) -> None:
    loopback.answers = [say(404, {"code": "key_not_found", "detail": "no"})]

    with pytest.raises(KeyNotFoundError):
        wire.open("objects.content", objects.ReadContent(workspace="w", version="v"))


class Unseekable(io.RawIOBase):
    def __init__(self, data: bytes) -> None:
        self._file = io.BytesIO(data)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        return self._file.readinto(buffer)


def send(wire: Wire, body: Any, size: int) -> objects.Blob:
    return wire.send("objects.upload", objects.UploadBlob(workspace="w"), body=body, size=size, reply=objects.Blob)


@pytest.mark.parametrize("make", [bytes, io.BytesIO], ids=["bytes", "file"])
def test_bytes_go_up_again_after_a_failure(wire: Wire, loopback: Loopback, make: Callable[[bytes], Any]) -> None:
    loopback.answers = [say(503, b""), hang_up, say(200, {"sha256": "0" * 64, "size_bytes": 5})]

    assert send(wire, make(b"hello"), 5).size_bytes == 5
    assert [body for _, _, _, body in loopback.requests] == [b"hello"] * 3


def test_a_file_goes_up_from_where_it_stands(wire: Wire, loopback: Loopback) -> None:
    loopback.answers = [say(503, b""), say(200, {"sha256": "0" * 64, "size_bytes": 3})]
    file = io.BytesIO(b"hello")
    file.seek(2)

    send(wire, file, 3)

    assert [body for _, _, _, body in loopback.requests] == [b"llo"] * 2


@pytest.mark.parametrize("body", [Unseekable(b"hello"), iter([b"he", b"llo"])], ids=["pipe", "iterator"])
def test_what_cannot_be_read_twice_is_sent_once(wire: Wire, loopback: Loopback, body: Any) -> None:
    loopback.answers = [say(503, b"")]

    with pytest.raises(UnavailableError):
        send(wire, body, 5)

    assert [body for _, _, _, body in loopback.requests] == [b"hello"]


def test_a_refused_token_is_renewed_once_and_the_call_repeated(wire: Wire, loopback: Loopback) -> None:
    refused = say(401, {"code": "unauthenticated", "detail": "expired"})
    loopback.answers = [refused, say(200, new_token("secret-2")), say(200, ME)]

    assert who(wire).user == "ada"
    who(wire)

    asked = [(path, headers["authorization"]) for _, path, headers, _ in loopback.requests]
    assert asked == [
        ("/api/v1/me", "Bearer secret-1"),
        ("/api/v1/tokens/renew", "Bearer secret-1"),
        ("/api/v1/me", "Bearer secret-2"),
        ("/api/v1/me", "Bearer secret-2"),
    ]


def test_bytes_go_up_again_under_a_renewed_token(wire: Wire, loopback: Loopback) -> None:
    refused = say(401, {"code": "unauthenticated", "detail": "expired"})
    loopback.answers = [refused, say(200, new_token("secret-2")), say(200, {"sha256": "0" * 64, "size_bytes": 5})]

    send(wire, io.BytesIO(b"hello"), 5)

    assert [body for _, _, _, body in loopback.requests] == [b"hello", b"{}", b"hello"]


def test_a_token_is_renewed_before_its_end_at_the_address_given(loopback: Loopback, waits: list[float]) -> None:
    now = datetime(2026, 1, 1, tzinfo=UTC)
    refused = say(401, {"code": "unauthenticated", "detail": "expired"})
    fresh = [say(200, new_token(f"secret-{number}", now + timedelta(seconds=900 * (number - 1)))) for number in (2, 3)]
    loopback.answers = [refused, fresh[0], say(200, ME), say(200, ME), fresh[1], say(200, ME)]

    with Wire(LAB, "secret-1", refresh_url=loopback.url + "/hub/renew", sleep=waits.append, clock=lambda: now) as wire:
        wire.url = loopback.url
        who(wire)
        who(wire)
        now += timedelta(seconds=850)
        who(wire)

    asked = [(path, headers["authorization"][-1]) for _, path, headers, _ in loopback.requests]
    me, hub = "/api/v1/me", "/hub/renew"
    assert asked == [(me, "1"), (hub, "1"), (me, "2"), (me, "2"), (hub, "2"), (me, "3")]


def test_a_token_that_cannot_be_renewed_says_why_it_was_refused(wire: Wire, loopback: Loopback) -> None:
    refused = say(401, {"code": "unauthenticated", "detail": "this token was revoked"})
    loopback.answers = [refused, say(400, {"code": "invalid_request", "detail": "only kernel tokens"}), refused]

    for _ in range(2):
        with pytest.raises(AuthenticationError, match="revoked"):
            who(wire)

    assert [path for _, path, _, _ in loopback.requests] == ["/api/v1/me", "/api/v1/tokens/renew", "/api/v1/me"]


def test_threads_share_one_renewal(wire: Wire, loopback: Loopback) -> None:
    def answer(handler: BaseHTTPRequestHandler) -> None:
        if handler.path.endswith("/renew"):
            say(200, new_token("secret-2"))(handler)
        elif handler.headers["Authorization"] == "Bearer secret-2":
            say(200, ME)(handler)
        else:
            say(401, {"code": "unauthenticated", "detail": "expired"})(handler)

    loopback.answers = [answer]
    threads = [threading.Thread(target=who, args=(wire,)) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert [path for _, path, _, _ in loopback.requests].count("/api/v1/tokens/renew") == 1


def test_a_closed_wire_says_so(wire: Wire, waits: list[float]) -> None:
    wire.close()

    with pytest.raises(UnreachableError, match="is closed"):
        who(wire)
    assert waits == []


def test_the_wire_shows_no_token(wire: Wire) -> None:
    assert "secret" not in repr(wire)
    assert "secret" not in repr(vars(wire))


def test_reading_leaves_our_own_errors_alone(wire: Wire) -> None:
    with pytest.raises(UnavailableError), wire.reading():
        raise UnavailableError("as it was")
