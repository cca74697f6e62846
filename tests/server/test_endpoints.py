"""
Every endpoint, walked: whoever may not, and whatever is malformed, gets the documented error and changes nothing.

`EXAMPLES` has a valid request for each row, so each refusal below is for its one fault. A row without an example fails the first
test.
"""

from __future__ import annotations

import io
import json
import shutil
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any
from urllib.parse import quote

import msgspec
import numpy as np
import pytest
import requests
import tifffile

from epista import serializers
from epista.contract import frames
from epista.contract.endpoints import API, BY_NAME, ENDPOINTS, Endpoint
from epista.contract.openapi import path_fields
from epista.contract.scopes import SCOPES
from epista.server import founding
from epista.server.app import create_app
from epista.server.config import Config
from tests.conftest import Thread
from tests.makers import Api, Server, sha256

BYTES = b"well,count\nA1,17\n"
PARQUET = serializers.serialize("rows.parquet", [{"well": "A1", "count": 17}]).data

TIFF = io.BytesIO()
tifffile.imwrite(TIFF, np.zeros((8, 8), np.uint8))

EXAMPLES: dict[str, dict[str, Any]] = {
    "tokens.who": {},
    "tokens.create": {"name": "reader", "scopes": ["read"]},
    "tokens.find": {},
    "tokens.revoke": {"id": "TOKEN"},
    "tokens.renew": {},
    "tokens.sign_in": {"code": "a-code-that-was-never-made"},
    "workspaces.create": {"name": "second"},
    "workspaces.find": {},
    "workspaces.get": {},
    "workspaces.add_member": {"user": "newcomer", "role": "viewer"},
    "workspaces.members": {},
    "workspaces.remove_member": {"user": "leaver"},
    "workspaces.set_rules": {"rules": [{"name": "r", "schema": {"required": ["a"]}}]},
    "workspaces.rules": {},
    "workspaces.check_rules": {},
    "conventions.set": {
        "conventions": [{"name": "mice", "declaration": {"tokens": [{"field": "subject_id"}, {"field": "rig"}]}}]
    },
    "conventions.get": {},
    "conventions.explain": {"text": "ecephys_676909_2023-12-13_13-43-40"},
    "experiments.create": {"name": "EXP-2", "title": "second"},
    "experiments.find": {},
    "experiments.get": {"name": "EXP-1"},
    "experiments.resolve": {"ref": "EXP-1"},
    "experiments.members": {"ref": "EXP-1"},
    "experiments.update": {"name": "EXP-1", "title": "first"},
    "experiments.rename": {"name": "EXP-1", "to": "EXP-9"},
    "experiments.roles": {"name": "EXP-1"},
    "experiments.set_role": {"name": "EXP-1", "user": "leaver", "role": "editor"},
    "projects.create": {"name": "grant"},
    "projects.find": {},
    "projects.get": {"name": "mouse atlas"},
    "projects.update": {"name": "mouse atlas", "title": "all of it"},
    "projects.remove": {"name": "mouse atlas"},
    "assets.keys": {},
    "assets.level": {"path": "EXP-1"},
    "assets.find": {"kind": "TABLE"},
    "assets.get": {"ref": "EXP-1/plate.csv"},
    "assets.versions": {"key": "EXP-1/plate.csv"},
    "assets.version": {"key": "EXP-1/plate.csv", "version": "1"},
    "assets.search": {"query": "well"},
    "lineage.get": {"ref": "EXP-1/plate.csv"},
    "previews.get": {"ref": "EXP-1/plate.csv"},
    "sequences.locate": {"ref": "EXP-1/genome.fa", "region": "chr1"},
    "queries.run": {"sql": "SELECT * FROM plate"},
    "queries.find": {},
    "queries.get": {"id": "QUERY"},
    "queries.cancel": {"id": "QUERY"},
    "objects.upload": {},
    "objects.missing": {"sha256": [sha256(BYTES)]},
    "objects.stage": {},
    "objects.take_staged": {"stage": "0" * 32},
    "objects.locate": {"version": "VERSION"},
    "objects.content": {"version": "VERSION"},
    "frames.send": {},
    "batches.commit": {"batch": "0" * 32, "parts": 1},
    "frames.read": {"versions": ["VERSION"]},
    "objects.commit": {"objects": [{"key": "EXP-1/new.csv", "sha256": sha256(BYTES)}]},
    "linked.add": {"source": "archive/run7"},
    "objects.set_meta": {"key": "EXP-1/plate.csv", "meta": {"temp": 37}},
    "objects.delete": {"key": "EXP-1/plate.csv"},
    "objects.delete_dir": {"path": "EXP-1"},
    "objects.restore": {"key": "EXP-1/gone.csv"},
    "objects.purge": {"path": "EXP-1/gone.csv"},
    "objects.copy": {"objects": [{"source": "EXP-1/plate.csv", "target": "EXP-2/plate.csv"}]},
    "objects.move": {"objects": [{"source": "EXP-1/", "target": "EXP-2/"}]},
    "tables.append": {"key": "EXP-1/counts.parquet", "sha256": sha256(PARQUET)},
    "tables.join": {"version": "VERSION"},
    "uploads.create": {"size_bytes": 1000},
    "uploads.find": {},
    "uploads.get": {"upload": "UPLOAD"},
    "uploads.put_part": {"upload": "UPLOAD", "number": 1},
    "uploads.sign_part": {"upload": "UPLOAD", "number": 1, "crc32": 0},
    "uploads.take_part": {"upload": "UPLOAD", "number": 1, "crc32": 0},
    "uploads.complete": {"upload": "UPLOAD"},
    "uploads.abort": {"upload": "UPLOAD"},
    "images.open": {"ref": "EXP-1/cells.tif"},
    "images.renew": {"token": "TILES"},
    "images.info": {"token": "TILES"},
    "images.region": {"token": "TILES", "x": 0, "y": 0, "width": 4, "height": 4},
    "images.annotations": {"token": "TILES"},
    "images.thumbnail": {"token": "TILES", "max_px": 4},
    "images.rendering": {"token": "TILES", "scene": 0},
    "images.iiif": {"token": "TILES", "image": "PICTURED"},
    "images.iiif_info": {"token": "TILES", "image": "PICTURED"},
    "images.iiif_picture": {
        "token": "TILES",
        "image": "PICTURED",
        "region": "full",
        "size": "max",
        "rotation": "0",
        "name": "default.jpg",
    },
    "images.zarr": {"token": "TILES", "format": "0.5", "image": "PICTURED", "key": "zarr.json"},
    "links.create": {"version": "VERSION"},
    "links.open": {"link": "LINK", "name": "plate.csv"},
    "reindexing.get": {},
    "reindexing.run": {},
    "signing_keys.find": {},
    "signing_keys.rotate": {},
    "usage.get": {},
    "usage.set_quota": {"name": "lab", "max_bytes": 10**12},
    "usage.of_lab": {},
    "audit.find": {},
    "audit.verify": {},
    "lab.verify": {},
    "lab.audit": {},
    "lab.verify_audit": {},
    "lab.gc": {"grace_seconds": 0},
    "lab.backup": {"destination": "BACKUP"},
}

