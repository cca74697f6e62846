"""Who takes much waits; nobody waits for them."""

from __future__ import annotations

import asyncio
import threading
import time
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import pytest

from epista.contract.endpoints import BY_NAME
from epista.contract.errors import UnavailableError
from epista.server.engines.extraction import Extractor
from epista.server.engines.images import ImageReader
from epista.server.routes import turns
from epista.server.routes.turns import Turns
from epista.server.services import pixels
from tests.makers import Api, Server
from tests.processes import wait_until
from tests.server.test_images import PIXELS, ask, ome, opened


def test_the_endpoints_that_may_wait_exist() -> None:
    assert BY_NAME.keys() >= turns.SLOW | turns.LOOKS


def test_reads_are_answered_while_every_slow_thread_is_taken(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    api = server.api()
    api.put("there.txt", b"words")
    go_on = threading.Event()
    waiting: list[None] = []

    def texts(_: Extractor, jobs: list[Any]) -> list[str]:
        waiting.append(None)
        go_on.wait(60)
        return [""] * len(jobs)

    monkeypatch.setattr(Extractor, "texts", texts)
    ada = server.member("ada", "editor")
    digests = {who: who.upload(b"more words") for who in (api, ada)}
    # More than all threads that requests share, were they not apart.
    with ThreadPoolExecutor(60) as callers:

        def put(who: Api, n: int) -> Future[Any]:
            return callers.submit(who.post, "~/objects", objects=[{"key": f"{n}.txt", "sha256": digests[who]}])

        puts = [put(api, n) for n in range(30)]
        try:
            wait_until(lambda: len(waiting) == turns.SLOW_THREADS // 2, "one caller has all that one may have")
            puts += [put(ada, n) for n in range(30, 60)]
            wait_until(lambda: len(waiting) == turns.SLOW_THREADS, "the slow threads are taken")
            assert api.keys() == ["there.txt"]
            assert api.get_asset("there.txt").status_code == 200
        finally:
            go_on.set()
        assert {put.result().status_code for put in puts} == {200}
    assert len(api.keys()) == 61


@pytest.mark.parametrize("what", ["rendering", "info", "view", "thumbnail?max_px=9", "preview"])
def test_who_looks_at_what_takes_long_holds_up_no_write_and_no_other_look(
    server: Server, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    ada, bob = server.member("ada", "editor"), server.member("bob", "editor")
    ada.put("slow.tif", ome(PIXELS + 1))
    bob.put("quick.tif", ome())
    addresses = {api: opened(api, key) for api, key in ((ada, "slow.tif"), (bob, "quick.tif"))}
    ask(f"{addresses[bob]}/thumbnail?max_px=16")
    go_on = threading.Event()
    waiting: list[None] = []
    read = ImageReader.index

    def index(*given: Any) -> bytes:
        waiting.append(None)
        go_on.wait(60)
        return read(*given)

    monkeypatch.setattr(ImageReader, "index", index)
    monkeypatch.setattr(pixels, "MADE_SECONDS", 60)

    def look() -> int:
        if what == "preview":
            return ada.call("GET", "~/preview", params={"ref": "slow.tif"}).status_code
        return ask(f"{addresses[ada]}/{what}").status_code

    # More than all threads that requests share.
    with ThreadPoolExecutor(60) as callers:
        looks = [callers.submit(look) for _ in range(60)]
        try:
            wait_until(lambda: bool(waiting), "somebody waits for a child")
            time.sleep(0.5)
            bob.put("more.txt", b"words")
            assert bob.get_asset("more.txt").status_code == 200
            assert ask(f"{addresses[bob]}/thumbnail?max_px=8").status_code == 200
            assert ask(f"{addresses[bob]}/info").status_code == 200
            assert not any(one.done() for one in looks)
        finally:
            go_on.set()
        assert {one.result() for one in looks} == {200}


def test_one_caller_has_a_quarter_of_the_turns_and_leaves_the_others_alone() -> None:
    async def story() -> None:
        at = Turns(8, wait_seconds=0.05)
        async with at.turn("ada"), at.turn("ada"):
            with pytest.raises(UnavailableError):
                async with at.turn("ada"):
                    pass
            async with at.turn("bob"):
                pass
        async with at.turn("ada"), at.turn("ada"):
            pass

    asyncio.run(story())


def test_there_are_only_so_many_turns_and_each_comes_back() -> None:
    async def story() -> None:
        at = Turns(2, wait_seconds=0.05)
        for _ in range(3):
            async with at.turn("ada"), at.turn("bob"):
                with pytest.raises(UnavailableError):
                    async with at.turn("eve"):
                        pass
        with pytest.raises(ZeroDivisionError):
            async with at.turn("ada"):
                raise ZeroDivisionError
        async with at.turn("eve"), at.turn("ada"):
            pass

    asyncio.run(story())


def test_who_waits_gets_the_turn_that_is_given_back() -> None:
    async def story() -> None:
        at = Turns(1, wait_seconds=5)
        order = []

        async def take(who: str) -> None:
            async with at.turn(who):
                order.append(who)
                await asyncio.sleep(0.01)

        await asyncio.gather(take("ada"), take("bob"), take("ada"), take("eve"))
        assert sorted(order) == ["ada", "ada", "bob", "eve"]

    asyncio.run(story())
