"""How far a transfer has come."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from epista.client import objects
from epista.client.session import Session
from epista.client.transfer.progress import shown
from tests.client.transfer.faulty import Lab


@pytest.mark.parametrize(("setting", "visible"), [(True, True), (False, False), (None, False)])
def test_only_a_terminal_sees_progress_unless_a_setting_says_otherwise(
    here: Session, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, setting: bool | None, visible: bool
) -> None:
    monkeypatch.setattr(here, "_show_progress", setting)
    with shown(here, "fetch", 100_000_000) as progress:
        progress.advance(50_000_000)
        progress.note("3 left out")
    captured = capsys.readouterr()
    assert ("fetch" in captured.err) == visible
    assert ("3 left out" in captured.err) == visible
    assert not captured.out


def test_what_a_folder_leaves_out_is_counted_in_the_log(
    lab: Lab, here: Session, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / ".DS_Store").touch()
    (tmp_path / "a").touch()
    with caplog.at_level("INFO", logger="epista"):
        objects.put_dir(here, "t", tmp_path)
    assert "1 left out of" in caplog.text


def test_moving_bytes_loads_no_progress_bar_and_no_tables() -> None:
    code = (
        "import sys, epista.client.objects\n"
        "heavy = {'tqdm', 'pandas', 'pyarrow', 'numpy', 'pathspec'} & set(sys.modules)\n"
        "sys.exit(', '.join(heavy) or 0)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
