"""
Every error that a user of Epista can meet, on either end of the wire.

    EpistaError
    ├── SettingsError(ValueError)            a setting is missing, unknown or makes no sense
    ├── InvalidRequestError(ValueError)      the request is malformed or has a field that nobody knows
    ├── ValidationError(ValueError)          well-formed, but against a rule; lists every violation
    ├── InvalidKeyError(ValueError)          the key breaks the grammar of keys
    ├── SearchSyntaxError(ValueError)        the search query cannot be read; has a ``column``
    ├── QueryError(ValueError)               the SQL cannot be answered: a name, a type or a value in it is wrong
    │   ├── QuerySyntaxError                 the SQL cannot be read; has a ``line`` and a ``column``
    │   ├── QueryRefusedError(PermissionError) the SQL asks for more than reading tables
    │   ├── QueryTimeoutError(TimeoutError)  it took longer than a query may
    │   ├── QueryMemoryError(MemoryError)    it needed more memory, or room to spill, than a query may
    │   └── QueryCancelledError              somebody ended it
    ├── FormatError(TypeError)               this object does not fit this format
    ├── UnreadableError(ValueError)          these bytes are not what their format says
    │   └── UnreadableImageError             an image, or a part of it, cannot be read
    ├── MissingExtraError(ImportError)       an optional package is not installed
    ├── NamespaceError(RuntimeError)         a namespace cannot be made: a fault of whoever wrote it
    ├── AuthenticationError(PermissionError) no token, or one that is expired, revoked or unknown
    ├── ForbiddenError(PermissionError)      the caller is known, and may not do this
    ├── NotFoundError(LookupError)
    │   ├── KeyNotFoundError(KeyError)       no asset at this key
    │   └── RoleNotFoundError(AttributeError)  nothing in the experiment has this role
    ├── AmbiguousNameError(LookupError)      the name fits several assets, or names several recordings
    ├── UnrecognizedNameError(ValueError)    no naming convention reads this text
    ├── ConflictError                        somebody else was faster, or something is in the way
    ├── TooLargeError(ValueError)            over a limit of size
    │   └── ResultTooLargeError              a result of more rows or bytes than a query may have
    ├── RateLimitError                       too many requests; ``details["retry_after_seconds"]``
    ├── IntegrityError(OSError)              bytes and their sha256 disagree
    │   └── LinkedFileChangedError           a linked file is not what was linked any more
    ├── TransferError(OSError)               one or more files did not arrive; has ``results``
    │   └── MissingFileError(FileNotFoundError) a file on this machine that was to be sent
    ├── StorageFullError(OSError)            no room left where the bytes go
    │   └── QuotaError                       more than a workspace may hold
    ├── UnreachableError(ConnectionError)    no answer from the server
    ├── UnavailableError(ConnectionError)    the server answers that it cannot serve now
    └── ServerError(RuntimeError)            a fault of the server; tells only its request id

A class states its ``code`` (the wire's name for it) and HTTP ``status`` once, and inherits the builtin a programmer
would catch. What a service raises arrives in the notebook as the same class.

Messages read *fact; nearest alternative*, the hint is the next step.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from typing import Any, ClassVar


class EpistaError(Exception):
    """Something Epista could not do; `message` is the fact, `hint` the next step, `details` are for programs."""

    code: ClassVar[str] = "error"
    status: ClassVar[int] = 500

    def __init__(
        self,
        message: str = "",
        *,
        hint: str | None = None,
        details: Mapping[str, Any] | None = None,
        request_id: str | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.details: dict[str, Any] = dict(details or {})
        self.request_id = request_id

    # Defined here, and EpistaError stands first among the bases, because KeyError.__str__ would quote the message.
    def __str__(self) -> str:
        return f"{self.message}\n{self.hint}" if self.hint else self.message

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.message,), self.__dict__


class SettingsError(EpistaError, ValueError):
    """A setting is missing, unknown or makes no sense; the message lists where it was looked for."""

    code = "settings"
    status = 500


class InvalidRequestError(EpistaError, ValueError):
    """The request is malformed, or has a field that this endpoint does not know."""

    code = "invalid_request"
    status = 400


class ValidationError(EpistaError, ValueError):
    """Well-formed, but against a rule. ``details["violations"]`` lists every one: ``{"path", "message", "rule"}``."""

    code = "validation"
    status = 422

    @property
    def violations(self) -> Sequence[Mapping[str, Any]]:
        """Every violation found, in the order of their paths."""
        found: Sequence[Mapping[str, Any]] = self.details.get("violations", [])
        return found


class InvalidKeyError(EpistaError, ValueError):
    """The key breaks the grammar of keys; the message names the segment and the rule."""

    code = "invalid_key"
    status = 400


class SearchSyntaxError(EpistaError, ValueError):
    """The search query cannot be read; `column` counts characters from 1."""

    code = "search_syntax"
    status = 400

    @property
    def column(self) -> int:
        """Where in the query the trouble starts, counted in characters from 1."""
        column: int = self.details.get("column", 1)
        return column


class QueryError(EpistaError, ValueError):
    """The SQL cannot be answered: a name, a type or a value in it is wrong. ``details["query"]`` is its id in the query log."""

    code = "query"
    status = 422


class QuerySyntaxError(QueryError):
    """The SQL cannot be read; `line` and `column` count from 1."""

    code = "query_syntax"
    status = 400

    @property
    def line(self) -> int:
        """In which line the trouble starts, counted from 1."""
        line: int = self.details.get("line", 1)
        return line

    @property
    def column(self) -> int:
        """Where in the line the trouble starts, counted in characters from 1."""
        column: int = self.details.get("column", 1)
        return column


class QueryRefusedError(QueryError, PermissionError):
    """The SQL asks for more than reading tables; the message names what."""

    code = "query_refused"
    status = 403


class QueryTimeoutError(QueryError, TimeoutError):
    """The query took longer than one may."""

    code = "query_timeout"
    status = 422


class QueryMemoryError(QueryError, MemoryError):
    """The query needed more memory, or more room to spill, than one may."""

    code = "query_memory"
    status = 422


class QueryCancelledError(QueryError):
    """The query was ended before it was done."""

    code = "query_cancelled"
    status = 409


class FormatError(EpistaError, TypeError):
    """This object does not fit this format, or no format is known for this key."""

    code = "format"
    status = 422


class UnreadableError(EpistaError, ValueError):
    """These bytes are not what their format says they are."""

    code = "unreadable"
    status = 422


class UnreadableImageError(UnreadableError):
    """An image cannot be read; where it is a part of it, ``details`` has its ``scene``, ``level``, ``plane`` and ``tile``."""

    code = "unreadable_image"
    status = 422


class MissingExtraError(EpistaError, ImportError):
    """An optional package is not installed; the hint is the exact ``pip install``."""

    code = "missing_extra"
    status = 501


class NamespaceError(EpistaError, RuntimeError):
    """A namespace, such as a plug-in's, cannot be made. ``details["source"]`` says whose it is."""

    code = "namespace"
    status = 500


