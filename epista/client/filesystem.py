"""
The bucket as a file system of fsspec: ``epista://EXP-12/summary.parquet`` for pandas, dask, zarr, polars, DuckDB and their like.

A path is a key, from the root of the workspace; a folder is there while something stands below it. What is read is pinned to
one version. What is written appears whole, when the file is closed, or not at all.

This module is loaded by fsspec, through its entry point; nothing else here needs fsspec.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import io
import os
import secrets
import sys
import tempfile
import threading
import unicodedata
import warnings
import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from glob import has_magic
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from fsspec.callbacks import DEFAULT_CALLBACK
from fsspec.spec import AbstractBufferedFile, AbstractFileSystem
from fsspec.transaction import Transaction
from fsspec.utils import isfilelike, stringify_path

from epista.client import assets, current, links, objects, settings, tables
from epista.client.session import Session
from epista.client.transfer import destinations, download, frames, upload
from epista.client.transfer.download import Job, Pinned
from epista.client.transfer.progress import Progress
from epista.client.transfer.threads import each
from epista.contract import keys
from epista.contract.assets import AssetPage, AssetRef, FindAssets, GetVersion, Level, ListLevel, Version
from epista.contract.errors import (
    ConflictError,
    EpistaError,
    IntegrityError,
    InvalidKeyError,
    KeyNotFoundError,
    SettingsError,
    ValidationError,
)
from epista.contract.frames import MAX_BODY_BYTES, MAX_OBJECTS, SMALL_BYTES
from epista.contract.lineage import said
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
)

if TYPE_CHECKING:
    from datetime import datetime

BLOCK_BYTES = 4 * 1024 * 1024
"""How much a file that is read asks for at least, unless told otherwise."""

SPOOL_BYTES = 8 * 1024 * 1024
"""How much of a file that is written stays in memory; the rest waits in a temporary file."""

_WIDE = 32
"""From how many folders on one listing of everything below costs less than a listing of each."""

Info = dict[str, Any]
"""What fsspec calls the details of an entry: ``name``, ``size``, ``type``, and of a file what is known of its version."""

_Item = TypeVar("_Item")
_Result = TypeVar("_Result")


class PathNotFoundError(KeyNotFoundError, FileNotFoundError):
    """Nothing is at this path."""


class PathExistsError(ConflictError, FileExistsError):
    """Something is at this path already."""


class FolderInTheWayError(ConflictError, IsADirectoryError):
    """A folder is at this path, where a file was to be written."""


class FileInTheWayError(ConflictError, NotADirectoryError):
    """A file stands where a folder of this path would have to be."""


class IsFolderError(InvalidKeyError, IsADirectoryError):
    """A folder is at this path, and this is for files."""


class NotEmptyError(ConflictError, OSError):
    """This folder is not empty."""


class _Placed(type(AbstractFileSystem)):  # type: ignore[misc]  # fsspec has no types
    """Makes the options absolute by which fsspec keeps its instances: ``./lab`` is another folder after a change of folder."""

    def __call__(cls, *args: Any, **options: Any) -> Any:
        if args:
            options["location"], *args = args  # type: ignore[assignment]
        if (location := options.get("location")) is not None:
            options["location"] = settings.normalise(os.fspath(location), "the location given")
        if isinstance(session := options.get("session"), Session):
            options["session"] = _handle(session)
        return super().__call__(*args, **options)


class EpistaTransaction(Transaction):  # type: ignore[misc]  # fsspec has no types
    """Files that are written within it appear together, by one commit."""

    def complete(self, commit: bool = True) -> None:
        """Commit what was written, or forget it."""
        files = list(self.files)
        try:
            if commit:
                # A path that was written twice is what it was the last time.
                sent = {file.key: file for file in files if file.send()}
                if sent:
                    with _as_file_errors(*sent):
                        _commit(next(iter(sent.values())).here, [file.placed() for file in sent.values()])
        finally:
            self.files.clear()
            for file in files:
                file.discard()
            super().complete(commit=False)


class EpistaFileSystem(AbstractFileSystem, metaclass=_Placed):  # type: ignore[misc]  # fsspec has no types
    """
    Your lab's data as a file system.

    Without options it is the current workspace (``epista.use(ws)``, else the settings). Otherwise *location*, *token*,
    *workspace* and *experiment* are as for `epista.Workspace`; or *session* is a workspace that is open already. A path without a
    folder belongs to the active experiment, as a key does.

    Pickled, for the workers of dask, it names the place and never the token: the other side finds its own, in its variables or
    its credentials file.
    """

    protocol = "epista"
    root_marker = ""
    blocksize = BLOCK_BYTES
    transaction_type = EpistaTransaction

    def __init__(
        self,
        location: str | None = None,
        *,
        token: str | None = None,
        workspace: str | None = None,
        experiment: str | None = None,
        session: Session | str | None = None,
        **options: Any,
    ) -> None:
        super().__init__(**options)
        self._given = {"location": location, "token": token, "workspace": workspace, "experiment": experiment}
        # By its handle: see the metaclass. It is held here, for a workspace that nobody holds is closed.
        self._handle = session if isinstance(session, str) else None
        self._known = _handles.get(self._handle) if self._handle else None
        self._bulks = threading.local()

    def __repr__(self) -> str:
        named = {name: value for name, value in self._given.items() if value is not None and name != "token"}
        return f"<{type(self).__name__}{''.join(f' {name}={value!r}' for name, value in named.items())}>"

    def __reduce__(self) -> tuple[Any, ...]:
        here = self._here()
        return _unpickled, (type(self), here.location, here.name, here.experiment_name, _handle(here))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, type(self)) and self._place() == other._place()

    def __hash__(self) -> int:
        return hash(self._place())

    def __dask_tokenize__(self) -> tuple[str | None, ...]:
        return self._place()

    @property
    def storage_options(self) -> dict[str, Any]:
        """The options it was made with, without the token."""
        return dict(self._options)

    @storage_options.setter
    def storage_options(self, options: Mapping[str, Any]) -> None:
        self._options = {name: value for name, value in options.items() if name != "token"}

    @property
    def fsid(self) -> str:
        """Tells one place from another, in every process."""
        return "epista:" + hashlib.sha256(repr(self._place()).encode()).hexdigest()

    # Paths

    @classmethod
    def _strip_protocol(cls, path: Any) -> Any:
        """Return the key, or keys, that *path* means: in normal form C, without slashes around it."""
        if isinstance(path, list):
            return [cls._strip_protocol(one) for one in path]
        return unicodedata.normalize("NFC", stringify_path(path).removeprefix("epista://").strip("/"))

    @classmethod
    def _parent(cls, path: Any) -> str:
        return str(cls._strip_protocol(path)).rpartition("/")[0]

    def expand_path(
        self, path: Any, recursive: bool = False, maxdepth: int | None = None, assume_literal: bool = False, **kwargs: Any
    ) -> list[str]:
        """Return the paths that *path*, or each of several, stands for. A file of exactly that name wins over a pattern."""
        given = [path] if isinstance(path, str | os.PathLike) else list(path)
        if assume_literal:
            return list(super().expand_path(given, recursive, maxdepth, True, **kwargs))
        wanted = [self._strip_protocol(one) for one in given]
        exact = {one for one in wanted if has_magic(one) and self.isfile(one)}
        others = [one for one in wanted if one not in exact]
        if not others and exact:
            return sorted(exact)
        return sorted({*exact, *super().expand_path(others, recursive, maxdepth, **kwargs)})

    # Looking

    def info(self, path: Any, version: str | int | None = None, **kwargs: Any) -> Info:
        """
        Return name, size and type of what is at *path*; of a file also sha256, version, kind, format and when it was made.

        *version* is the id or number of an older version.

        Raises:
            FileNotFoundError: nothing is there, as far as you may know.
        """
        path = self._strip_protocol(path)
        if version is not None:
            return self._version(path, version)
        found = self._look(path)
        if found is None:
            raise _missing(path)
        return found

    def exists(self, path: Any, **kwargs: Any) -> bool:
        """Whether a file or a folder is there. That the server cannot be asked is an error, not an answer."""
        return self._look(self._strip_protocol(path)) is not None

    def isfile(self, path: Any) -> bool:
        """Whether a file is there."""
        found = self._look(self._strip_protocol(path))
        return found is not None and found["type"] == "file"

    def isdir(self, path: Any) -> bool:
        """Whether a folder is there, with something below it."""
        found = self._look(self._strip_protocol(path))
        return found is not None and found["type"] == "directory"

    def ls(self, path: Any, detail: bool = True, **kwargs: Any) -> list[Any]:
        """List what is directly in a folder, or the file at *path*."""
        path = self._strip_protocol(path)
        with _as_file_errors(path):
            found = list(_level(self._here(), path))
        if not found and path:
            only = self._look(path)
            if only is None:
                raise _missing(path)
            found = [only]
        self._remember(found)
        found.sort(key=lambda info: str(info["name"]))
        return found if detail else [info["name"] for info in found]

    def find(
        self, path: Any, maxdepth: int | None = None, withdirs: bool = False, detail: bool = False, **kwargs: Any
    ) -> list[str] | dict[str, Info]:
        """List all files below *path*, or the file at *path*; with *withdirs* folders too. One request tells a thousand files."""
        if maxdepth is not None and maxdepth < 1:
            raise ValueError("maxdepth must be at least 1")
        path = self._strip_protocol(path)
        with _as_file_errors(path):
            files, folders = _below(self._here(), path, maxdepth)
        if path and (files or folders):
            folders.append(_folder(path))
        found = {info["name"]: info for info in files}
        self._remember([*files, *folders])
        if not found and not folders and path:
            only = self._look(path)
            if only is not None and only["type"] == "file":
                # By the name that was asked for, which may lack the active experiment.
                found = {path: only}
        elif withdirs:
            found |= {info["name"]: info for info in folders}
        names = sorted(found)
        return {name: found[name] for name in names} if detail else names

    def du(
        self, path: Any, total: bool = True, maxdepth: int | None = None, withdirs: bool = False, **kwargs: Any
    ) -> int | dict[str, int]:
        """Return how many bytes the files below *path* have, together or each."""
        found = self.find(path, maxdepth=maxdepth, withdirs=withdirs, detail=True)
        assert isinstance(found, dict)
        sizes = {name: int(info["size"] or 0) for name, info in found.items()}
        return sum(sizes.values()) if total else sizes

    def ukey(self, path: Any) -> str:
        """Return the sha256 of a file: another one means other bytes. Of a linked file it may be unknown: then the version."""
        info = self._file(path)
        return str(info["sha256"] or info["version"])

    def checksum(self, path: Any) -> int:
        """Return what `ukey` tells, as a number."""
        found = self.ukey(path)
        return int(found if len(found) == 64 else hashlib.sha256(found.encode()).hexdigest(), 16)

    def created(self, path: Any) -> datetime:
        """Return when the current version was made."""
        made: datetime = self._file(path)["created"]
        return made

    modified = created

    def sign(self, path: Any, expiration: int = 100, **kwargs: Any) -> str:
        """Return an address from which anybody can read the bytes of *path* as they are now, for *expiration* seconds."""
        info = self._file(path)
        return str(links.create(self._here(), info["name"], version=info["version"], seconds=expiration))

    # Reading

    def cat_file(
        self, path: Any, start: int | None = None, end: int | None = None, version: str | int | None = None, **kwargs: Any
    ) -> bytes:
        """Return the bytes of a file, verified; or those from *start* up to *end*, which count from the end if negative."""
        return self._read(self._file(path, version), start, end)

    def cat(self, path: Any, recursive: bool = False, on_error: str = "raise", **kwargs: Any) -> Any:
        """Return the bytes of a file; of several a dict by path, read a few at a time."""
        with self._bulk() as bulk:
            paths = self.expand_path(path, recursive=recursive)
        if len(paths) == 1 and not isinstance(path, list) and paths[0] == self._strip_protocol(path):
            return self.cat_file(paths[0], **kwargs)
        files = [one for one in paths if bulk.known.get(one, {}).get("type") != "directory"]

        if on_error == "raise" and not kwargs:
            pinned = {path: _pinned(self._here(), info) for path, info in zip(files, self._files(files, bulk), strict=True)}
            wanted = list({one.version: one for one in pinned.values()}.values())
            bytes_of = {one.version: data for one, data in download.to_memories(self._here(), wanted, Progress())}
            return {path: bytes_of[one.version] for path, one in pinned.items()}

        def read(one: str) -> bytes:
            known = bulk.known.get(one)
            return self._read(known, **kwargs) if known else self.cat_file(one, **kwargs)

        found = dict(zip(files, _in_parallel(_tried(read, on_error), files), strict=True))
        return {one: found[one] for one in files if on_error == "return" or not isinstance(found[one], Exception)}

    def cat_ranges(
        self, paths: Any, starts: Any, ends: Any, max_gap: int | None = None, on_error: str = "return", **kwargs: Any
    ) -> list[bytes | Exception]:
        """Return ranges of files, a few at a time; all ranges of one file are of one version."""
        if not isinstance(paths, list):
            raise TypeError("paths is a list")
        starts = starts if isinstance(starts, list) else [starts] * len(paths)
        ends = ends if isinstance(ends, list) else [ends] * len(paths)
        if not len(paths) == len(starts) == len(ends):
            raise ValueError("paths, starts and ends are of different lengths")
        wanted = list(dict.fromkeys(map(self._strip_protocol, paths)))
        pinned = dict(zip(wanted, _in_parallel(_tried(self._file, on_error), wanted), strict=True))

        def read(index: int) -> bytes:
            info = pinned[self._strip_protocol(paths[index])]
            if isinstance(info, Exception):
                raise info
            return self._read(info, starts[index], ends[index])

        return _in_parallel(_tried(read, on_error), range(len(paths)))

    def get(
        self,
        rpath: Any,
        lpath: Any,
        recursive: bool = False,
        callback: Any = DEFAULT_CALLBACK,
        maxdepth: int | None = None,
        **kwargs: Any,
    ) -> None:
        """Download files, a few at a time; each is verified, and replaces its target whole or not at all."""
        if isinstance(rpath, str) and isinstance(lpath, str) and has_magic(rpath) and self.isfile(rpath):
            is_folder = lpath.endswith("/") or Path(lpath).is_dir()
            rpath, lpath = [rpath], [str(Path(lpath, keys.name_of(self._strip_protocol(rpath)))) if is_folder else lpath]
        with self._bulk(gathers=callback is DEFAULT_CALLBACK) as bulk:
            super().get(rpath, lpath, recursive=recursive, callback=callback, maxdepth=maxdepth, **kwargs)
        if not bulk.pairs:
            return
        found = self._files([path for path, _ in bulk.pairs], bulk, folders=True)
        # Below the folder that was named no link is followed, for the names are those of others.
        root = Path(lpath) if isinstance(lpath, str) else None
        jobs: dict[Path, Job] = {}
        for info, (_, target) in zip(found, bulk.pairs, strict=True):
            jobs |= {job.target: job for job in self._jobs(info, Path(target), root)}
        if len({job.wanted.key for job in jobs.values()}) == len(jobs) > 1:
            objects.report(download.to_files(self._here(), list(jobs.values()), Progress()))
        else:
            _in_parallel(lambda job: download.to_file(self._here(), job, Progress()), list(jobs.values()))

    def get_file(self, rpath: Any, lpath: Any, callback: Any = DEFAULT_CALLBACK, outfile: Any = None, **kwargs: Any) -> None:
        """Download one file, verified, replacing its target whole or not at all; or into the open file *outfile*."""
        if outfile is not None or isfilelike(lpath):
            super().get_file(rpath, lpath, callback=callback, outfile=outfile, **kwargs)
            return
        rpath = self._strip_protocol(rpath)
        bulk = self._gathering()
        if bulk is None:
            info = self.info(rpath)
            callback.set_size(info["size"])
            for job in self._jobs(info, Path(lpath), None):
                download.to_file(self._here(), job, Progress())
            callback.relative_update(info["size"])
        else:
            bulk.pairs.append((rpath, lpath))

    # Writing

    def put(
        self,
        lpath: Any,
        rpath: Any,
        recursive: bool = False,
        callback: Any = DEFAULT_CALLBACK,
        maxdepth: int | None = None,
        **kwargs: Any,
    ) -> None:
        """Upload files, all or nothing."""
        mode = kwargs.get("mode", "overwrite")
        with self._bulk(gathers=callback is DEFAULT_CALLBACK and not self._intrans) as bulk:
            super().put(lpath, rpath, recursive=recursive, callback=callback, maxdepth=maxdepth, **kwargs)
        if bulk.pairs:
            self._put_all({key: Path(path) for path, key in bulk.pairs}, mode)

    def put_file(self, lpath: Any, rpath: Any, callback: Any = DEFAULT_CALLBACK, mode: str = "overwrite", **kwargs: Any) -> None:
        """Upload one file; with *mode* ``create`` only where nothing is."""
        path = Path(lpath)
        if path.is_dir():
            return
        rpath = self._strip_protocol(rpath)
        if self._intrans:
            with self.open(rpath, "xb" if mode == "create" else "wb") as sink, path.open("rb") as source:
                while piece := source.read(BLOCK_BYTES):
                    sink.write(piece)
            return
        bulk = self._gathering()
        if bulk is not None:
            if any(key == rpath for _, key in bulk.pairs):
                raise ValidationError(f"two files have the key {rpath!r}, in different spellings (NFC)")
            bulk.pairs.append((str(path), rpath))
            return
        here = self._here()
        size = path.stat().st_size
        callback.set_size(size)
        key = assets.target(here, rpath)
        with _as_file_errors(key, mode=mode):
            objects.put_file(here, key, path, expect=_expected(mode))
        callback.relative_update(size)

    def pipe(self, path: Any, value: bytes | None = None, **kwargs: Any) -> None:
        """Write bytes to a path; or a dict of them by path, all or nothing."""
        if isinstance(path, dict) and not self._intrans:
            mode = kwargs.get("mode", "overwrite")
            self._put_all({self._strip_protocol(one): bytes(data) for one, data in path.items()}, mode)
        else:
            super().pipe(path, value, **kwargs)

    def pipe_file(self, path: Any, value: bytes, mode: str = "overwrite", **kwargs: Any) -> None:
        """Write bytes to a path; with *mode* ``create`` only where nothing is."""
        path = self._strip_protocol(path)
        if self._intrans:
            with self.open(path, "xb" if mode == "create" else "wb") as sink:
                sink.write(value)
            return
        here = self._here()
        key = assets.target(here, path)
        with _as_file_errors(key, mode=mode):
            objects.put(here, key, bytes(value), expect=_expected(mode))

    def copy(
        self,
        path1: Any,
        path2: Any,
        recursive: bool = False,
        maxdepth: int | None = None,
        on_error: str | None = None,
        **kwargs: Any,
    ) -> None:
        """Copy files without moving bytes, all or nothing; metadata and tags come along."""
        pairs = self._pairs(path1, path2, recursive, maxdepth, on_error)
        if pairs:
            here = self._here()
            wanted = tuple(CopyObject(source=source, target=assets.target(here, to)) for source, to in pairs)
            with _as_file_errors(*(one.target for one in wanted)):
                request = CopyObjects(
                    workspace=here.name, objects=wanted, experiment=here.experiment_name, notebook=here.notebook
                )
                here.wire.call("objects.copy", request, reply=Assets)

    def cp_file(self, path1: Any, path2: Any, **kwargs: Any) -> None:
        """Copy one file without moving bytes."""
        path1, path2 = self._strip_protocol(path1), self._strip_protocol(path2)
        bulk = self._gathering()
        if bulk is None:
            with _as_file_errors(path1):
                objects.copy(self._here(), path1, path2)
        elif bulk.known.get(path1, {}).get("type") != "directory":
            bulk.pairs.append((path1, path2))

    def mv(self, path1: Any, path2: Any, recursive: bool = False, maxdepth: int | None = None, **kwargs: Any) -> None:
        """Move files in one step, all or nothing, without moving bytes; the older versions stay where they were, hidden."""
        pairs = self._pairs(path1, path2, recursive, maxdepth, "raise")
        moved = [(source, to) for source, to in pairs if source != to]
        if not pairs and isinstance(path1, str) and not has_magic(path1):
            raise _is_folder(self._strip_protocol(path1), "mv(..., recursive=True) moves a folder")
        if moved:
            here = self._here()
            wanted = tuple(MoveObject(source=source, target=assets.target(here, to)) for source, to in moved)
            with _as_file_errors(*(one.target for one in wanted)):
                request = MoveObjects(
                    workspace=here.name, objects=wanted, experiment=here.experiment_name, notebook=here.notebook
                )
                here.wire.call("objects.move", request, reply=Assets)

    def rm(self, path: Any, recursive: bool = False, maxdepth: int | None = None) -> None:
        """Hide files, and with *recursive* folders, each of them in one step; `Workspace.restore` brings files back."""
        limit = maxdepth if recursive else None
        with self._bulk() as bulk:
            paths = self.expand_path(path, recursive=limit is not None, maxdepth=limit)
        unknown = [one for one in paths if one not in bulk.known] if recursive else []
        bulk.known.update(zip(unknown, _in_parallel(self.info, unknown), strict=True))
        folders = [one for one in paths if bulk.known.get(one, {}).get("type") == "directory"]
        if folders and not recursive:
            raise _is_folder(folders[0], "rm(..., recursive=True) removes a folder")
        if limit is not None:
            folders, paths = [], [one for one in paths if one not in folders]
        outermost = [one for one in folders if not any(one.startswith(other + "/") for other in folders)]
        for folder in outermost:
            with _as_file_errors(folder):
                assets.delete_dir(self._here(), folder)
        inside = {*folders, *(one for one in paths if any(one.startswith(folder + "/") for folder in outermost))}
        _in_parallel(self.rm_file, [one for one in paths if one not in inside])

    def rm_file(self, path: Any) -> None:
        """Hide one file."""
        path = self._strip_protocol(path)
        with _as_file_errors(path):
            assets.delete(self._here(), path)

    _rm = rm_file

    def rmdir(self, path: Any) -> None:
        """Do nothing: a folder is gone when it is empty. One that is not is refused."""
        path = self._strip_protocol(path)
        if self.isdir(path):
            error = NotEmptyError(f"the folder {path!r} is not empty", hint="rm(..., recursive=True) removes it")
            error.errno = errno.ENOTEMPTY
            raise error

    def _open(
        self,
        path: str,
        mode: str = "rb",
        block_size: int | None = None,
        autocommit: bool = True,
        cache_options: dict[str, Any] | None = None,
        version: str | int | None = None,
        **kwargs: Any,
    ) -> Any:
        if mode == "rb":
            info = self._file(path, version)
            kwargs.pop("size", None)
            return EpistaFile(self, path, info, block_size=block_size, cache_options=cache_options, **kwargs)
        if mode not in ("wb", "xb", "ab"):
            raise ValueError(f"mode {mode!r}: a file is opened to be read, or written whole: 'rb', 'wb', 'xb' or 'ab'")
        return WrittenFile(self, path, mode, autocommit=autocommit)

    # Steps

    def _here(self) -> Session:
        """Return the session that this file system acts on."""
        if self._known is not None:
            return self._known
        if not any(self._given.values()):
            if self._handle is not None:
                raise SettingsError("this session= is of another process", hint="give the location and the workspace instead")
            here = current.current()
        else:
            here = _session(self._given)
        # Now, for a process that is forked from this one has to know it too.
        _handle(here)
        return here

    def _place(self) -> tuple[str | None, ...]:
        here = self._here()
        return type(self).__name__, here.location, here.name, here.experiment_name

    def _look(self, path: str) -> Info | None:
        """Return what is at *path*: one request, or two for a path that may be of the active experiment."""
        bulk: _Bulk | None = getattr(self._bulks, "bulk", None)
        if bulk is not None and path in bulk.known:
            return bulk.known[path]
        if not path:
            return _folder(path)
        here = self._here()
        try:
            inside = assets.target(here, path)
            found = _entry(here, inside) if inside != path else None
            if found is None or found["type"] != "file":
                found = _entry(here, path)
        except InvalidKeyError:
            # No such path can be there.
            return None
        if bulk is not None and found is not None:
            bulk.known[path] = found
        return found

    def _file(self, path: Any, version: str | int | None = None) -> Info:
        """Return the details of a file."""
        path = self._strip_protocol(path)
        info = self.info(path, version=version)
        if info["type"] != "file":
            raise _is_folder(path, "find() lists what is below it")
        return _whole(self._here(), info)

    def _version(self, path: str, version: str | int) -> Info:
        here = self._here()
        with _as_file_errors(path):
            key, experiment = assets.locate(here, path)
            wanted = GetVersion(workspace=here.name, key=key, version=str(version), experiment=experiment)
            found = here.wire.call("assets.version", wanted, reply=Version)
        return _whole(here, _info(found, found.id))

    def _read(self, info: Info, start: int | None = None, end: int | None = None, **kwargs: Any) -> bytes:
        if info["type"] != "file":
            raise _is_folder(info["name"], "find() lists what is below it")
        here = self._here()
        info = _whole(here, info)
        first, stop, _ = slice(start, end).indices(info["size"])
        wanted = _pinned(here, info)
        if (first, stop) == (0, wanted.size_bytes):
            return download.to_memory(here, wanted, Progress())
        return _range(here, wanted, first, stop)

    def _files(self, paths: Sequence[str], bulk: _Bulk, *, folders: bool = False) -> list[Info]:
        """Return the details of files, as far as they are not known yet a few at a time."""
        unknown = [path for path in dict.fromkeys(paths) if path not in bulk.known]
        bulk.known.update(zip(unknown, _in_parallel(self.info, unknown), strict=True))
        found = [bulk.known[path] for path in paths]
        if not folders and (wrong := next((info for info in found if info["type"] != "file"), None)):
            raise _is_folder(wrong["name"], "find() lists what is below it")
        return found

    def _jobs(self, info: Info, target: Path, root: Path | None) -> list[Job]:
        """Return how a file gets to *target*; a folder is made at once."""
        root = root if root in target.parents else None
        if info["type"] == "file":
            return [Job(_pinned(self._here(), _whole(self._here(), info)), target, root)]
        if root is not None:
            destinations.refuse_links(root, target)
        target.mkdir(parents=True, exist_ok=True)
        return []

    def _put_all(self, contents: Mapping[str, Path | bytes], mode: str) -> None:
        """Send contents and make versions of them in one commit."""
        here = self._here()
        places = {path: assets.target(here, path) for path in contents}
        files = {path: content for path, content in contents.items() if isinstance(content, Path)}
        progress = Progress()
        hashes = upload.hash_files(files, progress)
        lacking = set(upload.missing(here, sorted(set(hashes.values()))))
        hashes = upload.send_files(here, files, hashes, sorted(lacking), progress)
        data = {path: content for path, content in contents.items() if isinstance(content, bytes)}
        hashes |= zip(data, _sent(here, list(data.values())), strict=True)
        put = [PutObject(key=places[path], sha256=hashes[path], expect=_expected(mode)) for path in contents]
        if put:
            with _as_file_errors(*places.values(), mode=mode):
                _commit(here, put)

    def _pairs(
        self, path1: Any, path2: Any, recursive: bool, maxdepth: int | None, on_error: str | None
    ) -> list[tuple[str, str]]:
        """Return which file goes where, by the rules of fsspec."""
        if isinstance(path1, str) and isinstance(path2, str) and has_magic(path1) and self.isfile(path1):
            is_folder = path2.endswith("/") or self.isdir(path2)
            path2 = [f"{path2.rstrip('/')}/{keys.name_of(self._strip_protocol(path1))}" if is_folder else path2]
            path1 = [path1]
        with self._bulk(gathers=True) as bulk:
            super().copy(path1, path2, recursive=recursive, maxdepth=maxdepth, on_error=on_error)
            if on_error == "ignore" and not recursive:
                return [(source, to) for source, to in bulk.pairs if self._look(source) is not None]
        return list(bulk.pairs)

    @contextlib.contextmanager
    def _bulk(self, *, gathers: bool = False) -> Iterator[_Bulk]:
        """Remember what listings say while one call is carried out, and if it *gathers*, which files it is about."""
        outer = getattr(self._bulks, "bulk", None)
        self._bulks.bulk = _Bulk(gathers)
        try:
            yield self._bulks.bulk
        finally:
            self._bulks.bulk = outer

    def _gathering(self) -> _Bulk | None:
        bulk: _Bulk | None = getattr(self._bulks, "bulk", None)
        return bulk if bulk is not None and bulk.gathers else None

    def _remember(self, found: Iterable[Info]) -> None:
        if (bulk := getattr(self._bulks, "bulk", None)) is not None:
            bulk.known.update((info["name"], info) for info in found)


class EpistaFile(AbstractBufferedFile):  # type: ignore[misc]  # fsspec has no types
    """A file that is read, by ranges and through a cache of fsspec's: one version. Read in order, it is verified at its end."""

    DEFAULT_BLOCK_SIZE = BLOCK_BYTES

    def __init__(self, fs: EpistaFileSystem, path: str, info: Info, *, block_size: int | None, **kwargs: Any) -> None:
        self._here = fs._here()
        self._wanted = _pinned(self._here, info)
        self._hash = hashlib.sha256()
        self._hashed_bytes = 0
        self._lock = threading.Lock()
        super().__init__(fs, path, "rb", block_size, size=info["size"], **kwargs)
        self.details = info

    def __reduce__(self) -> tuple[Any, ...]:
        options = {"block_size": self.blocksize, "cache_type": self.cache.name if self.cache else "none"}
        return _reopened, (self.fs, self.path, self._wanted.version, options, self.loc)

    def _fetch_range(self, start: int, end: int) -> bytes:
        end = min(end, self._wanted.size_bytes)
        data = _range(self._here, self._wanted, start, end)
        with self._lock:
            if start == self._hashed_bytes < end:
                self._hash.update(data)
                self._hashed_bytes = end
                digest = self._hash.hexdigest()
                if end == self._wanted.size_bytes and digest != download.expected(self._here, self._wanted, digest):
                    raise IntegrityError(f"the bytes that were read of {self.path!r} do not have the sha256 that was recorded")
        return data


