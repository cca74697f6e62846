"""The server's log says where a fault came up, and nothing of what users sent."""

from __future__ import annotations

import io
import json
import logging
import sys

import pytest

from epista.server import logs


def test_the_log_of_a_fault_has_its_place_and_not_its_message(monkeypatch: pytest.MonkeyPatch) -> None:
    said = io.StringIO()
    root = logging.getLogger()
    monkeypatch.setattr(sys, "stderr", said)
    monkeypatch.setattr(root, "handlers", [])
    before = root.level
    logs.start("info")
    # Put together here, because a traceback quotes the source.
    key = "-".join(("patient", "17.csv"))
    try:
        try:
            dict[str, str]()[key]
        except KeyError as error:
            raise ValueError(key) from error
    except ValueError:
        logging.getLogger("epista.test").exception("fault")
    finally:
        root.setLevel(before)

    line = json.loads(said.getvalue())
    assert "patient-17" not in said.getvalue()
    assert [part in line["traceback"] for part in ("KeyError", "ValueError", "test_logs.py")] == [True, True, True]
