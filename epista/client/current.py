"""
The current workspace: what ``epista.assets(...)`` and its like act on. The one module of the client with global state.

Each function is the verb of the same name with *session* instead of the workspace; a test compares their signatures.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any, Literal, cast, overload

from epista.client import artifacts as _artifacts
from epista.client import assets as _assets
from epista.client import image as _image
from epista.client import objects as _objects
from epista.client import queries as _queries
from epista.client.session import Session

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from contextlib import AbstractContextManager
    from datetime import date, datetime
    from io import BufferedReader
    from pathlib import Path

    from epista.client.artifacts import Published
    from epista.client.assets import Asset, AssetRef, Hits
    from epista.client.listings import Listing
    from epista.client.queries import QueryResult
    from epista.contract import assets as wire

_current: Session | None = None
_lock = threading.RLock()


def use(session: Session | None) -> None:
    """Make *session*, such as a workspace, the current one; None goes back to what the settings say, at the next use."""
    global _current
    with _lock:
        _current = session


def current() -> Session:
    """Return the current session; without one, open it from the settings."""
    global _current
    with _lock:
        if _current is None:
            _current = Session()
        return _current


class _CurrentImages:
    """``epista.image``: images of whatever the current workspace is when something is asked."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):  # what Python and notebooks ask of any object
            raise AttributeError(name)
        return getattr(_image.of(current()), name)

    def __dir__(self) -> list[str]:
        return dir(_image.Images)


image = cast("_image.Images", _CurrentImages())


def assets(
    *,
    experiment: str | None = None,
    kind: str | None = None,
    format: str | None = None,
    tags: str | Iterable[str] | None = None,
    prefix: str | None = None,
    created_after: datetime | date | str | None = None,
    created_before: datetime | date | str | None = None,
    created_by: str | None = None,
    limit: int = 1000,
    session: Session | None = None,
) -> Listing[AssetRef]:
    """List the assets of the current workspace that satisfy every filter given; see `Workspace.assets`."""
    return _assets.find(
        session or current(),
        experiment=experiment,
        kind=kind,
        format=format,
        tags=tags,
        prefix=prefix,
        created_after=created_after,
        created_before=created_before,
        created_by=created_by,
        limit=limit,
    )


def get(ref: str | wire.AssetRef, *, session: Session | None = None) -> Asset:
    """Look at one asset of the current workspace; see `Workspace.get`."""
    return _assets.get(session or current(), ref)


def search(query: str = "", *, limit: int = 100, session: Session | None = None) -> Hits:
    """Search the current workspace; see `Workspace.search`."""
    return _assets.search(session or current(), query, limit=limit)


def query(
    sql: str,
    *,
    params: Sequence[Any] | Mapping[str, Any] | None = None,
    as_of: datetime | date | str | Mapping[str, int | str] | None = None,
    engine: str | None = None,
    session: Session | None = None,
) -> QueryResult:
    """Ask the current workspace in SQL; see `Workspace.query`."""
    return _queries.query(session or current(), sql, params=params, as_of=as_of, engine=engine)


def publish_figure(
    fig: Any,
    name: str | None = None,
    *,
    format: str | None = None,
    experiment: str | None = None,
    experiment_id: str | None = None,
    meta: _objects.Metadata | None = None,
    tags: Iterable[str] | None = None,
    expect: str | None = None,
    inputs: _objects.Inputs | None = None,
    session: Session | None = None,
    **options: Any,
) -> Published:
    """Publish a figure in the current workspace; see `Workspace.publish_figure`."""
    return _artifacts.publish_figure(
        session or current(),
        fig,
        name,
        format=format,
        experiment=experiment,
        experiment_id=experiment_id,
        meta=meta,
        tags=tags,
        expect=expect,
        inputs=inputs,
        **options,
    )


def publish_table(
    table: Any,
    name: str | None = None,
    *,
    format: str | None = None,
    experiment: str | None = None,
    experiment_id: str | None = None,
    meta: _objects.Metadata | None = None,
    tags: Iterable[str] | None = None,
    expect: str | None = None,
    inputs: _objects.Inputs | None = None,
    session: Session | None = None,
    **options: Any,
) -> Published:
    """Publish a table in the current workspace; see `Workspace.publish_table`."""
    return _artifacts.publish_table(
        session or current(),
        table,
        name,
        format=format,
        experiment=experiment,
        experiment_id=experiment_id,
        meta=meta,
        tags=tags,
        expect=expect,
        inputs=inputs,
        **options,
    )


@overload
def open(
    ref: str | AssetRef,
    *,
    byte_range: tuple[int, int] | None = None,
    download: Literal[False] = False,
    version: str | int | None = None,
    session: Session | None = None,
) -> BufferedReader: ...
@overload
def open(
    ref: str | AssetRef,
    *,
    byte_range: None = None,
    download: Literal[True],
    version: str | int | None = None,
    session: Session | None = None,
) -> AbstractContextManager[Path]: ...
def open(
    ref: str | AssetRef,
    *,
    byte_range: tuple[int, int] | None = None,
    download: bool = False,
    version: str | int | None = None,
    session: Session | None = None,
) -> BufferedReader | AbstractContextManager[Path]:
    """Open an asset of the current workspace as a stream or a local copy; see `Workspace.open`."""
    # Which overload it is was settled at the caller's.
    found: BufferedReader | AbstractContextManager[Path] = _objects.open(  # type: ignore[call-overload]
        session or current(), ref, byte_range=byte_range, download=download, version=version
    )
    return found
