"""Where a backup may go: anywhere for the user of an embedded lab, and below ``backup_root`` for a manager over the network."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from epista.server.config import Config
from tests import processes
from tests.faults import load
from tests.makers import Server


class TestWithoutARoot:
    def test_nothing_is_written_anywhere(self, server: Server, tmp_path: Path) -> None:
        answer = server.api().post("/lab/backup", destination=str(tmp_path / "copy"))

        assert (answer.status_code, answer.json()["code"]) == (403, "forbidden")
        assert "backup_root" in answer.json()["hint"]
        assert not (tmp_path / "copy").exists()


class TestWithARoot:
    @pytest.fixture
    def config(self, config: Config, tmp_path: Path) -> Config:
        return msgspec.structs.replace(config, backup_root=str(tmp_path / "backups"))

    def test_a_backup_below_it_is_a_lab(self, server: Server, tmp_path: Path) -> None:
        server.api().put("cells.txt", b"some cells")

        made = server.api().ok(server.api().post("/lab/backup", destination=str(tmp_path / "backups" / "monday")))

        assert made["blobs"] == 1
        with processes.embedded(tmp_path / "backups" / "monday") as copy:
            assert load.read_all(copy.api()) == {"cells.txt": b"some cells"}

    @pytest.mark.parametrize("way_out", ["../elsewhere", "link/elsewhere", "../backups-of-others/elsewhere"])
    def test_no_way_leads_out_of_it(self, server: Server, tmp_path: Path, way_out: str) -> None:
        (tmp_path / "backups").mkdir()
        (tmp_path / "backups" / "link").symlink_to(tmp_path)

        answer = server.api().post("/lab/backup", destination=f"{tmp_path}/backups/{way_out}")

        assert (answer.status_code, answer.json()["code"]) == (403, "forbidden")
        assert not any(found.name == "elsewhere" for found in tmp_path.rglob("elsewhere"))

    @pytest.mark.parametrize("destination", ["copy", "", "/\0", "~/copy"])
    def test_what_is_no_absolute_path_is_refused(self, server: Server, destination: str) -> None:
        answer = server.api().post("/lab/backup", destination=destination)

        assert (answer.status_code, answer.json()["code"]) == (400, "invalid_request")


def test_the_user_of_an_embedded_lab_may_put_a_backup_anywhere_else(tmp_path: Path) -> None:
    with processes.embedded(tmp_path / "lab") as server:
        api = server.api()
        api.put("cells.txt", b"some cells")

        api.ok(api.post("/lab/backup", destination=str(tmp_path / "copy")))
        inside = api.post("/lab/backup", destination=str(tmp_path / "lab" / "copy"))

        assert inside.status_code == 400
    with processes.embedded(tmp_path / "copy") as copy:
        assert load.read_all(copy.api()) == {"cells.txt": b"some cells"}
