"""The table of endpoints: every row can be called, bound and documented."""

from __future__ import annotations

import inspect
import re

import pytest

from epista.contract import messages
from epista.contract.endpoints import API, BY_NAME, ENDPOINTS, Endpoint
from epista.contract.images import TILES
from epista.contract.openapi import path_fields
from epista.contract.scopes import SCOPES
from epista.server.services.appends import Appends
from epista.server.services.assets import Assets
from epista.server.services.audit import Audit
from epista.server.services.batches import Batches
from epista.server.services.conventions import Conventions
from epista.server.services.experiments import Experiments
from epista.server.services.frames import Frames
from epista.server.services.images import Images
from epista.server.services.lab import Lab
from epista.server.services.lineage import Lineage
from epista.server.services.linked import Linked
from epista.server.services.links import Links
from epista.server.services.objects import Objects
from epista.server.services.previews import Previews
from epista.server.services.projects import Projects
from epista.server.services.queries import Queries
from epista.server.services.reindexing import Reindexing
from epista.server.services.sequences import Sequences
from epista.server.services.signing_keys import SigningKeys
from epista.server.services.tokens import Tokens
from epista.server.services.uploads import Uploads
from epista.server.services.usage import Usage
from epista.server.services.workspaces import Workspaces

SERVICES: dict[str, type] = {
    "assets": Assets,
    "audit": Audit,
    "batches": Batches,
    "conventions": Conventions,
    "experiments": Experiments,
    "frames": Frames,
    "images": Images,
    "lab": Lab,
    "lineage": Lineage,
    "previews": Previews,
    "sequences": Sequences,
    "linked": Linked,
    "links": Links,
    "objects": Objects,
    "projects": Projects,
    "reindexing": Reindexing,
    "signing_keys": SigningKeys,
    "tables": Appends,
    "queries": Queries,
    "tokens": Tokens,
    "uploads": Uploads,
    "usage": Usage,
    "workspaces": Workspaces,
}

# Raw rows whose bytes a handler moves along a plan of more than one step.
IN_STEPS = {"objects.upload": "receive", "uploads.put_part": "receive"}

every_row = pytest.mark.parametrize("row", ENDPOINTS, ids=[row.name for row in ENDPOINTS])


def test_names_and_addresses_are_unique() -> None:
    assert len(BY_NAME) == len(ENDPOINTS)
    assert len({(row.method, re.sub(r"{\w+}", "{}", row.path)) for row in ENDPOINTS}) == len(ENDPOINTS)


@every_row
def test_the_fields_of_the_path_are_fields_of_the_request(row: Endpoint) -> None:
    assert row.path.startswith((API + "/", TILES + "/"))
    assert set(path_fields(row)) <= set(row.request.__struct_fields__)
    assert "workspace" not in row.request.__struct_fields__ or "workspace" in path_fields(row) or row.name == "tokens.create"


@every_row
def test_the_row_is_bound_to_the_service_method_of_its_name(row: Endpoint) -> None:
    noun, verb = row.name.split(".")
    method = getattr(SERVICES[noun], IN_STEPS.get(row.name, verb))

    parameters = list(inspect.signature(method).parameters.values())

    assert parameters[2].annotation.rpartition(".")[2] == row.request.__name__


@every_row
def test_the_row_says_what_it_needs_in_known_words(row: Endpoint) -> None:
    assert row.scope in {None, "any", *SCOPES}
    assert row.method in {"GET", "POST", "PUT", "DELETE"}
    assert row.raw in {"", "up", "down"}
    assert row.retry in {"safe", "key", "never"}
    assert (row.reply is None) == (row.raw == "down")
    assert issubclass(row.request, messages.Request)
    # Reading twice does no more than reading once.
    assert row.method != "GET" or row.retry == "safe"


def test_what_answers_with_a_secret_is_never_kept_for_a_retry() -> None:
    secret = {row.name for row in ENDPOINTS if row.reply and {"secret", "sign_in_link"} & set(row.reply.__struct_fields__)}

    assert secret == {"tokens.create", "tokens.renew", "tokens.sign_in", "workspaces.add_member"}
    assert {BY_NAME[name].retry for name in secret} == {"never", "safe"}
    assert BY_NAME["tokens.renew"].retry == "safe"
