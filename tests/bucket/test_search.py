"""Search: items 58 to 69 of the acceptance list, except 64, which compares two databases."""

from __future__ import annotations

import itertools
import json
from collections import Counter
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

import pandas as pd
import pytest

import epista
from tests.makers import Clock, Server


def keys_of(hits: Iterable[epista.AssetRef]) -> list[str]:
    return [hit.key for hit in hits]


def test_58_a_put_is_found_by_the_next_search(ws: epista.Workspace, folder: Path) -> None:
    for number in range(5):
        ws.put(f"{number}.txt", f"needle{number}", tags=[f"tag{number}"], meta={"at": number})
        assert keys_of(ws.search(f"needle{number}")) == [f"{number}.txt"]
        assert keys_of(ws.search(f"tags:tag{number}")) == [f"{number}.txt"]
        assert keys_of(ws.search(f"user_meta.at:{number}")) == [f"{number}.txt"]
    (folder / "f.txt").write_text("haystack")
    ws.put_dir("d", folder)
    assert keys_of(ws.search("haystack")) == ["d/f.txt"]
    ws.set_meta("0.txt", {"at": "noon"})
    assert keys_of(ws.search("noon")) == ["0.txt"]


@pytest.mark.parametrize("query", ["user_meta.name:'thor odinson'", 'user_meta.name:"thor odinson"', "meta.name:'Thor Odinson'"])
def test_59_either_quote_makes_one_phrase(ws: epista.Workspace, query: str) -> None:
    ws.put("phrase.txt", "x", meta={"name": "Mr Thor Odinson, MD"})
    ws.put("reversed.txt", "x", meta={"name": "odinson thor"})
    ws.put("apart.txt", "x", meta={"name": "thor", "other": "odinson"})
    ws.put("listed.txt", "x", meta={"name": ["thor", "odinson"]})

    assert keys_of(ws.search(query)) == ["phrase.txt"]


def test_59_a_quote_within_a_word_opens_no_phrase(ws: epista.Workspace) -> None:
    ws.put("utr.txt", "the 5'-UTR of it")

    assert keys_of(ws.search("5'-UTR")) == ["utr.txt"]


def test_60_a_number_and_a_word_coexist_under_one_name(ws: epista.Workspace) -> None:
    ws.put("number.txt", "x", meta={"temp": 37})
    ws.put("word.txt", "x", meta={"temp": "warm"})
    ws.put("cold.txt", "x", meta={"temp": 4.5})
    ws.put("digits.txt", "x", meta={"temp": "37"})
    ws.put("list.txt", "x", meta={"temp": [1, 99]})

    assert sorted(keys_of(ws.search("user_meta.temp:>30"))) == ["list.txt", "number.txt"]
    assert keys_of(ws.search("user_meta.temp:warm")) == ["word.txt"]
    assert sorted(keys_of(ws.search("user_meta.temp:37"))) == ["digits.txt", "number.txt"]
    assert keys_of(ws.search('user_meta.temp:"37"')) == ["digits.txt"]
    assert sorted(keys_of(ws.search("user_meta.temp:[4.5 TO 37]"))) == ["cold.txt", "number.txt"]
    assert keys_of(ws.search("user_meta.temp:{4.5 TO 38}")) == ["number.txt"]
    assert ws.search("user_meta.temp:*").total == 5


def test_61_old_versions_never_match(ws: epista.Workspace) -> None:
    ws.put("x.txt", "alpha", tags=["one"], meta={"a": 1})
    ws.put("x.txt", "alpha beta", tags=["two"], meta={"a": 2})
    ws.put("x.txt", "beta gamma")

    assert ws.search("alpha").total == 0
    assert [ws.search(query).total for query in ("beta", "gamma", "x", "tags:two", "user_meta.a:2")] == [1, 1, 1, 1, 1]
    assert [ws.search(query).total for query in ("tags:one", "user_meta.a:1")] == [0, 0]
    assert len(list(ws.search("beta"))) == 1
    assert ws.search("").facets.tags == {"two": 1}


