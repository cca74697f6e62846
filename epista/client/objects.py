"""Objects: what stands at a key, as bytes, as files and as Python objects."""

from __future__ import annotations

import contextlib
import hashlib
import re
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, NamedTuple, TypeAlias, overload

import msgspec

from epista.client import assets, offline, tables
from epista.client.assets import Asset, locate, target
from epista.client.provenance import worth_telling
from epista.client.queries import QueryResult
from epista.client.transfer import batches, destinations, disk, folders, streams, upload
from epista.client.transfer import download as downloads
from epista.client.transfer import frames as transfer_frames
from epista.client.transfer.download import Job, Pinned, Result, result
from epista.client.transfer.progress import shown
from epista.contract import formats, frames, keys, metadata
from epista.contract.assets import MAX_TAGS, AssetPage, AssetRef, FindAssets, GetAsset, GetVersion, Version
from epista.contract.errors import (
    EpistaError,
    FormatError,
    IntegrityError,
    InvalidKeyError,
    KeyNotFoundError,
    TransferError,
    ValidationError,
)
from epista.contract.lineage import Origin, said
from epista.contract.objects import (
    Assets,
    CommitObjects,
    CopyObject,
    CopyObjects,
    Framed,
    FrameHead,
    MoveObject,
    MoveObjects,
    PutObject,
    Tag,
)
from epista.contract.tables import AppendRows

if TYPE_CHECKING:
    import os
    from contextlib import AbstractContextManager
    from io import BufferedReader

    from epista.client.session import Session
    from epista.client.transfer.folders import Found, Links
    from epista.serializers import Serialized

Ref: TypeAlias = str | AssetRef
"""What is taken wherever a key is."""

Inputs: TypeAlias = "Ref | QueryResult | Iterable[Ref | QueryResult]"
"""What something was made from: keys, assets, ids of versions, results of queries."""

Metadata: TypeAlias = Mapping[str, Any]
"""What a user says about an asset."""


_VERSION_ID = re.compile("ve_[0-9a-f]{28}")
_Tags = Annotated[tuple[Tag, ...], msgspec.Meta(max_length=MAX_TAGS)]


class _Assets(Assets, frozen=True, kw_only=True):
    assets: tuple[Asset, ...]


class _Framed(Framed, frozen=True, kw_only=True):
    assets: tuple[Asset, ...] = ()


class _Folder(NamedTuple):
    """A folder whose versions are pinned."""

    path: str
    """Ends in ``/``."""
    files: list[Pinned]
    """In code-point order of their keys."""


def fetch(here: Session, key: Ref, dest: str | os.PathLike[str] = ".", *, version: str | int | None = None) -> Path:
    """
    Download a file or a folder, and return the path that was written.

    An asset at exactly *key* wins over a folder; a trailing ``/`` means the folder. A file goes into *dest* if that ends in
    ``/`` or is a folder, else to *dest* itself; what is in a folder goes to *dest*, by its path below the folder. Every
    file is verified and replaced in one step, or left as it was; one that has the same content already is not touched.
    What broke off is continued by the next run. *version* is an id or a number, for a file.

    Raises:
        KeyNotFoundError: nothing is at *key*.
        IntegrityError: what arrived for a file is not what was recorded.
        TransferError: some files of a folder failed; ``results`` has a line for each file. The others have arrived.
    """
    found = _pin(here, key, version)
    if isinstance(found, Pinned):
        path = destinations.for_file(dest, found.key)
        root = Path(dest) if path.parent == Path(dest) else None
        with shown(here, "fetch", found.size_bytes) as progress:
            downloads.to_file(here, Job(found, path, root), progress)
        here.provenance.read([found.version])
        return path
    root = Path(dest)
    results, jobs = _plan(found, root)
    with shown(here, "fetch", sum(job.wanted.size_bytes for job in jobs), len(jobs)) as progress:
        results += downloads.to_files(here, jobs, progress)
    here.provenance.read(file.version for file in found.files)
    report(results)
    return root


