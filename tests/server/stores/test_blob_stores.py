"""What every store of bytes must do, whatever it keeps them in."""

from __future__ import annotations

import hashlib
import random
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import obstore.store
import pytest

from epista.contract.errors import IntegrityError, NotFoundError, UnavailableError
from epista.server.stores.blobs import CHUNK, BlobStore, Stored, digest, new_name, object_of
from epista.server.stores.local import LocalBlobs
from epista.server.stores.memory import MemoryBlobs
from epista.server.stores.remote import RemoteBlobs
from epista.server.stores.s3 import S3Blobs
from tests.processes import wait_until

LARGE = random.Random(3).randbytes(17 * CHUNK + 12_345)
"""More than any store keeps back before it begins to send."""


@pytest.fixture(params=["memory", "local", "remote", "s3"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> BlobStore:
    match request.param:
        case "local":
            return LocalBlobs(tmp_path)
        case "remote":
            return RemoteBlobs(obstore.store.MemoryStore())
        case "s3":
            return S3Blobs(request.getfixturevalue("bucket"))
    return MemoryBlobs()


def stored(store: BlobStore, data: bytes, piece: int = CHUNK) -> Stored:
    incoming = store.create()
    for at in range(0, len(data), piece):
        incoming.write(data[at : at + piece])
    return incoming.finish()


def whole(store: BlobStore, one: Stored) -> bytes:
    return b"".join(store.read(one.object, 0, one.size))


def names(store: BlobStore) -> set[str]:
    return {one.object for one in store.objects()}


@pytest.mark.parametrize("piece", [CHUNK, 300_007, 6 * CHUNK], ids=["chunks", "odd", "large"])
def test_what_was_written_is_read(store: BlobStore, piece: int) -> None:
    one = stored(store, LARGE, piece)

    assert (one.sha256, one.size) == (hashlib.sha256(LARGE).hexdigest(), len(LARGE))
    assert whole(store, one) == LARGE


@pytest.mark.parametrize("data", [b"", b"x", bytes(CHUNK), bytes(8 * CHUNK)], ids=["empty", "one", "chunk", "eight chunks"])
def test_any_length_can_be_stored(store: BlobStore, data: bytes) -> None:
    one = stored(store, data)

    assert one.size == len(data)
    assert whole(store, one) == data
    assert [found.size for found in store.objects()] == [len(data)]


def test_a_view_of_a_buffer_that_is_used_again_is_stored_as_it_was(store: BlobStore) -> None:
    buffer = bytearray(b"first")
    incoming = store.create()
    incoming.write(memoryview(buffer))
    buffer[:] = b"other"
    incoming.write(memoryview(buffer))

    assert whole(store, incoming.finish()) == b"firstother"


def test_a_part_is_read_from_its_start_to_its_stop_which_is_excluded(store: BlobStore) -> None:
    one = stored(store, LARGE)
    random_parts = random.Random(1)

    for start, stop in [(0, 1), (CHUNK - 1, CHUNK + 1), (5, 5), (0, 0), (one.size, one.size), (one.size - 1, one.size)]:
        assert b"".join(store.read(one.object, start, stop)) == LARGE[start:stop]
    for _ in range(10):
        start, stop = sorted(random_parts.choices(range(one.size), k=2))
        assert b"".join(store.read(one.object, start, stop)) == LARGE[start:stop]


def test_pieces_are_never_larger_than_a_chunk(store: BlobStore) -> None:
    one = stored(store, LARGE)

    sizes = [len(piece) for piece in store.read(one.object, 7, one.size)]

    assert max(sizes) <= CHUNK
    assert min(sizes) > 0


def test_what_is_near_is_how_the_rest_begins(store: BlobStore) -> None:
    one = stored(store, LARGE)

    for start, stop in [(0, 1), (0, one.size), (CHUNK - 1, CHUNK + 1), (one.size - 1, one.size), (5, 5)]:
        near = store.near(one.object, start, stop)
        assert len(near) <= min(CHUNK, stop - start)
        assert near == LARGE[start : start + len(near)]
    assert store.near(new_name(), 0, 1) == b""


@pytest.mark.parametrize("stop", [0, 1], ids=["nothing of it", "a byte of it"])
def test_a_missing_object_shows_before_the_first_piece(store: BlobStore, stop: int) -> None:
    with pytest.raises(IntegrityError, match="missing"):
        next(store.read(new_name(), 0, stop), None)


def test_an_object_that_ends_early_is_no_success(store: BlobStore) -> None:
    one = stored(store, b"cells")

    with pytest.raises(IntegrityError, match="shorter"):
        list(store.read(one.object, 0, 6))
    with pytest.raises(IntegrityError, match="shorter"):
        list(store.read(one.object, 1000, 1001))


@pytest.mark.parametrize("name", ["", "..", "../../etc/passwd", "A" * 32, "0" * 31, "0" * 33, "0" * 32 + "\n"])
def test_what_is_no_name_reaches_nothing(store: BlobStore, name: str) -> None:
    with pytest.raises(NotFoundError):
        next(store.read(name, 0, 1))
    with pytest.raises(NotFoundError):
        store.delete(name)


def test_a_read_can_be_left_at_any_point(store: BlobStore) -> None:
    one = stored(store, LARGE)

    unstarted = store.read(one.object, 0, one.size)
    unstarted.close()
    begun = store.read(one.object, 0, one.size)
    assert next(begun) == LARGE[: len(next(store.read(one.object, 0, CHUNK)))]
    begun.close()

    assert list(begun) == []


def test_nobody_sees_an_object_before_it_is_whole(store: BlobStore) -> None:
    incoming = store.create()
    incoming.write(LARGE)

    assert names(store) == set()
    with pytest.raises(IntegrityError):
        next(store.read(incoming.name, 0, 1))

    assert incoming.finish().object in names(store)


def test_discarded_bytes_leave_nothing(store: BlobStore) -> None:
    incoming = store.create()
    incoming.write(LARGE)
    incoming.discard()
    incoming.write(b"more")
    incoming.discard()

    assert names(store) == set()
    # A store may need a moment to take back what it has sent on.
    wait_until(lambda: not list(store.unfinished()), "nothing is left", seconds=10)
    assert store.sweep(0, dry_run=False) == (0, 0)


def test_a_discard_after_a_finish_takes_nothing_away(store: BlobStore) -> None:
    incoming = store.create()
    incoming.write(b"cells")
    one = incoming.finish()
    incoming.discard()

    assert whole(store, one) == b"cells"


def test_the_same_bytes_twice_are_two_objects(store: BlobStore) -> None:
    one, other = stored(store, b"cells"), stored(store, b"cells")
    store.delete(one.object)

    assert one.object != other.object
    assert one.sha256 == other.sha256
    assert whole(store, other) == b"cells"
    assert names(store) == {other.object}


def test_a_store_says_how_large_an_object_is_and_that_it_is_missing(store: BlobStore) -> None:
    one, empty = stored(store, b"three"), stored(store, b"")

    assert [store.size(one.object), store.size(empty.object), store.size(new_name())] == [5, 0, None]


def test_a_deleted_object_is_gone_and_can_be_deleted_again(store: BlobStore) -> None:
    one = stored(store, b"cells")
    store.delete(one.object)
    store.delete(one.object)

    with pytest.raises(IntegrityError):
        whole(store, one)
    assert names(store) == set()


def test_the_walk_tells_sizes_and_times(store: BlobStore) -> None:
    before = time.time()
    made = {one.object: one.size for one in (stored(store, bytes(size)) for size in (0, 1, 1000))}

    found = list(store.objects())

    assert {one.object: one.size for one in found} == made
    # A store may count whole seconds, and by a clock of its own.
    assert all(before - 60 < one.modified < time.time() + 60 for one in found)


def test_the_digest_of_a_part_tells_what_lies_there(store: BlobStore) -> None:
    one = stored(store, b"the cells of today")

    assert digest(store, one.object, 4, 5) == hashlib.sha256(b"cells").hexdigest()
    assert digest(store, one.object, 4, 500) is None
    assert digest(store, new_name(), 0, 1) is None


def test_a_file_where_there_is_one_holds_the_object(store: BlobStore) -> None:
    one = stored(store, b"cells")
    path = store.path(one.object)

    assert path is None or path.read_bytes() == b"cells"


def test_many_threads_store_and_read_at_once(store: BlobStore) -> None:
    def work(number: int) -> bool:
        data = random.Random(number).randbytes(200_000 + number)
        return whole(store, stored(store, data, 70_000)) == data

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(work, range(32)))
    assert len(names(store)) == 32


def test_a_discard_while_a_write_goes_on_leaves_nothing(store: BlobStore) -> None:
    for _ in range(5):
        incoming = store.create()
        writing = threading.Thread(target=lambda incoming=incoming: [incoming.write(bytes(CHUNK)) for _ in range(20)])
        writing.start()
        incoming.discard()
        writing.join()
        incoming.discard()

    assert names(store) == set()


PART = 5 * CHUNK + 7


def sent(store: BlobStore, unfinished: str, number: int) -> str:
    """Send a part of `LARGE`; return its tag."""
    start = (number - 1) * PART
    part = store.part(unfinished, number, start)
    try:
        for at in range(start, min(start + PART, len(LARGE)), CHUNK):
            part.write(LARGE[at : min(at + CHUNK, start + PART)])
        return part.finish()
    finally:
        part.discard()


def test_parts_in_any_order_become_an_object(store: BlobStore) -> None:
    unfinished = store.begin(len(LARGE))
    tags = {number: sent(store, unfinished, number) for number in (4, 2, 1, 3)}
    assert names(store) == set()
    assert [one.object for one in store.unfinished()] == [unfinished]

    object = store.join(unfinished, [tags[number] for number in sorted(tags)])

    assert b"".join(store.read(object, 0, len(LARGE))) == LARGE
    assert object == object_of(unfinished)
    assert store.join(unfinished, [tags[number] for number in sorted(tags)]) == object
    assert list(store.unfinished()) == []


def test_a_part_that_was_let_go_can_be_sent_again(store: BlobStore) -> None:
    unfinished = store.begin(len(LARGE))
    part = store.part(unfinished, 1, 0)
    part.write(b"wrong")
    part.discard()
    part.write(b"more")

    tags = [sent(store, unfinished, number) for number in (1, 2, 3, 4)]

    assert b"".join(store.read(store.join(unfinished, tags), 0, len(LARGE))) == LARGE


def test_two_senders_of_a_part_do_not_mix(store: BlobStore) -> None:
    unfinished = store.begin(len(LARGE))
    first = store.part(unfinished, 1, 0)
    first.write(LARGE[:CHUNK])
    try:
        second = store.part(unfinished, 1, 0)
    except UnavailableError:  # one at a time
        pass
    else:
        second.write(bytes(PART))
        second.finish()
        second.discard()
    for at in range(CHUNK, PART, CHUNK):
        first.write(LARGE[at : min(at + CHUNK, PART)])
    tags = [first.finish()]
    first.discard()
    tags += [sent(store, unfinished, number) for number in (2, 3, 4)]

    assert b"".join(store.read(store.join(unfinished, tags), 0, len(LARGE))) == LARGE


def test_finished_parts_can_be_read_where_the_store_has_them_at_hand(store: BlobStore) -> None:
    unfinished = store.begin(len(LARGE))
    sent(store, unfinished, 2)
    pieces = store.peek(unfinished, PART, 2 * PART)

    assert pieces is None or b"".join(pieces) == LARGE[PART : 2 * PART]


def test_an_abandoned_object_leaves_nothing(store: BlobStore) -> None:
    unfinished = store.begin(len(LARGE))
    tag = sent(store, unfinished, 1)
    part = store.part(unfinished, 2, PART)
    store.abandon(unfinished)
    store.abandon(unfinished)
    part.write(b"more")
    part.discard()

    assert list(store.unfinished()) == []
    with pytest.raises(IntegrityError):
        store.join(unfinished, [tag])
    assert names(store) == set()


def test_a_joined_object_cannot_be_abandoned(store: BlobStore) -> None:
    unfinished = store.begin(len(LARGE))
    object = store.join(unfinished, [sent(store, unfinished, number) for number in (1, 2, 3, 4)])
    store.abandon(unfinished)

    assert names(store) == {object}