def test_62_a_size_is_decimal_and_its_limit_left_out(ws: epista.Workspace) -> None:
    for size in (999_999, 1_000_000, 1_000_001, 1_048_576, 1_048_577):
        ws.put(f"{size}.bin", bytes(size))

    assert sorted(keys_of(ws.search("size:>1MB"))) == ["1000001.bin", "1048576.bin", "1048577.bin"]
    assert sorted(keys_of(ws.search("size:>=1MB"))) == ["1000000.bin", "1000001.bin", "1048576.bin", "1048577.bin"]
    assert keys_of(ws.search("size:>1MiB")) == ["1048577.bin"]
    assert keys_of(ws.search("size:<1MB")) == ["999999.bin"]
    assert keys_of(ws.search("size:1000000")) == ["1000000.bin"]


def test_62_a_range_of_months_takes_all_of_the_last_one(server: Server, clock: Clock) -> None:
    api = server.api()
    year = datetime.now(UTC).year + 1
    instants = {
        "dec.bin": datetime(year - 1, 12, 31, 23, 59, 58, tzinfo=UTC),
        "jan.bin": datetime(year, 1, 1, tzinfo=UTC),
        "mar-1.bin": datetime(year, 3, 1, tzinfo=UTC),
        "mar-31.bin": datetime(year, 3, 31, 23, 59, 58, tzinfo=UTC),
        "apr.bin": datetime(year, 4, 1, tzinfo=UTC),
    }
    for key, at in instants.items():
        clock.ahead_seconds = (at - datetime.now(UTC)).total_seconds() + 0.5
        api.put(key)

    def found(query: str) -> list[str]:
        return sorted(hit["key"] for hit in api.ok(api.get("~/search", query=query))["hits"])

    assert found(f"created:[{year}-01 TO {year}-03]") == ["jan.bin", "mar-1.bin", "mar-31.bin"]
    assert found(f"created:{year}-03") == ["mar-1.bin", "mar-31.bin"]
    assert found(f"created:{year}-03-31") == ["mar-31.bin"]
    assert found(f"created:{{{year}-01 TO {year}-04}}") == ["mar-1.bin", "mar-31.bin"]
    assert found(f"created:[{year}-03-31 TO *]") == ["apr.bin", "mar-31.bin"]
    assert found(f"created:<{year}-01") == ["dec.bin"]


KINDS, TAGS = ("FLOW", "TABLE", "IMAGE"), ("qc", "old", "new")


class Made(NamedTuple):
    """What the brute force knows of an asset."""

    key: str
    kind: str
    tags: tuple[str, ...]
    temp: int | None


def many(ws: epista.Workspace, folder: Path) -> list[Made]:
    """Put 200 assets, of every kind with every set of tags."""
    sets = [tags for size in range(4) for tags in itertools.combinations(TAGS, size)]
    made = []
    for kind, (place, tags) in itertools.product(KINDS, enumerate(sets)):
        part = folder / f"{kind}-{place}"
        part.mkdir()
        for number in range(9 if tags else 4):
            (part / f"{number}.{ {'FLOW': 'fcs', 'TABLE': 'csv', 'IMAGE': 'tif'}[kind] }").write_bytes(b"")
        for asset in ws.put_dir(part.name, part, tags=tags, meta=lambda name: {"temp": int(name[0])} if int(name[0]) % 2 else {}):
            number = int(asset.name[0])
            made.append(Made(asset.key, asset.kind, asset.tags, number if number % 2 else None))
    return made