def deserialize(
    here: Session,
    key: Ref,
    *,
    format: str | None = None,
    version: str | int | None = None,
    as_type: Literal["pandas", "arrow", "polars"] | None = None,
    **options: Any,
) -> Any:
    """
    Read what stands at *key* as a Python object; a folder as a dict of relative key to object.

    *format*, else the recorded format, else the extension decides how. ``format="bytes"`` always works. *options* are the
    serializer's, over those recorded with the version. *as_type* chooses the class of tables. The bytes are verified before
    they are parsed.

    Raises:
        KeyNotFoundError: nothing is at *key*.
        FormatError: there is no reader; in a folder all members without one are named before anything is transferred.
        UnreadableError: the bytes are not what their format says.
    """
    from epista import serializers

    def read(wanted: Pinned, data: bytes) -> Any:
        if wanted.options is None:
            wanted = _pin_listed(here, wanted)
        return serializers.deserialize(
            wanted.key,
            data,
            format=format,
            recorded_format=wanted.format,
            recorded_options=wanted.options or {},
            options=options,
            as_type=as_type,
        )

    found = _pin(here, key, version)
    if isinstance(found, Pinned):
        _require_readers([found], format, options)
        with shown(here, "read", found.size_bytes) as progress:
            data = downloads.to_memory(here, found, progress)
        here.provenance.read([found.version])
        return read(found, data)
    _require_readers(found.files, format, options)
    objects: dict[str, Any] = {file.key.removeprefix(found.path): None for file in found.files}
    with (
        shown(here, "read", sum(file.size_bytes for file in found.files), len(found.files)) as progress,
        contextlib.closing(downloads.to_memories(here, found.files, progress)) as arriving,
    ):
        for file, data in arriving:
            objects[file.key.removeprefix(found.path)] = read(file, data)
    here.provenance.read(file.version for file in found.files)
    return objects


def put(
    here: Session,
    key: Ref,
    obj: Any,
    *,
    meta: Metadata | None = None,
    tags: Iterable[str] | None = None,
    kind: str | None = None,
    format: str | None = None,
    expect: str | None = None,
    inputs: Inputs | None = None,
    **options: Any,
) -> Asset:
    """
    Store a Python object at *key*, serialized by the extension of the key and the type of the object.

    Nothing is overwritten: a put makes a version, unless it changes nothing. *meta* and *tags* replace those of the asset;
    None keeps them, an empty one clears them. *expect* is ``"absent"`` or the id of the version this replaces. *inputs*
    are what it was made from: keys, assets, ids of versions, results of queries; None: what this session has read so far, or in
    the `run` that this is done in. *options* are the serializer's, and apply again on read.

    Raises:
        FormatError: the object does not fit the key's extension, or that is not known.
        ConflictError: not as *expect*-ed, or the name is taken by a folder; ``details["found"]`` says by what.
    """
    from epista import serializers

    _refuse_folder(key, "ws.put_dir(prefix, path) stores a folder; ws.put_file(key, path) takes the file's name")
    place = target(here, key)
    described = _described(meta, tags, kind)
    made = serializers.serialize(place, obj, format=format, options=options)
    origin = origin_of(here, inputs)

    def put_object(sha256: str) -> PutObject:
        return PutObject(
            key=place,
            sha256=sha256,
            format=made.format,
            kind_hint=made.kind,
            options=dict(made.options),
            expect=expect,
            **described,
        )

    if len(made.data) < frames.SMALL_BYTES:
        return _put_small(here, made.data, put_object, origin)
    with shown(here, "put", len(made.data)) as progress:
        sha256 = upload.send_bytes(here, made.data, progress)
    return _commit(here, [put_object(sha256)], origin)[0]