BODIES = {"frames.send": frames.joined(b"{}", frames.frame([(sha256(BYTES), BYTES)]))}
"""What is sent up for a row, where that is not any bytes."""

# What a valid request of the lab's manager gets, where that is not 200: these need a certain caller, a code or a file.
NOT_DONE = {
    "tokens.renew": (400, "invalid_request"),
    "tokens.sign_in": (401, "unauthenticated"),
    "objects.stage": (403, "forbidden"),
    "objects.take_staged": (403, "forbidden"),
    "objects.locate": (403, "forbidden"),
    "lab.backup": (403, "forbidden"),
    "uploads.take_part": (422, "integrity"),
    "linked.add": (404, "not_found"),
}

WITH_TOKEN = [row for row in ENDPOINTS if row.scope is not None]
SCOPED = [row for row in WITH_TOKEN if row.scope != "any"]
IN_WORKSPACE = [row for row in WITH_TOKEN if "{workspace}" in row.path]
JSON_BODY = [row for row in ENDPOINTS if row.method in ("POST", "PUT") and row.raw != "up"]


def names(rows: Sequence[Endpoint]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("row", rows, ids=[row.name for row in rows])


class Lab:
    """A lab with something in it, and requests to it."""

    def __init__(self, server: Server) -> None:
        self.server = server
        self.manager = server.api()
        self.manager.ok(self.manager.post("/workspaces", name="other"))
        asset = self.manager.put("EXP-1/plate.csv", BYTES, meta={"a": 1}, tags=["qc"])
        self.manager.put("EXP-1/genome.fa", b">chr1\nACGT\n")
        self.manager.put("EXP-1/cells.tif", TIFF.getvalue())
        self.manager.put("EXP-1/gone.csv", b"gone")
        self.manager.ok(self.manager.post("~/delete", key="EXP-1/gone.csv"))
        self.manager.ok(self.manager.post("~/members", user="leaver", role="viewer"))
        self.manager.ok(self.manager.post("~/projects", name="mouse atlas"))
        # Names are read by the conventions of the workspace now, which a first search sees to.
        self.manager.ok(self.manager.get("~/experiments"))
        # And words are current, so that the background has nothing to write down while a test looks.
        while not self.manager.ok(self.manager.post("/lab/reindexing"))["is_done"]:
            pass
        self.manager.upload(b"without a version")
        self.manager.upload(PARQUET)
        aside = {"batch": "0" * 32, "objects": [{"key": "EXP-1/batch.csv", "sha256": sha256(BYTES)}]}
        sent = frames.joined(json.dumps(aside).encode(), frames.frame([]))
        self.manager.ok(self.manager.call("POST", "~/frames", data=sent))
        token = self.manager.ok(self.manager.post("/tokens", name="to revoke"))["token"]["id"]
        backup = str(server.folder.parent / "backup")
        link = self.manager.ok(self.manager.post("~/links", version=asset["version"]))["url"].split("/")[-2]
        tiles = self.manager.ok(self.manager.post("~/tiles", ref="EXP-1/cells.tif"))
        upload = self.manager.ok(self.manager.post("~/uploads", size_bytes=len(BYTES)))["id"]
        self.manager.ok(self.manager.call("PUT", f"~/uploads/{upload}/parts/1", data=BYTES))
        query = self.manager.call("POST", "~/queries", json={"sql": "SELECT * FROM plate"}).headers["Epista-Query"]
        self._names = {
            "QUERY": query,
            "LINK": link,
            "TILES": tiles["token"],
            "PICTURED": tiles["version"],
            "UPLOAD": upload,
            "TOKEN": token,
            "VERSION": asset["version"],
            "BACKUP": backup,
        }

    def _named(self, value: Any) -> Any:
        if isinstance(value, list):
            return [self._named(one) for one in value]
        return self._names.get(value, value) if isinstance(value, str) else value

    def request(
        self, row: Endpoint, caller: Api, *, at: str = "lab", body: bytes | None = None, **changed: Any
    ) -> requests.Response:
        """Send the row's example as *caller*, with fields *changed*, or with a *body* of the test's own."""
        fields = {name: self._named(value) for name, value in EXAMPLES[row.name].items()}
        fields = {"workspace": at} | fields if "{workspace}" in row.path else fields
        fields |= changed
        path = row.path.removeprefix(API)
        for name in path_fields(row):
            path = path.replace(f"{{{name}}}", quote(str(fields.pop(name)), safe=""))
        if row.raw == "up":
            return caller.call(row.method, path, params=fields, data=BODIES.get(row.name, BYTES) if body is None else body)
        if row.method in ("GET", "DELETE"):
            return caller.call(row.method, path, params=fields)
        sent = json.dumps(fields).encode() if body is None else body
        return caller.call(row.method, path, data=sent, headers={"Content-Type": "application/json"})

    def snapshot(self) -> Any:
        """Return everything that a refused request must leave alone: every row but those of the logs, and every file."""
        with closing(sqlite3.connect(self.server.folder / "lab.db")) as catalog:
            tables = [name for (name,) in catalog.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
            found: dict[str, Any] = {
                name: catalog.execute(f"SELECT * FROM {name}").fetchall()
                for name in tables
                if not name.startswith(("audit", "quer"))
            }
        for folder in ("blobs", "staging", "parts"):
            found[f"files in {folder}"] = sorted(path.name for path in (self.server.folder / folder).rglob("*"))
        found["backup"] = Path(self._names["BACKUP"]).exists()
        return found


@pytest.fixture(scope="module")
def make_lab(server_thread: Thread, founded: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[], Lab]]:
    stops: list[Callable[[], None]] = []

    def make() -> Lab:
        folder = tmp_path_factory.mktemp("walk") / "lab"
        shutil.copytree(founded, folder)
        config = Config(lab=str(folder), max_json_bytes=20_000, max_upload_bytes=100_000)
        stops.append(server_thread.start(create_app(config)))
        link = founding.new_link(folder, address=server_thread.url, seconds=3600, only_if_locked_out=False)
        assert link
        return Lab(Server(server_thread.url, folder, link.partition("#")[2]))

    yield make
    for stop in stops:
        stop()


@pytest.fixture(scope="module")
def lab(make_lab: Callable[[], Lab]) -> Lab:
    """One lab for all the requests that must not change it."""
    return make_lab()


@pytest.fixture
def unchanged(lab: Lab) -> Iterator[None]:
    before = lab.snapshot()
    yield
    assert lab.snapshot() == before


def problem(response: requests.Response) -> tuple[int, str]:
    """Return status and code of a refusal, which must be a whole problem document."""
    assert response.headers["content-type"] == "application/problem+json", response.text
    found = response.json()
    assert set(found) == {"type", "title", "status", "detail", "code", "hint", "details", "request_id"}
    assert found["status"] == response.status_code
    assert found["request_id"] == response.headers["x-request-id"]
    assert found["detail"]
    return response.status_code, found["code"]


def with_all_scopes_but(lab: Lab, scope: str | None) -> Api:
    scopes = [name for name in SCOPES if name != scope]
    made = lab.manager.ok(lab.manager.post("/tokens", name="all but one", scopes=scopes))
    return Api(lab.manager.url, made["secret"])


def test_every_row_has_an_example() -> None:
    assert set(EXAMPLES) == set(BY_NAME)


@names(WITH_TOKEN)
def test_without_a_token_nothing_is_answered(row: Endpoint, lab: Lab, unchanged: None) -> None:
    assert problem(lab.request(row, Api(lab.manager.url, None))) == (401, "unauthenticated")


@names(WITH_TOKEN)
def test_a_forged_token_opens_nothing(row: Endpoint, lab: Lab, unchanged: None) -> None:
    assert problem(lab.request(row, Api(lab.manager.url, "epista_pat_forged"))) == (401, "unauthenticated")


@names(SCOPED)
def test_the_wrong_scope_is_refused(row: Endpoint, lab: Lab) -> None:
    caller = with_all_scopes_but(lab, row.scope)
    before = lab.snapshot()

    assert problem(lab.request(row, caller)) == (403, "forbidden")
    assert lab.snapshot() == before


@names([row for row in SCOPED if row.scope in ("write", "admin", "lab")])
def test_the_wrong_role_is_refused(row: Endpoint, lab: Lab) -> None:
    role = {"write": "viewer", "admin": "editor", "lab": "admin"}[row.scope or ""]
    caller = lab.server.member("ada", role)
    before = lab.snapshot()

    assert problem(lab.request(row, caller)) == (403, "forbidden")
    assert lab.snapshot() == before


@names(IN_WORKSPACE)
def test_a_workspace_one_is_no_member_of_is_as_if_it_did_not_exist(row: Endpoint, lab: Lab) -> None:
    stranger = lab.server.member("eve", "admin", workspace="other")
    before = lab.snapshot()

    hidden = lab.request(row, stranger)
    absent = lab.request(row, stranger, at="nowhere")

    assert problem(hidden) == problem(absent) == (404, "not_found")
    assert hidden.json()["detail"].replace("lab", "nowhere") == absent.json()["detail"]
    assert hidden.json()["hint"] == absent.json()["hint"]
    assert lab.snapshot() == before


@names(IN_WORKSPACE)
def test_a_token_of_another_workspace_is_refused(row: Endpoint, lab: Lab) -> None:
    made = lab.manager.ok(lab.manager.post("/tokens", name="other", scopes=list(SCOPES), workspace="other"))
    before = lab.snapshot()

    assert problem(lab.request(row, Api(lab.manager.url, made["secret"]))) == (404, "not_found")
    assert lab.snapshot() == before


@names(ENDPOINTS)
def test_an_unknown_field_is_refused(row: Endpoint, lab: Lab, unchanged: None) -> None:
    response = lab.request(row, lab.manager, nosuch="x")

    assert problem(response) == (400, "invalid_request")
    assert "nosuch" in response.json()["detail"]


@names([row for row in ENDPOINTS if any(field not in ("workspace",) for field in row.request.__struct_fields__)])
def test_an_over_long_field_is_refused(row: Endpoint, lab: Lab, unchanged: None) -> None:
    for field in row.request.__struct_fields__:
        if field != "workspace" and _is_text(row, field):
            changed: dict[str, Any] = {field: "x" * 9000}
            status, code = problem(lab.request(row, lab.manager, **changed))
            # SQL may be longer than other fields, and this is no SQL.
            expected = (403, "query_refused") if field == "sql" else (400, "invalid_request")
            assert (status, code) in (expected, (400, "invalid_key")), field


@names(JSON_BODY)
def test_an_over_long_body_is_refused(row: Endpoint, lab: Lab, unchanged: None) -> None:
    response = lab.request(row, lab.manager, body=b'{"x": "' + b"y" * 70_000 + b'"}')

    assert problem(response) == (413, "too_large")


@names(JSON_BODY)
def test_a_malformed_body_is_refused(row: Endpoint, lab: Lab, unchanged: None) -> None:
    for body in (b"{", b"[]", b'"x"', b"\xff", b'{"a": NaN}', b"[" * 9000):
        assert problem(lab.request(row, lab.manager, body=body)) == (400, "invalid_request"), body[:20]


@names([row for row in ENDPOINTS if row.request.__struct_fields__ and row.raw != "up"])
def test_a_field_of_the_wrong_type_is_refused(row: Endpoint, lab: Lab, unchanged: None) -> None:
    for field in row.request.__struct_fields__:
        if field in path_fields(row) or (
            row.method in ("GET", "DELETE") and (field in ("tags", "channels") or _is_text(row, field))
        ):
            continue
        wrong: Any = {"is": "wrong"} if row.method in ("POST", "PUT") and field not in ("meta", "params", "as_of") else "wrong"
        assert problem(lab.request(row, lab.manager, **{field: wrong}))[0] == 400, field


def test_an_object_over_the_limit_is_refused_and_leaves_nothing(lab: Lab, unchanged: None) -> None:
    upload = BY_NAME["objects.upload"]

    assert problem(lab.request(upload, lab.manager, body=b"x" * 100_001)) == (413, "too_large")


def test_no_address_beside_the_rows_answers(lab: Lab) -> None:
    assert problem(lab.manager.get("/nowhere")) == (404, "not_found")
    assert lab.manager.call("PUT", "/me").status_code == 405


# The last test that needs a server: it puts fresh labs in the place of the shared one.
@names(ENDPOINTS)
def test_the_example_of_a_row_is_answered(row: Endpoint, make_lab: Callable[[], Lab]) -> None:
    lab = make_lab()

    response = lab.request(row, lab.manager)

    if row.name in NOT_DONE:
        assert problem(response) == NOT_DONE[row.name]
    else:
        assert response.status_code == 200, response.text
        if row.reply:
            msgspec.json.decode(response.content, type=row.reply)


def _is_text(row: Endpoint, field: str) -> bool:
    """Whether a field takes text, so that any word is of the right type."""
    try:
        msgspec.convert({field: "x", "workspace": "lab"}, _only(row, field), strict=True)
    except msgspec.ValidationError:
        return False
    return True


def _only(row: Endpoint, field: str) -> type[msgspec.Struct]:
    hints = {one.name: one.type for one in msgspec.structs.fields(row.request)}
    return msgspec.defstruct("Only", [(field, hints[field])])
