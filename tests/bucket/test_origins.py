"""What was read goes into what is written, without being asked for; and nobody learns of what he may not read."""

from __future__ import annotations

import threading
from pathlib import Path

import pandas as pd
import pytest

import epista
from epista.client.filesystem import EpistaFileSystem
from epista.contract.errors import NotFoundError
from tests.makers import Server

PLATE = pd.DataFrame({"well": ["A1", "A2"], "value": [1.0, 2.5]})


def names(sources: tuple[object, ...]) -> list[str]:
    return [f"{source.key}@{source.number}" for source in sources]  # type: ignore[attr-defined]


def test_what_was_read_goes_into_what_is_put_after_it(ws: epista.Workspace, tmp_path: Path) -> None:
    for key in ("a.csv", "b.csv", "c.csv", "d.csv", "unread.csv"):
        ws.put(f"EXP-1/{key}", PLATE, inputs=[])
    ws.deserialize("EXP-1/a.csv")
    ws.fetch("EXP-1/b.csv", tmp_path)
    with ws.open("EXP-1/c.csv") as stream:
        stream.read()
    result = ws.query('SELECT avg(value) AS mean FROM "EXP-1/d.csv"')
    with EpistaFileSystem(session=ws).open("EXP-1/unread.csv") as file:
        file.read()

    ws.put("EXP-1/made.csv", PLATE)
    lineage = ws.get("EXP-1/made.csv").lineage

    assert names(lineage.inputs) == [f"EXP-1/{key}@1" for key in ("a.csv", "b.csv", "c.csv", "d.csv", "unread.csv")]
    assert lineage.activity is not None
    assert [(query.id, query.sql) for query in lineage.activity.queries] == [
        (result.query_id, 'SELECT avg(value) AS mean FROM "EXP-1/d.csv"')
    ]
    assert names(ws.get("EXP-1/d.csv").lineage.outputs) == ["EXP-1/made.csv@1"]


def test_a_run_narrows_what_goes_in_and_names_what_was_done(ws: epista.Workspace) -> None:
    for key in ("a.csv", "b.csv"):
        ws.put(f"EXP-1/{key}", PLATE, inputs=[])
    ws("EXP-1/a.csv")
    with ws.run("normalise plates"):
        ws("EXP-1/b.csv")
        ws.put("EXP-1/made.csv", PLATE)
    ws.put("EXP-1/later.csv", PLATE)

    made, later = (ws.get(f"EXP-1/{key}").lineage for key in ("made.csv", "later.csv"))

    assert made.activity is not None
    assert made.activity.told.title == "normalise plates"
    assert names(made.inputs) == ["EXP-1/b.csv@1"]
    assert names(later.inputs) == ["EXP-1/a.csv@1", "EXP-1/b.csv@1"]


def test_inputs_that_are_stated_take_the_place_of_those_that_were_noted(ws: epista.Workspace) -> None:
    for key in ("a.csv", "b.csv", "c.csv"):
        ws.put(f"EXP-1/{key}", PLATE, inputs=[])
    ws("EXP-1/a.csv")
    first = ws.query('SELECT * FROM "EXP-1/b.csv"')
    ws.query('SELECT * FROM "EXP-1/c.csv"')

    ws.put("EXP-1/of-result.csv", first, inputs=first)
    ws.put("EXP-1/of-both.csv", PLATE, inputs=[first, "EXP-1/a.csv"])
    ws.put("EXP-1/of-none.csv", PLATE, inputs=[])

    assert names(ws.get("EXP-1/of-result.csv").lineage.inputs) == ["EXP-1/b.csv@1"]
    assert names(ws.get("EXP-1/of-both.csv").lineage.inputs) == ["EXP-1/a.csv@1", "EXP-1/b.csv@1"]
    assert ws.get("EXP-1/of-none.csv").lineage.inputs == ()
    with pytest.raises(NotFoundError, match="ve_0000000000000000000000000000"):
        ws.put("EXP-1/wrong.csv", PLATE, inputs=["ve_0000000000000000000000000000"])


def test_metadata_and_appended_rows_lead_on_to_the_version_before(ws: epista.Workspace) -> None:
    ws.put("EXP-1/raw.csv", PLATE, inputs=[])
    ws.put("EXP-1/rows.parquet", PLATE, inputs=["EXP-1/raw.csv"])
    ws.append("EXP-1/rows.parquet", PLATE, inputs=[])
    ws.set_meta("EXP-1/rows.parquet", {"reader": "Tecan"})

    made = {version.number: names(version.lineage.inputs) for version in ws.versions("EXP-1/rows.parquet")}

    assert made == {1: ["EXP-1/raw.csv@1"], 2: ["EXP-1/rows.parquet@1"], 3: ["EXP-1/rows.parquet@2"]}


def test_nothing_comes_of_itself(ws: epista.Workspace) -> None:
    first = ws.put("EXP-1/a.csv", PLATE)
    ws.put("EXP-1/b.csv", ws("EXP-1/a.csv").assign(more=1))
    ws("EXP-1/b.csv")
    again = ws.put("EXP-1/a.csv", PLATE)

    assert again.version == first.version
    assert ws.get("EXP-1/a.csv").lineage.inputs == ()