QUERIES: dict[str, Callable[[Made], bool]] = {
    "kind:flow AND NOT (tags:qc OR tags:old)": lambda a: a.kind == "FLOW" and not ("qc" in a.tags or "old" in a.tags),
    "kind:flow -tags:qc": lambda a: a.kind == "FLOW" and "qc" not in a.tags,
    "kind:flow OR tags:qc tags:old": lambda a: a.kind == "FLOW" or ("qc" in a.tags and "old" in a.tags),
    "NOT kind:flow tags:new": lambda a: a.kind != "FLOW" and "new" in a.tags,
    "NOT (kind:flow tags:new)": lambda a: not (a.kind == "FLOW" and "new" in a.tags),
    "kind:(flow OR table) user_meta.temp:>=5": lambda a: a.kind in ("FLOW", "TABLE") and (a.temp or 0) >= 5,
    "NOT user_meta.temp:* NOT tags:*": lambda a: a.temp is None and not a.tags,
    "tags:(qc old new) OR user_meta.temp:3 AND kind:image": lambda a: len(a.tags) == 3 or (a.temp == 3 and a.kind == "IMAGE"),
    "NOT NOT tags:qc": lambda a: "qc" in a.tags,
    "": lambda a: True,
}


def test_63_operators_equal_a_brute_force_filter(ws: epista.Workspace, folder: Path) -> None:
    made = many(ws, folder)
    assert len(made) == 201
    for query, holds in QUERIES.items():
        expected = [asset for asset in made if holds(asset)]
        hits = ws.search(query, limit=37)
        assert hits.total == len(expected) == len(hits)
        assert sorted(keys_of(hits)) == sorted(asset.key for asset in expected)
        assert hits.facets.kind == Counter(asset.kind for asset in expected)
        assert hits.facets.tags == Counter(tag for asset in expected for tag in asset.tags)


@pytest.mark.parametrize(
    ("query", "column"), [("kind:(flow", 6), ("nosuch:x", 1), ("a AND", 6), ("a )", 3), ('tags:"qc', 6), ("size:>big", 7)]
)
def test_65_a_bad_query_fails_with_the_column(ws: epista.Workspace, query: str, column: int) -> None:
    with pytest.raises(epista.SearchSyntaxError) as failure:
        ws.search(query)

    assert failure.value.column == column
    assert isinstance(failure.value, ValueError)
    line, caret = str(failure.value.hint).splitlines()[:2]
    assert line == query
    assert caret.index("^") == column - 1


def test_65_a_misspelt_field_names_the_nearest_and_an_unknown_path_is_a_note(ws: epista.Workspace) -> None:
    ws.put("x.txt", "x", meta={"temperature": 37})

    with pytest.raises(epista.SearchSyntaxError, match="kind"):
        ws.search("knd:flow")
    hits = ws.search("user_meta.temprature:37")

    assert hits.total == 0
    assert hits.notes == ("no asset has metadata at 'temprature'; nearest: 'temperature'",)


@pytest.mark.parametrize(
    "query", ["EXP-12/cells.fcs", "cells.fcs", "EXP-12", "key:EXP-12/cells.fcs", "key:EXP-12/", "exp-12/CELLS"]
)
def test_66_a_key_needs_no_quoting(ws: epista.Workspace, query: str) -> None:
    ws.put("EXP-12/cells.fcs", b"not really")
    ws.put("EXP-1/12-cells.txt", "x")
    ws.put("fcs/cells/12-EXP", b"x")

    assert keys_of(ws.search(query)) == ["EXP-12/cells.fcs"]


def test_67_words_in_text_find_their_files(ws: epista.Workspace) -> None:
    ws.put("a.txt", "stained with FITC, then fixed")
    ws.put("b.md", "# Protocol\n\nUse *propidium iodide*.")
    ws.put("c.json", {"reagent": {"name": "brefeldin"}})
    ws.put("d.html", "<p>A <b>paraformaldehyde</b> page</p>")
    ws.put("e.yaml", "reagent: saponin\n")
    ws.put("f.txt.gz", "compressed ionomycin")
    cells = [{"cell_type": "markdown", "source": ["The ", "monensin step"]}, {"cell_type": "code", "source": "run_gating()"}]
    ws.put("g.ipynb", {"cells": cells, "nbformat": 4, "nbformat_minor": 5, "metadata": {}})

    for word, key in {
        "FITC": "a.txt",
        "propidium": "b.md",
        "brefeldin": "c.json",
        "paraformaldehyde": "d.html",
        "saponin": "e.yaml",
        "ionomycin": "f.txt.gz",
        "monensin": "g.ipynb",
        "run_gating": "g.ipynb",
    }.items():
        (hit,) = ws.search(word)
        assert (hit.key, hit.field) == (key, "content")
        assert f"**{word.split('_')[0]}".lower() in str(hit.snippet).lower()