class WrittenFile(io.BufferedIOBase):
    """
    A file that is written: in memory or in a temporary file until it is closed, then sent and put, whole.

    When an error ends its ``with`` block, nothing is put.
    """

    def __init__(self, fs: EpistaFileSystem, path: str, mode: str, *, autocommit: bool) -> None:
        super().__init__()
        self.here = fs._here()
        self.path = path
        self.mode = mode
        self.autocommit = autocommit
        self.key = assets.target(self.here, path)
        # An error that is being handled already is none of this file's.
        self._amid = sys.exception()
        self._file: Any = io.BytesIO()
        self._sha256: str | None = None
        self._expect: str | None = None
        if mode != "wb":
            self._begin(fs)

    def _begin(self, fs: EpistaFileSystem) -> None:
        found = _entry(self.here, self.key)
        if found is None:
            self._expect = "absent"
            return
        if self.mode == "xb":
            raise _existing(self.path)
        if found["type"] != "file":
            raise _is_folder(self.path, "name a file in it")
        self._expect = found["version"]
        for piece in download.stream(self.here, _pinned(self.here, found), 0, found["size"], Progress()):
            self.write(piece)

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: Any) -> None:
        if kind is not None:
            self.discard()
        self.close()

    def readable(self) -> bool:
        """No."""
        return False

    def writable(self) -> bool:
        """Yes."""
        return True

    def seekable(self) -> bool:
        """Yes: nothing is sent before the end."""
        return True

    def write(self, data: Any, /) -> int:
        """Write bytes."""
        self._refuse_closed()
        view = memoryview(data).cast("B")
        if isinstance(self._file, io.BytesIO) and self._file.tell() + len(view) > SPOOL_BYTES:
            beginning, at = self._file, self._file.tell()
            self._file = tempfile.NamedTemporaryFile(prefix="epista-")  # noqa: SIM115 - closed by `discard`
            self._file.write(beginning.getbuffer())
            self._file.seek(at)
        self._file.write(view)
        return len(view)

    def tell(self) -> int:
        """Return the position."""
        self._refuse_closed()
        return int(self._file.tell())

    def seek(self, offset: int, whence: int = os.SEEK_SET, /) -> int:
        """Change the position; what is written there replaces what was."""
        self._refuse_closed()
        return int(self._file.seek(offset, whence))

    def truncate(self, size: int | None = None, /) -> int:
        """Cut off what is beyond *size*, or beyond the position."""
        self._refuse_closed()
        return int(self._file.truncate(size))

    def close(self) -> None:
        """Send the bytes, and put them unless a transaction will; after an error in the block that wrote them, forget them."""
        if self.closed:
            return
        error = sys.exception()
        # Whoever wraps this file closes it without saying why.
        if self._file is not None and error is not None and error is not self._amid:
            self.discard()
            warnings.warn(f"{self.path!r} was closed amid an error, so nothing was stored", RuntimeWarning, stacklevel=2)
        try:
            if self.autocommit:
                try:
                    self.commit()
                finally:
                    self.discard()
            else:
                self.send()
        finally:
            super().close()

    def send(self) -> bool:
        """Send the bytes if that is still to be done, and return whether there are any to commit."""
        if self._file is not None:
            file, self._file = self._file, None
            with file:
                if isinstance(file, io.BytesIO):
                    self._sha256 = upload.send_bytes(self.here, file.getvalue(), Progress())
                else:
                    file.flush()
                    self._sha256 = upload.send_file(self.here, Path(file.name), Progress())
        return self._sha256 is not None

    def placed(self) -> PutObject:
        """Return what a commit says of this file."""
        assert self._sha256 is not None
        return PutObject(key=self.key, sha256=self._sha256, expect=self._expect)

    def commit(self) -> None:
        """Make a version of what was written."""
        if self._file is None and self._sha256 is None:
            return
        with _as_file_errors(self.key, mode="create" if self.mode == "xb" else "overwrite"):
            if isinstance(self._file, io.BytesIO):
                objects.put(self.here, self.key, self._file.getvalue(), expect=self._expect)
            elif self._file is not None:
                self._file.flush()
                objects.put_file(self.here, self.key, Path(self._file.name), expect=self._expect)
            else:
                _commit(self.here, [self.placed()])

    def discard(self) -> None:
        """Forget what was written."""
        file, self._file, self._sha256 = self._file, None, None
        if file is not None:
            file.close()

    def _refuse_closed(self) -> None:
        if self._file is None:
            raise ValueError(f"{self.path!r} is closed")


