"""An S3 store that answers with errors, resets, stalls and half bodies: nothing is lost, nothing partial appears."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable, Iterator

import pytest

from epista.contract.errors import EpistaError, UnavailableError
from epista.server.stores.blobs import CHUNK, Stored
from epista.server.stores.s3 import S3Blobs
from tests.faults.proxy import Fault, Proxy, proxied
from tests.processes import wait_until
from tests.seaweed import Seaweed

LARGE = random.Random(5).randbytes(20 * CHUNK + 7)
"""Three parts."""

STALL_SECONDS = 2.0


@pytest.fixture(scope="module")
def proxy_of_all(seaweed: Seaweed) -> Iterator[Proxy]:
    with proxied(seaweed.url) as proxy:
        yield proxy


@pytest.fixture
def proxy(proxy_of_all: Proxy) -> Iterator[Proxy]:
    proxy_of_all.forget()
    yield proxy_of_all
    proxy_of_all.heal()


@pytest.fixture
def store(seaweed: Seaweed, proxy: Proxy) -> S3Blobs:
    return S3Blobs(seaweed.new_place(proxy.url), stall_seconds=STALL_SECONDS, retry_seconds=30)


@pytest.fixture
def impatient(seaweed: Seaweed, proxy: Proxy) -> S3Blobs:
    """A store whose requests are given up soon."""
    return S3Blobs(seaweed.new_place(proxy.url), stall_seconds=STALL_SECONDS, retry_seconds=3)


def stored(store: S3Blobs, data: bytes) -> Stored:
    incoming = store.create(size=len(data))
    for at in range(0, len(data), CHUNK):
        incoming.write(data[at : at + CHUNK])
    return incoming.finish()


def whole(store: S3Blobs, one: Stored) -> bytes:
    return b"".join(store.read(one.object, 0, one.size))


PUTS = {
    "a small object": (b"cells", Fault("500", method="PUT")),
    "the begin of a large one": (LARGE, Fault("500", method="POST", holding="uploads")),
    "a part": (LARGE, Fault("500", method="PUT", holding="partNumber=2")),
    "its end": (LARGE, Fault("500", method="POST", holding="uploadId")),
}


@pytest.mark.parametrize("kind", ["500", "slow down", "reset", "stall"])
@pytest.mark.parametrize("where", PUTS)
def test_a_store_that_fails_for_a_moment_gets_the_bytes_all_the_same(store: S3Blobs, proxy: Proxy, kind: str, where: str) -> None:
    data, fault = PUTS[where]
    fault = Fault(kind, method=fault.method, holding=fault.holding)  # type: ignore[arg-type]
    proxy.fail(fault, fault)

    one = stored(store, data)

    assert proxy.waiting == []
    assert whole(store, one) == data
    assert [found.object for found in store.objects()] == [one.object]
    # Begun without an answer: nobody else knows of it.
    for left in store.unfinished():
        store.abandon(left.object)
    assert list(store.unfinished()) == []
    assert whole(store, one) == data


@pytest.mark.parametrize("kind", ["500", "slow down", "reset", "stall"])
def test_a_read_is_begun_again_when_the_store_fails_for_a_moment(store: S3Blobs, proxy: Proxy, kind: str) -> None:
    one = stored(store, LARGE)
    proxy.fail(Fault(kind, method="GET"), Fault(kind, method="GET"))  # type: ignore[arg-type]

    assert whole(store, one) == LARGE


@pytest.mark.parametrize("kind", ["cut", "stall"])
@pytest.mark.parametrize("quarter", [1, 2, 3])
def test_a_read_goes_on_where_its_connection_was_cut(store: S3Blobs, proxy: Proxy, kind: str, quarter: int) -> None:
    one = stored(store, LARGE)
    proxy.fail(Fault(kind, method="GET", after=quarter * len(LARGE) // 4))  # type: ignore[arg-type]

    assert whole(store, one) == LARGE
    assert proxy.waiting == []


def test_a_store_that_fails_for_long_is_unavailable_and_keeps_nothing(impatient: S3Blobs, proxy: Proxy) -> None:
    proxy.fail(*[Fault("slow down", holding="partNumber=2")] * 100)

    with pytest.raises(UnavailableError) as caught:
        stored(impatient, LARGE)

    assert caught.value.hint == "try again in a moment"
    assert "nothing was recorded" in caught.value.message
    proxy.heal()
    assert list(impatient.objects()) == []
    wait_until(lambda: not list(impatient.unfinished()), "the parts are taken back")


@pytest.mark.parametrize("what", ["read", "small", "list", "delete", "begin", "unfinished"])
def test_no_error_of_a_third_party_comes_through(impatient: S3Blobs, proxy: Proxy, what: str) -> None:
    one = stored(impatient, b"cells")
    proxy.fail(*[Fault("500")] * 100)
    verbs: dict[str, Callable[[], object]] = {
        "read": lambda: whole(impatient, one),
        "small": lambda: stored(impatient, b"more"),
        "list": lambda: list(impatient.objects()),
        "delete": lambda: impatient.delete(one.object),
        "begin": lambda: impatient.begin(1),
        "unfinished": lambda: list(impatient.unfinished()),
    }

    with pytest.raises(EpistaError) as caught:
        verbs[what]()

    assert isinstance(caught.value, UnavailableError)
    assert "tests-secret" not in f"{caught.value!r}{caught.value.__cause__!r}"


def test_a_store_that_refuses_is_told_apart_at_once(impatient: S3Blobs, proxy: Proxy) -> None:
    proxy.fail(*[Fault("forbidden")] * 3)

    with pytest.raises(UnavailableError, match="refuses") as caught:
        stored(impatient, b"cells")

    assert "settings" in str(caught.value.hint)
    assert len(proxy.waiting) == 2


def test_bytes_wait_for_a_slow_store_instead_of_filling_the_memory(store: S3Blobs, proxy: Proxy) -> None:
    proxy.fail(*[Fault("stall", holding="partNumber")] * 4)
    incoming = store.create(size=200 * CHUNK)
    written: list[int] = []

    def write() -> None:
        for number in range(200):
            incoming.write(bytes(CHUNK))
            written.append(number)

    writing = threading.Thread(target=write)
    writing.start()
    wait_until(lambda: not proxy.waiting, "the store stalls")
    writing.join(STALL_SECONDS / 2)
    ahead = len(written)
    writing.join()

    assert ahead <= 8 * (4 + 2) + 5
    assert incoming.finish().size == 200 * CHUNK


@pytest.mark.parametrize("kind", ["500", "slow down", "reset", "stall"])
@pytest.mark.parametrize(
    ("method", "holding"), [("POST", "uploads="), ("PUT", "partNumber=1"), ("POST", "uploadId")], ids=["begin", "part", "join"]
)
def test_an_object_in_parts_outlives_a_moment(store: S3Blobs, proxy: Proxy, kind: str, method: str, holding: str) -> None:
    proxy.fail(Fault(kind, method=method, holding=holding))  # type: ignore[arg-type]

    unfinished = store.begin(len(LARGE))
    tags = []
    for number, start in enumerate((0, 8 * CHUNK, 16 * CHUNK), 1):
        part = store.part(unfinished, number, start)
        part.write(LARGE[start : start + 8 * CHUNK])
        tags.append(part.finish())
    object = store.join(unfinished, tags)

    assert proxy.waiting == []
    assert b"".join(store.read(object, 0, len(LARGE))) == LARGE
