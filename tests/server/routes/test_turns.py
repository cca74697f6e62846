"""Who takes much waits; nobody waits for them."""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from epista.contract.endpoints import BY_NAME
from epista.contract.errors import UnavailableError
from epista.server.engines.extraction import Extractor
from epista.server.routes import turns
from epista.server.routes.turns import Turns
from tests.makers import Server
from tests.processes import wait_until


def test_the_endpoints_that_may_wait_exist() -> None:
    assert BY_NAME.keys() >= turns.SLOW


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
    digest = api.upload(b"more words")
    # More than all threads that requests share, were they not apart.
    with ThreadPoolExecutor(60) as callers:
        puts = [callers.submit(api.post, "~/objects", objects=[{"key": f"{n}.txt", "sha256": digest}]) for n in range(60)]
        try:
            wait_until(lambda: len(waiting) == turns.SLOW_THREADS, "the slow threads are taken")
            assert api.keys() == ["there.txt"]
            assert api.get_asset("there.txt").status_code == 200
        finally:
            go_on.set()
        assert {put.result().status_code for put in puts} == {200}
    assert len(api.keys()) == 61


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