class _Bulk:
    """What one call about many files knows, and which files those are."""

    def __init__(self, gathers: bool) -> None:
        self.gathers = gathers
        self.known: dict[str, Info] = {}
        self.pairs: list[tuple[Any, Any]] = []


# Sessions that were opened for an option of a file system; they stay open, as fsspec's instances do.
_sessions: dict[settings.Settings, Session] = {}
_lock = threading.Lock()

# Open sessions by a name that means nothing elsewhere, so that a copy made in this process needs no credentials.
_handles: weakref.WeakValueDictionary[str, Session] = weakref.WeakValueDictionary()
_names: weakref.WeakKeyDictionary[Session, str] = weakref.WeakKeyDictionary()


def _session(given: Mapping[str, Any]) -> Session:
    found = settings.read(os.environ, **given)
    with _lock:
        if found not in _sessions:
            _sessions[found] = Session(**given)
        return _sessions[found]


def _handle(session: Session) -> str:
    with _lock:
        if session not in _names:
            _names[session] = secrets.token_hex(8)
            _handles[_names[session]] = session
        return _names[session]


def _unpickled(
    cls: type[EpistaFileSystem], location: str, workspace: str, experiment: str | None, handle: str
) -> EpistaFileSystem:
    made: EpistaFileSystem = cls(location, workspace=workspace, experiment=experiment, session=handle)
    return made


