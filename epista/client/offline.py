"""
What a lab answered before, for when it cannot be reached.

Only with a cache, only for the token that it was answered to, and only while there is no answer: whatever the lab says when it
can be reached, a refusal too, is what counts.
"""

from __future__ import annotations

import json
import warnings
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from epista.client import listings
from epista.contract.errors import AuthenticationError, ForbiddenError, NotFoundError, UnreachableError

if TYPE_CHECKING:
    from collections.abc import Callable

    from epista.client.transfer.cache import Cache
    from epista.client.wire import Wire

Question = list[str | None]
"""What identifies an answer; of JSON."""


def answer(
    cache: Cache | None,
    wire: Wire,
    question: Question,
    ask: Callable[[], Any],
    *,
    also: Callable[[Any], list[Question]] = lambda _: [],
) -> Any:
    """
    Return what *ask* answers, which is JSON; if the lab cannot be reached, what it answered to *question* before, with a warning.

    *also* tells to which other questions an answer is the answer.
    """
    if cache is None:
        return ask()
    known = _known(cache, question)
    try:
        # When it was away a moment ago, and an answer is known, it gets one chance to be back, not five.
        found = wire.hurried(ask) if wire.is_away and known else ask()
    except UnreachableError as error:
        if known is None or error.details.get("lasts"):
            raise
        at = listings.moment(datetime.fromtimestamp(known["at"], UTC))
        warnings.warn(f"{wire.url} cannot be reached; this is what it said at {at} UTC, from the cache", stacklevel=3)
        return known["answer"]
    except AuthenticationError:
        cache.forget_all()
        raise
    except (ForbiddenError, NotFoundError):
        for one in (question, *(also(known["answer"]) if known else ())):
            cache.forget(json.dumps(one))
        raise
    text = json.dumps({"at": datetime.now(UTC).timestamp(), "answer": found}).encode()
    for one in (question, *also(found)):
        cache.remember(json.dumps(one), text)
    return found


def _known(cache: Cache, question: Question) -> dict[str, Any] | None:
    try:
        found: dict[str, Any] = json.loads(cache.answer(json.dumps(question)) or b"null")
    except ValueError:  # broken on the disk
        return None
    return found