def test_a_folder_of_files_shares_what_was_read(ws: epista.Workspace, folder: Path) -> None:
    ws.put("EXP-1/raw.csv", PLATE, inputs=[])
    ws("EXP-1/raw.csv")
    for number in range(30):
        (folder / f"{number:02}.txt").write_text(f"{number}")

    made = ws.put_dir("EXP-1/out/", folder)

    assert {tuple(names(asset.lineage.inputs)) for asset in made} == {("EXP-1/raw.csv@1",)}
    outputs = ws.get("EXP-1/raw.csv").lineage.outputs
    assert sorted(names(outputs)) == [f"EXP-1/out/{number:02}.txt@1" for number in range(30)]


def test_threads_do_not_mix_their_runs(ws: epista.Workspace) -> None:
    def work(name: str) -> None:
        with ws.run(name):
            for _ in range(5):
                ws(f"EXP-1/{name}.csv")
                ws.put(f"EXP-1/of-{name}.csv", PLATE, meta={"of": name})

    for name in ("a", "b", "c"):
        ws.put(f"EXP-1/{name}.csv", PLATE, inputs=[])
    threads = [threading.Thread(target=work, args=[name]) for name in ("a", "b", "c")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    for name in ("a", "b", "c"):
        lineage = ws.get(f"EXP-1/of-{name}.csv").lineage
        assert names(lineage.inputs) == [f"EXP-1/{name}.csv@1"]
        assert lineage.activity is not None
        assert lineage.activity.told.title == name


def test_what_was_erased_is_left_out_and_does_not_stop_a_put(ws: epista.Workspace) -> None:
    ws.put("EXP-1/secret.csv", PLATE, inputs=[])
    ws.put("EXP-1/a.csv", PLATE, inputs=[])
    ws("EXP-1/secret.csv")
    ws("EXP-1/a.csv")
    ws.query('SELECT * FROM "EXP-1/secret.csv"')
    ws.put("EXP-1/before.csv", PLATE)
    ws.delete("EXP-1/secret.csv")
    ws.purge("EXP-1/secret.csv")

    ws.put("EXP-1/after.csv", PLATE)

    for key in ("before", "after"):
        assert names(ws.get(f"EXP-1/{key}.csv").lineage.inputs) == ["EXP-1/a.csv@1"]


def test_a_restricted_member_learns_of_nothing_that_he_may_not_read(server: Server) -> None:
    ada = server.member("ada", experiments=["EXP-1"])
    with (
        epista.Workspace(server.url, token=server.manager, workspace="lab") as ws,
        epista.Workspace(server.url, token=ada.token, workspace="lab") as narrow,
    ):
        ws.put("EXP-1/open.csv", PLATE, inputs=[])
        ws.put("EXP-2/secret.csv", PLATE, inputs=[])
        ws("EXP-1/open.csv")
        ws("EXP-2/secret.csv")
        mixed = ws.query('SELECT * FROM "EXP-1/open.csv" JOIN "EXP-2/secret.csv" USING (well)')
        fine = ws.query('SELECT * FROM "EXP-1/open.csv"')
        ws.put("EXP-1/made.csv", PLATE)
        ws.put("EXP-2/made.csv", PLATE, inputs=["EXP-1/open.csv"])

        seen = narrow.get("EXP-1/made.csv").lineage

        assert names(seen.inputs) == ["EXP-1/open.csv@1"]
        assert seen.activity is not None
        assert {query.id: query.sql for query in seen.activity.queries} == {
            mixed.query_id: None,
            fine.query_id: 'SELECT * FROM "EXP-1/open.csv"',
        }
        assert names(narrow.get("EXP-1/open.csv").lineage.outputs) == ["EXP-1/made.csv@1"]
        assert names(ws.get("EXP-1/open.csv").lineage.outputs) == ["EXP-2/made.csv@1", "EXP-1/made.csv@1"]

        # The query still hides when the secret is gone for good.
        ws.delete("EXP-2/secret.csv")
        ws.purge("EXP-2/secret.csv")
        after = narrow.get("EXP-1/made.csv").lineage.activity
        assert after is not None
        assert {query.sql for query in after.queries} == {None, 'SELECT * FROM "EXP-1/open.csv"'}


def test_what_others_asked_is_not_claimed(server: Server) -> None:
    ada = server.member("ada", experiments=["EXP-1"])
    with (
        epista.Workspace(server.url, token=server.manager, workspace="lab") as ws,
        epista.Workspace(server.url, token=ada.token, workspace="lab") as narrow,
    ):
        ws.put("EXP-2/secret.csv", PLATE, inputs=[])
        asked = ws.query('SELECT * FROM "EXP-2/secret.csv"')
        secret = ws.get("EXP-2/secret.csv").version

        narrow.provenance.queried(asked.query_id)
        narrow.provenance.read([secret])
        narrow.put("EXP-1/made.csv", PLATE)

        lineage = ws.get("EXP-1/made.csv").lineage
        assert lineage.inputs == ()
        assert ws.get("EXP-2/secret.csv").lineage.outputs == ()