def _reopened(fs: EpistaFileSystem, path: str, version: str, options: dict[str, Any], at: int) -> EpistaFile:
    file: EpistaFile = fs.open(path, "rb", version=version, **options)
    file.seek(at)
    return file


def _entry(here: Session, path: str) -> Info | None:
    """Return what is at *path*, with one request."""
    found = here.wire.call("assets.level", ListLevel(workspace=here.name, path=keys.normalise(path), limit=1), reply=Level)
    if found.assets and found.assets[0].key == path:
        return _whole(here, _info(found.assets[0], found.assets[0].version))
    return _folder(path) if found.folders or found.assets else None


def _level(here: Session, path: str) -> Iterator[Info]:
    """Give what is directly in a folder, or the file at *path*."""
    after = None
    while True:
        wanted = ListLevel(workspace=here.name, path=keys.normalise_folder(path).rstrip("/"), after=after)
        page = here.wire.call("assets.level", wanted, reply=Level)
        yield from (_folder(folder.rstrip("/")) for folder in page.folders)
        yield from (_info(found, found.version) for found in page.assets)
        after = page.next
        if after is None:
            return


def _below(here: Session, path: str, maxdepth: int | None) -> tuple[list[Info], list[Info]]:
    """Return the files and the folders below *path*: level by level while that is few requests, else by one listing."""
    files: list[Info] = []
    folders: list[Info] = []
    level = [path]
    for _ in range(maxdepth or 0):
        if len(level) > _WIDE:
            break
        entries = [entry for folder in level for entry in _level(here, folder) if entry["name"] != folder]
        files += [entry for entry in entries if entry["type"] == "file"]
        found = [entry for entry in entries if entry["type"] == "directory"]
        folders += found
        level = [entry["name"] for entry in found]
    else:
        if maxdepth is not None:
            return files, folders
    start = keys.normalise_folder(path)
    files = []
    above: dict[str, None] = {}
    after = None
    while True:
        page = here.wire.call("assets.find", FindAssets(workspace=here.name, prefix=start, after=after), reply=AssetPage)
        for found_asset in page.assets:
            parts = found_asset.key.removeprefix(start).split("/")
            if maxdepth is None or len(parts) <= maxdepth:
                files.append(_info(found_asset, found_asset.version))
            above.update(
                (start + "/".join(parts[:depth]), None) for depth in range(1, min(len(parts), (maxdepth or len(parts)) + 1))
            )
        after = page.next
        if after is None:
            return files, [_folder(name) for name in above]