def append(here: Session, key: Ref, table: Any, *, expect: str | None = None, inputs: Inputs | None = None) -> Asset:
    """
    Add the rows of *table* (pandas, polars, Arrow, a list of dicts) to the Parquet table at *key*, as a new version.

    Only the new rows travel. Columns go by name: those that are new are missing in older rows, and those that *table* lacks in
    its own. Integers and floating-point numbers widen where they have to; another type is refused. Where nothing stands at *key*,
    the table is put. Two who append at once both succeed; *expect* is as for `put`. An index without a name is left out.

    Raises:
        FormatError: no table, a column of another type, or *key* is no Parquet.
        ConflictError: not as *expect*-ed.
    """
    from epista import serializers

    _refuse_folder(key, "name one table")
    place = target(here, key)
    if _format_of(place, None) not in (None, "parquet") or formats.is_gzipped(place):
        raise FormatError(f"rows are appended to Parquet, which {place!r} is not", hint="put the table as .parquet first")
    if list(getattr(getattr(table, "index", None), "names", ())) == [None]:
        table = table.reset_index(drop=True)
    made = serializers.serialize("rows.parquet", table)
    origin = origin_of(here, inputs)
    with shown(here, "append", len(made.data)) as progress:
        sha256 = upload.send_bytes(here, made.data, progress)
    request = AppendRows(workspace=here.name, key=place, sha256=sha256, expect=expect, **said(origin))
    return assets.bound(here, here.wire.call("tables.append", request, reply=Asset, read_seconds=tables.JOIN_SECONDS))


def put_file(
    here: Session,
    key: Ref,
    path: str | os.PathLike[str],
    *,
    meta: Metadata | None = None,
    tags: Iterable[str] | None = None,
    kind: str | None = None,
    format: str | None = None,
    expect: str | None = None,
    inputs: Inputs | None = None,
    **options: Any,
) -> Asset:
    """
    Upload one file as it is; a *key* ending in ``/`` takes the file's name.

    A link is followed. The file may be of any format; *format* names it where the extension does not, and *options* tell
    how it is read. Everything else is as for `put`.

    Raises:
        TransferError: no regular file, or one that changed while it was read. Nothing is recorded.
        ConflictError: not as *expect*-ed, or the name is taken by a folder.
    """
    from epista import serializers

    path = Path(path)
    if isinstance(key, str) and key.endswith("/"):
        key = keys.normalise(_folder_path(key) + path.name)
    place = target(here, key)
    described = _described(meta, tags, kind)
    name = _format_of(place, format)
    recorded = serializers.check_options(name or formats.UNKNOWN.name, options)
    origin = origin_of(here, inputs)

    def put_object(sha256: str) -> PutObject:
        return PutObject(key=place, sha256=sha256, format=name, options=recorded, expect=expect, **described)

    if (data := upload.read_small(path)) is not None:
        return _put_small(here, data, put_object, origin)
    with shown(here, "put", disk.size_of(path)) as progress:
        sha256 = upload.send_file(here, path, progress)
    return _commit(here, [put_object(sha256)], origin)[0]