class AuthenticationError(EpistaError, PermissionError):
    """No token, or one that is unknown, expired or revoked."""

    code = "unauthenticated"
    status = 401


class ForbiddenError(EpistaError, PermissionError):
    """The caller is known, and may not do this."""

    code = "forbidden"
    status = 403


class NotFoundError(EpistaError, LookupError):
    """There is no such thing, as far as the caller may know."""

    code = "not_found"
    status = 404


class KeyNotFoundError(NotFoundError, KeyError):
    """There is no asset at this key, as far as the caller may know."""

    code = "key_not_found"
    status = 404


class RoleNotFoundError(NotFoundError, AttributeError):
    """Nothing in the experiment has this role; the message has what was tried."""

    code = "role_not_found"
    status = 404


class AmbiguousNameError(EpistaError, LookupError):
    """The name fits several assets, or names several recordings; ``details["candidates"]`` lists them."""

    code = "ambiguous_name"
    status = 409


class UnrecognizedNameError(EpistaError, ValueError):
    """No naming convention reads this text; ``details["reasons"]`` says why, by convention."""

    code = "unrecognized_name"
    status = 422


class ConflictError(EpistaError):
    """Somebody else was faster, or something is in the way. ``details["found"]`` says what, where there is something."""

    code = "conflict"
    status = 409


class TooLargeError(EpistaError, ValueError):
    """Over a limit of size; ``details["limit_bytes"]`` is the limit."""

    code = "too_large"
    status = 413


class ResultTooLargeError(TooLargeError):
    """The result has more rows or bytes than one query may give; nothing of it counts. ``details["limit"]`` says which limit."""

    code = "result_too_large"
    status = 413


class RateLimitError(EpistaError):
    """Too many requests in too short a time; ``details["retry_after_seconds"]`` says how long to wait."""

    code = "rate_limit"
    status = 429


class IntegrityError(EpistaError, OSError):
    """Bytes and their sha256 disagree. Nothing was recorded, and no file was replaced."""

    code = "integrity"
    status = 422


class LinkedFileChangedError(IntegrityError):
    """A linked file is not what was linked any more: it changed where it lies, or is gone. None of its bytes were given."""

    code = "linked_file_changed"
    status = 409


class TransferError(EpistaError, OSError):
    """One or more files did not arrive; `results` has a line for each file that was asked for."""

    code = "transfer"
    status = 500

    @property
    def results(self) -> Sequence[Mapping[str, Any]]:
        """One mapping a file: ``key``, ``status`` (written, unchanged, skipped or failed) and ``error``."""
        found: Sequence[Mapping[str, Any]] = self.details.get("results", [])
        return found


class MissingFileError(TransferError, FileNotFoundError):
    """A file on this machine that was to be sent is not there."""

    code = "missing_file"
    status = 400


class StorageFullError(EpistaError, OSError):
    """There is no room left where the bytes go. Nothing was recorded."""

    code = "storage_full"
    status = 507


class QuotaError(StorageFullError):
    """This is more than the workspace may hold. Nothing was recorded."""

    code = "quota"
    status = 507


class UnreachableError(EpistaError, ConnectionError):
    """No answer from the server, after retries."""

    code = "unreachable"
    status = 503


class UnavailableError(EpistaError, ConnectionError):
    """The server answers that it cannot serve now: it is starting, stopping or overloaded."""

    code = "unavailable"
    status = 503


class ServerError(EpistaError, RuntimeError):
    """A fault of the server. It tells its request id and no more; the server's log has the rest."""

    code = "server_error"
    status = 500


def _tree(root: type[EpistaError]) -> Iterator[type[EpistaError]]:
    yield root
    for child in root.__subclasses__():
        yield from _tree(child)


ERRORS: Mapping[str, type[EpistaError]] = {error.code: error for error in _tree(EpistaError)}
"""Every error class by the code that stands for it on the wire."""