def _info(found: AssetRef | Version, version: str) -> Info:
    return {
        "name": found.key,
        "size": found.size_bytes,
        "type": "file",
        "sha256": found.sha256,
        "version": version,
        "number": found.number,
        "created": found.created_at,
        "kind": found.kind,
        "format": found.format,
    }


def _whole(here: Session, info: Info) -> Info:
    """Return the details of a file with a size, for which the lab makes one file of a table that has several."""
    if info["size"] is not None:
        return info
    joined = tables.join(here, info["version"])
    return {**info, "size": joined.size_bytes, "sha256": joined.sha256}


def _folder(path: str) -> Info:
    return {"name": path, "size": 0, "type": "directory"}


def _pinned(here: Session, info: Info) -> Pinned:
    """Return the version that is read, and note that it is."""
    here.provenance.read([info["version"]])
    return Pinned(info["name"], info["version"], info["size"], info["sha256"], info["format"], None)


def _range(here: Session, wanted: Pinned, start: int, stop: int) -> bytes:
    sink = io.BytesIO()
    for piece in download.stream(here, wanted, start, stop, Progress()):
        sink.write(piece)
    return sink.getvalue()


def _sent(here: Session, contents: Sequence[bytes]) -> list[str]:
    """Send contents, small ones together, and return the sha256 of each."""
    hashes = [hashlib.sha256(data).hexdigest() for data in contents]
    groups: list[dict[str, bytes]] = []
    large: list[bytes] = []
    size = 0
    for sha256, data in dict(zip(hashes, contents, strict=True)).items():
        if len(data) >= SMALL_BYTES:
            large.append(data)
            continue
        if not groups or len(groups[-1]) == MAX_OBJECTS or size + len(data) > MAX_BODY_BYTES:
            groups.append({})
            size = 0
        groups[-1][sha256] = data
        size += len(data)
    _in_parallel(lambda group: frames.send(here, group, FrameHead(), Framed), groups)
    _in_parallel(lambda data: upload.send_bytes(here, data, Progress()), large)
    return hashes


