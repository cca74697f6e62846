"""The tree of errors, and what each is on the wire."""

from __future__ import annotations

import pickle

import pytest

from epista.contract import errors
from epista.contract.errors import ERRORS, EpistaError

CODES = {
    "error": 500,
    "settings": 500,
    "invalid_request": 400,
    "validation": 422,
    "invalid_key": 400,
    "search_syntax": 400,
    "query": 422,
    "query_syntax": 400,
    "query_refused": 403,
    "query_timeout": 422,
    "query_memory": 422,
    "query_cancelled": 409,
    "format": 422,
    "unreadable": 422,
    "unreadable_image": 422,
    "missing_extra": 501,
    "namespace": 500,
    "unauthenticated": 401,
    "forbidden": 403,
    "not_found": 404,
    "key_not_found": 404,
    "role_not_found": 404,
    "ambiguous_name": 409,
    "unrecognized_name": 422,
    "conflict": 409,
    "too_large": 413,
    "result_too_large": 413,
    "rate_limit": 429,
    "integrity": 422,
    "linked_file_changed": 409,
    "transfer": 500,
    "missing_file": 400,
    "storage_full": 507,
    "quota": 507,
    "unreachable": 503,
    "unavailable": 503,
    "server_error": 500,
}

every_error = pytest.mark.parametrize("error", ERRORS.values(), ids=ERRORS)


def test_codes_and_statuses_are_a_promise() -> None:
    assert {code: error.status for code, error in ERRORS.items()} == CODES


def test_no_two_classes_have_one_code() -> None:
    classes = [one for one in vars(errors).values() if isinstance(one, type) and issubclass(one, EpistaError)]

    assert sorted(one.code for one in classes) == sorted(CODES)


@every_error
def test_an_error_survives_pickling(error: type[EpistaError]) -> None:
    made = error("the fact", hint="the next step", details={"column": 3}, request_id="r1")

    again = pickle.loads(pickle.dumps(made))

    assert type(again) is error
    assert (again.message, again.hint, again.details, again.request_id) == ("the fact", "the next step", {"column": 3}, "r1")
    assert str(again) == str(made)


@every_error
def test_an_error_reads_as_fact_and_next_step(error: type[EpistaError]) -> None:
    assert str(error("no asset at 'a'", hint="epista ls")) == "no asset at 'a'\nepista ls"
    assert str(error("no asset at 'a'")) == "no asset at 'a'"
    assert error().details == {}


@every_error
def test_our_own_tree_stands_first_among_the_bases(error: type[EpistaError]) -> None:
    assert issubclass(error.__bases__[0], EpistaError) or error is EpistaError
    assert error.__str__ is EpistaError.__str__


@pytest.mark.parametrize(
    ("error", "builtin"),
    [
        (errors.KeyNotFoundError, KeyError),
        (errors.NotFoundError, LookupError),
        (errors.AmbiguousNameError, LookupError),
        (errors.InvalidKeyError, ValueError),
        (errors.SearchSyntaxError, ValueError),
        (errors.ValidationError, ValueError),
        (errors.FormatError, TypeError),
        (errors.AuthenticationError, PermissionError),
        (errors.ForbiddenError, PermissionError),
        (errors.IntegrityError, OSError),
        (errors.UnreachableError, ConnectionError),
        (errors.MissingExtraError, ImportError),
        (errors.ServerError, RuntimeError),
    ],
    ids=lambda one: one.__name__,
)
def test_an_error_is_the_builtin_that_a_programmer_would_catch(error: type[EpistaError], builtin: type[Exception]) -> None:
    with pytest.raises(builtin):
        raise error("the fact")


def test_what_errors_tell_programs_has_names() -> None:
    assert errors.SearchSyntaxError("q", details={"column": 7}).column == 7
    assert errors.ValidationError("v", details={"violations": [{"path": "a"}]}).violations == [{"path": "a"}]
    assert errors.TransferError("t", details={"results": [{"key": "a"}]}).results == [{"key": "a"}]