def test_67_csv_headers_and_cells_and_parquet_columns_find_their_files(ws: epista.Workspace) -> None:
    ws.put("a.csv", pd.DataFrame({"CD3-FITC": [1.5], "sample": ["spleen"]}))
    ws.put("b.parquet", pd.DataFrame({"viability_percent": [98.5]}))
    ws.put("c.csv", pd.DataFrame({"first": ["liver"]}), sep="|")
    ws.put("d.tsv.gz", pd.DataFrame({"tissue": ["thymus"]}))

    for word, key in {
        "FITC": "a.csv",
        "CD3-FITC": "a.csv",
        "spleen": "a.csv",
        "viability": "b.parquet",
        "viability_percent": "b.parquet",
        "liver": "c.csv",
        "thymus": "d.tsv.gz",
    }.items():
        assert keys_of(ws.search(word)) == [key]
        assert keys_of(ws.search(f"text:{word}")) == [key]


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("torn.parquet", b"PAR1 and then nothing"),
        ("torn.csv.gz", b"\x1f\x8b\x08\x00garbage"),
        ("deep.json", b"[" * 200_000),
        ("torn.ipynb", b'{"cells": [{"source": 7'),
        ("binary.txt", bytes(range(256)) * 100),
        ("bomb.csv", b'"' + b"a," * 300_000),
        ("torn.fcs", b"FCS3.1    999999"),
        ("torn.ome.tif", b"II*\0\xff\xff\xff\xff"),
    ],
)
def test_68_a_malformed_file_is_stored_and_found_by_name(ws: epista.Workspace, name: str, data: bytes) -> None:
    receipt = ws.put(f"d/{name}", data, meta={"from": "the scanner"})

    assert receipt.size_bytes == len(data)
    assert ws(f"d/{name}", format="bytes") == data
    assert keys_of(ws.search(f"name:{name}")) == [f"d/{name}"]
    assert keys_of(ws.search(name.partition(".")[0])) == [f"d/{name}"]
    assert keys_of(ws.search("scanner")) == [f"d/{name}"]


def test_69_total_facets_and_pages_agree_for_each_of_three_users(server: Server) -> None:
    manager = server.api()
    for number in range(30):
        manager.put(
            f"EXP-{number % 3}/{number:02d}.{'csv' if number % 2 else 'txt'}",
            b"common",
            tags=["qc"] if number % 5 else ["qc", "old"],
            meta={"n": number},
        )
    manager.put("root.txt", b"common")
    seen = {
        manager.token: [0, 1, 2],
        server.member("ada", experiments=["EXP-0", "EXP-1"]).token: [0, 1],
        server.member("bob", "viewer", experiments=["EXP-2"]).token: [2],
    }
    for token, experiments in seen.items():
        mine = [number for number in range(30) if number % 3 in experiments]
        root = 1 if len(experiments) == 3 else 0
        with epista.Workspace(server.url, token=token, workspace="lab") as ws:
            for query in ("common", "", "user_meta.n:>=0 OR name:root"):
                hits = ws.search(query, limit=4)
                pages = list(hits)
                assert hits.total == len(pages) == len({hit.key for hit in pages}) == len(mine) + root, (query, experiments)
                assert sorted(hit.key for hit in pages) == ws.keys()
                assert hits.facets.experiment == Counter(f"EXP-{number % 3}" for number in mine)
                assert hits.facets.kind == {"TABLE": sum(number % 2 for number in mine)} | {
                    "DOCUMENT": sum(1 - number % 2 for number in mine) + root
                }
                assert hits.facets.format == {"csv": hits.facets.kind["TABLE"], "text": hits.facets.kind["DOCUMENT"]}
                assert hits.facets.tags == {"qc": len(mine), "old": sum(number % 5 == 0 for number in mine)}
    assert json.dumps(manager.keys()).count("EXP-") == 30