def put_dir(
    here: Session,
    prefix: str,
    path: str | os.PathLike[str],
    *,
    meta: Metadata | Callable[[str], Metadata | None] | None = None,
    tags: Iterable[str] | None = None,
    ignore: str | Iterable[str] | None = None,
    links: Links = "inside",
    expect: Literal["absent"] | None = None,
    inputs: Inputs | None = None,
) -> list[Asset]:
    """
    Upload a folder below *prefix*, all or nothing, and return its assets in the order of their names.

    ``""`` is the active experiment, or the root without one. *meta* applies to every file, or is called with each one's
    path relative to the folder. What version control, operating systems and editors leave behind stays out, and so does
    what ``.epistaignore`` at the top of the folder or *ignore* says, in gitignore syntax; ``ignore=()`` takes everything.
    *links* says which symbolic links are followed: those to files ``"inside"`` the folder (others are an error), all
    (``"follow"``), or none (``"skip"``). Empty folders leave nothing. A second run sends only what is not there yet.

    Raises:
        ValidationError: some files cannot be taken; ``violations`` lists all of them, and nothing was sent.
        TransferError: *path* is no folder, or a file changed while it was read. Nothing is recorded.
        ConflictError: a key is taken; nothing is recorded.
    """
    if expect not in (None, "absent"):
        raise ValidationError(f"expect={expect!r}: a folder can only be expected to be 'absent'")
    folder = folder_for(here, prefix)
    described = _described(None if callable(meta) else meta, tags, None)
    origin = origin_of(here, inputs)
    found = folders.walk(path, ignore=ignore, links=links)
    places, metas, problems = _places(folder, found, meta if callable(meta) else None)
    upload.refuse(problems)
    if not places:
        return []
    usual = len(msgspec.json.encode(described["meta"]))
    files = [
        batches.File(
            name,
            found.files[name],
            disk.size_of(found.files[name]),
            len(msgspec.json.encode(metas[name])) if name in metas else usual,
        )
        for name in sorted(places, key=places.__getitem__)
    ]

    def described_as(name: str, sha256: str) -> PutObject:
        fields = {**described, "meta": metas.get(name, described["meta"])}
        place = places[name]
        return PutObject(key=place, sha256=sha256, format=_format_of(place, None), expect=expect, **fields)

    with shown(here, "put", sum(file.size_bytes for file in files), len(files)) as progress:
        if found.left_out:
            progress.note(f"{len(found.left_out)} left out of '{path}': {', '.join(found.left_out[:10])}")
        made = batches.put(here, files, described_as, origin, batches.Receipts(_Framed, _Assets), progress)
    receipts = {asset.key: asset for asset in made}
    return _bound(here, (receipts[place] for place in places.values()))


def put_together(
    here: Session,
    files: Sequence[tuple[str, Serialized]],
    *,
    meta: Metadata | None = None,
    tags: Iterable[str] | None = None,
    expect: str | None = None,
    inputs: Inputs | None = None,
) -> list[Asset]:
    """Store what belongs together, by keys that are whole, in one commit; *meta*, *tags* and *expect* are for the first."""
    origin = origin_of(here, inputs)
    first: dict[str, Any] = {"expect": expect, **_described(meta, tags, None)}

    def wanted(number: int, sha256: str) -> PutObject:
        key, made = files[number]
        described: dict[str, Any] = {} if number else first
        return PutObject(key=key, sha256=sha256, format=made.format, kind_hint=made.kind, options=dict(made.options), **described)

    if sum(len(made.data) for _, made in files) < frames.SMALL_BYTES:
        hashes = [hashlib.sha256(made.data).hexdigest() for _, made in files]
        bodies = {sha256: made.data for sha256, (_, made) in zip(hashes, files, strict=True)}
        head = FrameHead(objects=tuple(wanted(*one) for one in enumerate(hashes)), **said(origin))
        return _bound(here, transfer_frames.send(here, bodies, head, _Framed).assets)
    with shown(here, "put", sum(len(made.data) for _, made in files)) as progress:
        hashes = [upload.send_bytes(here, made.data, progress) for _, made in files]
    return _commit(here, [wanted(*one) for one in enumerate(hashes)], origin)


def copy(here: Session, key: Ref, to: str, *, version: str | int | None = None, expect: str | None = None) -> Asset:
    """
    Make what stands at *key* stand at *to* as well, without moving bytes, and return the copy.

    It has the metadata, tags, kind and options of *key*, and records the version that it was made from; what stands at *to* gets
    a new version. A *to* ending in ``/`` takes the name of *key*. *version* is an id or a number. *expect* is as for `put`.

    Raises:
        KeyNotFoundError: nothing is at *key*.
        ConflictError: not as *expect*-ed, or the name is taken by a folder.
    """
    _refuse_folder(key, "ws.copy_dir(prefix, to) copies a folder")
    source, experiment = locate(here, key)
    wanted = CopyObject(
        source=source, target=_beside(here, source, to), version=None if version is None else str(version), expect=expect
    )
    return _copied_to(here, [wanted], experiment)[0]


