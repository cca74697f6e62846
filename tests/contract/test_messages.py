"""Every message on the wire: frozen, by keyword, and strict where a misspelt field would be dangerous."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Iterator

import msgspec
import pytest

from epista import contract
from epista.contract import conventions, lineage, messages, objects, tokens, workspaces
from epista.contract.endpoints import ENDPOINTS
from epista.contract.openapi import field_docs


def found() -> Iterator[type[msgspec.Struct]]:
    for module in pkgutil.iter_modules(contract.__path__):
        for one in vars(importlib.import_module(f"epista.contract.{module.name}")).values():
            if isinstance(one, type) and issubclass(one, msgspec.Struct) and one.__module__.endswith(f".{module.name}"):
                yield one


MESSAGES = {one.__name__: one for one in found()}

every_message = pytest.mark.parametrize("message", MESSAGES.values(), ids=MESSAGES)


@every_message
def test_a_message_is_frozen_and_made_by_keyword(message: type[msgspec.Struct]) -> None:
    assert message.__struct_config__.frozen
    with pytest.raises(TypeError):
        message("positional")  # kw_only is not inherited


@every_message
def test_a_request_refuses_fields_it_does_not_know_and_a_reply_ignores_them(message: type[msgspec.Struct]) -> None:
    strict = message.__struct_config__.forbid_unknown_fields

    parts = (
        objects.FrameHead,
        objects.Described,
        objects.MoveObject,
        lineage.Activity,
        lineage.Cell,
        conventions.Convention,
        workspaces.Rule,
    )  # of a request
    assert strict == issubclass(message, (messages.Request, *parts))


@every_message
def test_every_field_says_what_it_is(message: type[msgspec.Struct]) -> None:
    assert message.__doc__
    assert set(field_docs(message)) == set(message.__struct_fields__)


@pytest.mark.parametrize("row", ENDPOINTS, ids=[row.name for row in ENDPOINTS])
def test_every_text_of_a_request_has_a_limit(row: object) -> None:
    assert hasattr(row, "request")
    for field in msgspec.structs.fields(row.request):
        for part in texts(msgspec.inspect.type_info(field.type)):
            assert part.max_length is not None or part.pattern is not None, f"{row.request.__name__}.{field.name}"


def texts(info: msgspec.inspect.Type) -> Iterator[msgspec.inspect.StrType]:
    match info:
        case msgspec.inspect.StrType():
            yield info
        case msgspec.inspect.UnionType(types=types):
            for one in types:
                yield from texts(one)
        case msgspec.inspect.VarTupleType(item_type=item):
            yield from texts(item)
        case _:
            return


def test_a_secret_is_in_no_repr() -> None:
    token = tokens.Token(
        id="tk_1", name="n", kind="personal", scopes=(), workspace=None, experiments=None, created_at=None,  # type: ignore[arg-type]
        expires_at=None, revoked_at=None,
    )  # fmt: skip

    shown = [
        repr(tokens.NewToken(secret="the-secret", token=token)),
        repr(tokens.SignIn(code="the-secret")),
        repr(workspaces.Member(user="ada", role="viewer", experiments=None, sign_in_link="http://lab/sign-in#the-secret")),
    ]

    assert [("the-secret" in one, "<hidden>" in one) for one in shown] == [(False, True)] * 3


@pytest.mark.parametrize(
    "name", ["a\n", "a\r", "a/b", "", "a\0", "\x7f", "x" * 201], ids=["lf", "cr", "slash", "empty", "nul", "del", "long"]
)
def test_a_name_has_no_control_characters_and_no_slash(name: str) -> None:
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert(name, messages.Name)


@pytest.mark.parametrize("name", ["lab\n", ".lab", "-lab", "a b", "ä", "a" * 65, "a/b", ""])
def test_the_name_of_a_workspace_fits_an_address(name: str) -> None:
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert(name, workspaces.WorkspaceName)