def _commit(here: Session, put: Sequence[PutObject]) -> None:
    request = CommitObjects(workspace=here.name, objects=tuple(put), **said(objects.origin_of(here, None)))
    here.wire.call("objects.commit", request, reply=Assets)


def _expected(mode: str) -> str | None:
    return "absent" if mode == "create" else None


def _in_parallel(work: Callable[[_Item], _Result], items: Sequence[_Item]) -> list[_Result]:
    """Do *work* for each item, a few at a time, and return the results in order; the first error ends it."""
    results: dict[int, _Result] = {}
    with contextlib.closing(each(lambda index: work(items[index]), range(len(items)), Progress())) as outcomes:
        for index, outcome in outcomes:
            results[index] = outcome.result()
    return [results[index] for index in range(len(items))]


def _tried(work: Callable[[_Item], _Result], on_error: str) -> Callable[[_Item], _Result | Exception]:
    """Return *work* with its errors as results, unless *on_error* is to raise them."""

    def trying(item: _Item) -> _Result | Exception:
        try:
            return work(item)
        except (EpistaError, OSError) as error:
            if on_error == "raise":
                raise
            return error

    return trying


@contextlib.contextmanager
def _as_file_errors(*paths: str, mode: str = "overwrite") -> Iterator[None]:
    """Make errors those of a file system besides their own class, where there is such."""
    try:
        yield
    except (PathNotFoundError, PathExistsError, FolderInTheWayError, FileInTheWayError, IsFolderError):
        raise
    except KeyNotFoundError as error:
        if folder := error.details.get("folder"):
            raise _is_folder(str(folder), error.hint or "") from error
        raise _also(PathNotFoundError, error, errno.ENOENT) from error
    except InvalidKeyError as error:
        if error.message.endswith("is a folder"):
            raise _also(IsFolderError, error, errno.EISDIR) from error
        raise
    except ConflictError as error:
        way = str(error.details.get("found", ""))
        if any(way.startswith(path + "/") for path in paths):
            raise _also(FolderInTheWayError, error, errno.EISDIR) from error
        if any(path.startswith(way + "/") for path in paths):
            raise _also(FileInTheWayError, error, errno.ENOTDIR) from error
        if mode == "create":
            raise _also(PathExistsError, error, errno.EEXIST) from error
        raise


_E = TypeVar("_E", PathNotFoundError, PathExistsError, FolderInTheWayError, FileInTheWayError, IsFolderError)


def _also(kind: type[_E], error: EpistaError, number: int) -> _E:
    made = kind(error.message, hint=error.hint, details=error.details, request_id=error.request_id)
    made.errno = number
    return made


def _missing(path: str) -> PathNotFoundError:
    folder = path.rpartition("/")[0]
    hint = f"epista ls {folder}/" if folder else "epista ls"
    return _also(PathNotFoundError, KeyNotFoundError(f"nothing is at {path!r}", hint=hint), errno.ENOENT)


def _existing(path: str) -> PathExistsError:
    return _also(PathExistsError, ConflictError(f"something is at {path!r} already"), errno.EEXIST)


def _is_folder(path: str, hint: str) -> IsFolderError:
    return _also(IsFolderError, InvalidKeyError(f"{path!r} is a folder", hint=hint), errno.EISDIR)