def copy_dir(here: Session, prefix: str, to: str, *, expect: Literal["absent"] | None = None) -> list[Asset]:
    """
    Make all that stands below the folder *prefix* stand below the folder *to* as well, all or nothing; return the copies.

    Each is as `copy` makes it. ``"/"`` is the root of the workspace. *expect* holds for every key.
    """
    return _copied_to(here, [CopyObject(source=_folder_path(prefix), target=_folder_to(to), expect=expect)], None)


def move(here: Session, key: Ref, to: str, *, expect: str | None = None) -> Asset:
    """
    Make what stands at *key* stand at *to* instead, in one step, and return it.

    A `copy`, after which *key* is hidden with its versions, as by `delete`: `restore` brings it back. Otherwise as `copy`.
    """
    _refuse_folder(key, "ws.move_dir(prefix, to) moves a folder")
    source, experiment = locate(here, key)
    return _moved_to(here, [MoveObject(source=source, target=_beside(here, source, to), expect=expect)], experiment)[0]


def move_dir(here: Session, prefix: str, to: str, *, expect: Literal["absent"] | None = None) -> list[Asset]:
    """Make all below the folder *prefix* stand below the folder *to* instead, all or nothing; see `move` and `copy_dir`."""
    return _moved_to(here, [MoveObject(source=_folder_path(prefix), target=_folder_to(to), expect=expect)], None)


def _beside(here: Session, source: str, to: str) -> str:
    if isinstance(to, str) and to.endswith("/"):
        return keys.normalise(_folder_to(to).removeprefix("/") + keys.name_of(source))
    return target(here, to)


def _folder_to(to: str) -> str:
    return keys.normalise_folder(to) or "/"


def _copied_to(here: Session, wanted: Sequence[CopyObject], experiment: str | None) -> list[Asset]:
    request = CopyObjects(workspace=here.name, objects=tuple(wanted), experiment=experiment, notebook=here.notebook)
    return _bound(here, here.wire.call("objects.copy", request, reply=_Assets).assets)


def _moved_to(here: Session, wanted: Sequence[MoveObject], experiment: str | None) -> list[Asset]:
    request = MoveObjects(workspace=here.name, objects=tuple(wanted), experiment=experiment, notebook=here.notebook)
    return _bound(here, here.wire.call("objects.move", request, reply=_Assets).assets)


@overload
def open(
    here: Session,
    ref: Ref,
    *,
    byte_range: tuple[int, int] | None = None,
    download: Literal[False] = False,
    version: str | int | None = None,
) -> BufferedReader: ...
@overload
def open(
    here: Session,
    ref: Ref,
    *,
    byte_range: None = None,
    download: Literal[True],
    version: str | int | None = None,
) -> AbstractContextManager[Path]: ...
def open(
    here: Session,
    ref: Ref,
    *,
    byte_range: tuple[int, int] | None = None,
    download: bool = False,
    version: str | int | None = None,
) -> BufferedReader | AbstractContextManager[Path]:
    """
    Open what *ref* (an id, a key or a bare name) stands for, as a binary stream that can be read and sought in.

    *byte_range* is the first and the last byte, counted from 0, both included; a last byte past the end means the end. The
    stream reads by range and is pinned to its version. Read from the first to the last byte in order it is verified, at
    its end; other reads cannot be. ``download=True`` gives a context with the path of a local copy instead, which is
    verified, bears the asset's name and goes away with the context.

    Raises:
        KeyNotFoundError: nothing is there.
        ValidationError: *byte_range* is not within the asset.
    """
    _refuse_folder(ref, "ws.fetch(key, dest) downloads a folder")
    wanted = _pin_one(here, ref, version)
    if download:
        if byte_range is not None:
            raise ValidationError("byte_range is for streams; with download=True the whole file is copied")
        return _copied(here, wanted)
    start, stop = _bounds(byte_range, wanted)
    here.provenance.read([wanted.version])
    return streams.opened(here, wanted, start, stop)


@contextlib.contextmanager
def _copied(here: Session, wanted: Pinned) -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="epista-") as folder:
        path = destinations.below(Path(folder), keys.name_of(wanted.key))
        with shown(here, "fetch", wanted.size_bytes) as progress:
            downloads.to_file(here, Job(wanted, path, Path(folder)), progress)
        here.provenance.read([wanted.version])
        yield path


def _bounds(byte_range: tuple[int, int] | None, wanted: Pinned) -> tuple[int, int]:
    if byte_range is None:
        return 0, wanted.size_bytes
    first, last = byte_range
    if not 0 <= first <= last:
        raise ValidationError(f"byte_range={byte_range!r}: the first and the last byte, counted from 0, both included")
    if first >= wanted.size_bytes:
        raise ValidationError(f"byte_range={byte_range!r} begins past the end: {wanted.key!r} has {wanted.size_bytes:,} bytes")
    return first, min(last + 1, wanted.size_bytes)


def _pin(here: Session, key: Ref, version: str | int | None) -> Pinned | _Folder:
    """Return the version at exactly *key*, else the folder; what it was before, if the lab cannot be reached."""

    def ask() -> list[Any]:
        found = _asked(here, key, version)
        return [None, [found]] if isinstance(found, Pinned) else [found.path, found.files]

    if here.cache is None:
        return _asked(here, key, version)
    place, experiment = (key, here.experiment_name) if isinstance(key, str) else (key.key, None)

    def also(answer: Any) -> list[offline.Question]:
        # Whoever names this very version means the same.
        return [["pin", here.name, one, experiment, row[1]] for row in answer[1] for one in {place, row[0]} if answer[0] is None]

    question: offline.Question = ["pin", here.name, place, experiment, None if version is None else str(version)]
    path, rows = offline.answer(here.cache, here.wire, question, ask, also=also)
    files = [Pinned(*row) for row in rows]
    return files[0] if path is None else _Folder(path, files)


def _pin_one(here: Session, ref: Ref, version: str | int | None) -> Pinned:
    """Return the version of the one asset that *ref* stands for; what it was before, if the lab cannot be reached."""

    def ask() -> Pinned:
        found = assets.get(here, ref)
        return pinned(here, found, found.version, None) if version is None else _pin_version(here, found.key, version)

    place, experiment = (ref, here.experiment_name) if isinstance(ref, str) else (ref.key, None)
    question: offline.Question = ["one", here.name, place, experiment, None if version is None else str(version)]
    return Pinned(*offline.answer(here.cache, here.wire, question, ask))


def _pin_listed(here: Session, listed: Pinned) -> Pinned:
    """Return a version with its options, which a listing leaves out."""
    question: offline.Question = ["listed", here.name, listed.version]
    return Pinned(*offline.answer(here.cache, here.wire, question, lambda: _pin_version(here, listed.key, listed.version)))


def _asked(here: Session, key: Ref, version: str | int | None) -> Pinned | _Folder:
    """Ask the lab for the version at exactly *key*, else for the folder."""
    if not isinstance(key, str):
        return _pin_key(here, key, version)
    missing: KeyNotFoundError | None = None
    if not key.endswith("/"):
        try:
            return _pin_key(here, key, version)
        except KeyNotFoundError as error:
            missing = error
    path = _folder_path(key)
    files = _listed(here, path)
    if not files:
        raise missing or KeyNotFoundError(f"there is no folder {path!r}", hint="ws.ls() shows what is there")
    if version is not None:
        raise ValidationError(f"{path!r} is a folder; version= names a version of one file")
    return _Folder(path, files)


def _pin_key(here: Session, key: Ref, version: str | int | None) -> Pinned:
    path, experiment = locate(here, key)
    if version is not None:
        return _pin_version(here, path, version, experiment)
    request = GetAsset(workspace=here.name, ref=path, experiment=experiment, exact=True)
    found = here.wire.call("assets.get", request, reply=Asset)
    return pinned(here, found, found.version, found.options)


def _pin_version(here: Session, key: str, version: str | int, experiment: str | None = None) -> Pinned:
    request = GetVersion(workspace=here.name, key=key, version=str(version), experiment=experiment)
    found = here.wire.call("assets.version", request, reply=Version)
    return pinned(here, found, found.id, found.options)


def _listed(here: Session, folder: str) -> list[Pinned]:
    files: list[Pinned] = []
    after = None
    while True:
        request = FindAssets(workspace=here.name, prefix=folder, after=after)
        page = here.wire.call("assets.find", request, reply=AssetPage)
        files += [pinned(here, found, found.version, None) for found in page.assets]
        after = page.next
        if after is None:
            return files


def pinned(here: Session, found: AssetRef | Version, version: str, options: Mapping[str, Any] | None) -> Pinned:
    found = assets.whole(here, found)
    size = -1 if found.size_bytes is None else found.size_bytes
    # The hash becomes part of a file's name, so it is not taken on trust.
    if (found.sha256 is not None and not re.fullmatch("[0-9a-f]{64}", found.sha256)) or size < 0:
        raise IntegrityError(f"the server lists {found.key!r} without a sha256 and a size that make sense")
    return Pinned(found.key, version, size, found.sha256, found.format, options)


def _folder_path(path: str) -> str:
    folder = keys.normalise_folder(path)
    if not folder:
        raise InvalidKeyError(f"{path!r} names no asset and no folder", hint="'' and '/' would mean everything; name a folder")
    return folder


def _plan(folder: _Folder, root: Path) -> tuple[list[Result], list[Job]]:
    """Return what is settled without a transfer, and the transfers."""
    results: list[Result] = []
    names: dict[str, str] = {}
    for file in folder.files:
        if file.key.endswith("/"):
            results.append(result(file.key, "skipped"))  # a folder marker, from an imported store
        elif not file.key.startswith(folder.path):
            results.append(result(file.key, "failed", TransferError(f"{file.key!r} is not below {folder.path!r}")))
        else:
            names[file.key] = file.key.removeprefix(folder.path)
    places = destinations.for_folder(root, names)
    jobs: list[Job] = []
    for file in folder.files:
        place = places.pop(file.key, None)
        if isinstance(place, TransferError):
            results.append(result(file.key, "failed", place))
        elif place is not None:
            jobs.append(Job(file, place, root))
    return results, jobs


def report(results: Sequence[Result]) -> None:
    """Raise one `TransferError` for all files that did not arrive, if there are any."""
    failed = [line for line in results if line["status"] == "failed"]
    if failed:
        some = "; ".join(f"{line['key']!r}: {line['error'].splitlines()[0]}" for line in failed[:5])
        more = f" (and {len(failed) - 5} more)" if len(failed) > 5 else ""
        raise TransferError(
            f"{len(failed)} of {len(results)} files did not arrive: {some}{more}",
            hint="the others are in place; the next run brings only what is missing",
            details={"results": sorted(results, key=lambda line: str(line["key"]))},
        )


def _require_readers(files: list[Pinned], format: str | None, options: Mapping[str, Any]) -> None:
    """Refuse, before any bytes move, what cannot be read; all of it is named."""
    from epista import serializers

    lacking: list[str] = []
    for file in files:
        reader = serializers.reader_for(file.key, format=format, recorded_format=file.format)
        if reader is None:
            lacking.append(f"{file.key!r} ({format or file.format})")
        else:
            serializers.check_options(reader.name, options)
    if lacking:
        raise FormatError(
            f"there is no reader for {', '.join(lacking)}",
            hint="format='bytes' reads anything; ws.fetch downloads it; epista.formats() lists what is installed",
        )


def _described(meta: Metadata | None, tags: Iterable[str] | None, kind: str | None) -> dict[str, Any]:
    """Return the fields of a `PutObject` that describe it, checked."""
    if kind is not None and kind.upper() not in formats.KINDS:
        raise ValidationError(f"kind {kind!r} is not known; it is one of {', '.join(formats.KINDS)}")
    return {"meta": _metadata(meta), "tags": _tags(tags), "kind": kind.upper() if kind else None}


def _metadata(meta: Metadata | None) -> Metadata | None:
    if meta is None:
        return None
    from epista.serializers.json_values import to_json

    if not isinstance(meta, Mapping):
        raise ValidationError(f"metadata is a JSON object (a dict), not {type(meta).__name__}")
    document: Metadata = to_json(dict(meta))
    metadata.check(document)
    return document


def _tags(tags: Iterable[str] | None) -> tuple[str, ...] | None:
    if tags is None:
        return None
    if isinstance(tags, str):
        raise ValidationError(f"tags={tags!r} is one str; tags are a list: [{tags!r}]")
    try:
        return msgspec.convert(list(tags), _Tags)
    except msgspec.ValidationError as error:
        raise ValidationError(f"tags: {error}") from error


def _format_of(key: str, format: str | None) -> str | None:
    """Return the format of a file to be stored; None if neither its extension nor the caller says any."""
    from epista.serializers import registry

    known = registry.format_of_key(key)
    named = registry.resolve(format) if format else known
    # Gzip around something of unknown extension says nothing of the something.
    if known not in (None, "gzip", named):
        raise FormatError(f"format={format!r} contradicts the extension of {key!r}, which says {known}", hint="leave format= out")
    return named


def _refuse_folder(key: Ref, hint: str) -> None:
    if isinstance(key, str) and key.endswith("/"):
        raise InvalidKeyError(f"{key!r} means a folder, and this is for one asset", hint=hint)


def folder_for(here: Session, prefix: str) -> str:
    """Return the folder that *prefix* means when something is written; nothing is the active experiment."""
    if prefix == "":
        return f"{here.experiment_called(here.experiment_name)}/" if here.experiment_name else ""
    return _folder_path(prefix)


def _places(
    folder: str, found: Found, describe: Callable[[str], Metadata | None] | None
) -> tuple[dict[str, str], dict[str, Metadata | None], dict[str, str]]:
    """Return the key and the metadata of each file by its path, and what is wrong with any of them."""
    places: dict[str, str] = {}
    metas: dict[str, Metadata | None] = {}
    problems = dict(found.problems)
    taken: dict[str, str] = {}
    for name in found.files:
        try:
            place = keys.normalise(folder + name)
            if describe is not None:
                metas[name] = _metadata(describe(name))
        except EpistaError as error:
            problems[name] = error.message
            continue
        if place in taken:
            problems[name] = f"has the key of {taken[place]!r}, of which it is another spelling (NFC)"
        taken[place] = name
        places[name] = place
    return places, metas, problems


def origin_of(here: Session, inputs: Inputs | None) -> Origin:
    """Return where what is written now comes from: what *inputs* state, or else what this session has read."""
    given: list[Ref | QueryResult] = []
    if inputs is None:
        activity = here.provenance.activity()
    else:
        given = [inputs] if isinstance(inputs, str | AssetRef | QueryResult) else list(inputs)
        activity = here.provenance.stated(one.query_id for one in given if isinstance(one, QueryResult))
    return Origin(
        inputs=tuple(_version_of(here, one) for one in given if not isinstance(one, QueryResult)),
        notebook=here.notebook,
        activity=worth_telling(activity),
    )


def _version_of(here: Session, ref: Ref) -> str:
    if isinstance(ref, AssetRef):
        return ref.version
    if _VERSION_ID.fullmatch(ref):
        return ref
    return assets.get(here, ref).version


def _put_small(here: Session, data: bytes, put_object: Callable[[str], PutObject], origin: Origin) -> Asset:
    """Send the content and commit it in one request."""
    sha256 = hashlib.sha256(data).hexdigest()
    head = FrameHead(objects=(put_object(sha256),), **said(origin))
    return assets.bound(here, transfer_frames.send(here, {sha256: data}, head, _Framed).assets[0])


def _commit(here: Session, objects: list[PutObject], origin: Origin) -> list[Asset]:
    request = CommitObjects(workspace=here.name, objects=tuple(objects), **said(origin))
    return _bound(here, here.wire.call("objects.commit", request, reply=_Assets).assets)


def _bound(here: Session, made: Iterable[Asset]) -> list[Asset]:
    return [assets.bound(here, one) for one in made]
