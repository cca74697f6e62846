"""
Which files of a local folder go into the lab.

Walked in the order of names. Hidden files count. What version control, operating systems and editors leave behind stays out,
and so does what ``.epistaignore`` in the folder or the caller says, in gitignore syntax; only that ``!x/`` takes back all that
is in the folder x, and not merely the folder.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import TYPE_CHECKING, Literal, NamedTuple

from epista.client.transfer.destinations import PART_SUFFIX
from epista.contract.errors import InvalidRequestError, MissingFileError, TransferError, ValidationError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from pathspec import GitIgnoreSpec

Links = Literal["inside", "follow", "skip"]
"""What becomes of symbolic links: only those to files within the folder are followed, all are, or none."""

IGNORE_FILE = ".epistaignore"
"""The file at the top of a folder that says what stays out of the lab."""

LEFT_OUT = (
    ".DS_Store",
    "._*",
    "Thumbs.db",
    "desktop.ini",
    ".git",  # a file in worktrees and submodules
    ".hg/",
    ".svn/",
    "__pycache__/",
    ".ipynb_checkpoints/",
    f".*{PART_SUFFIX}",
)
"""What stays out unless the caller says ``ignore=()``."""


class Found(NamedTuple):
    """What a walk found."""

    files: dict[str, Path]
    """Each file by its path relative to the folder, with ``/`` on every system, in the order of names."""
    left_out: list[str]
    """What rules or ``links="skip"`` left out; a folder counts once and ends in ``/``."""
    problems: dict[str, str]
    """What cannot be taken, and why, by its relative path."""


def walk(path: str | os.PathLike[str], *, ignore: str | Iterable[str] | None = None, links: Links = "inside") -> Found:
    """
    Find the files of the folder *path*, which itself may be a link.

    *ignore* adds rules after the usual ones and those of ``.epistaignore``; an empty one drops all rules. A link that leads
    back to a folder above it ends there.

    Raises:
        TransferError: *path* is no folder that can be read.
        ValidationError: a rule is not gitignore syntax.
    """
    if links not in ("inside", "follow", "skip"):
        raise InvalidRequestError(f"links={links!r} is not known; it is 'inside', 'follow' or 'skip'")
    root = Path(path)
    if not root.is_dir():
        if not root.exists():
            raise MissingFileError(f"there is no folder '{root}'")
        raise TransferError(f"'{root}' is a file, not a folder", hint="ws.put_file(key, path) takes one file")
    found = Found({}, [], {})
    _Walk(root, _rules(root, ignore), links, found).folder(root, "", ())
    return found


class _Walk:
    def __init__(self, root: Path, rules: GitIgnoreSpec, links: Links, found: Found) -> None:
        self.rules = rules
        self.links = links
        self.found = found
        self.real_root = root.resolve()

    def folder(self, path: Path, prefix: str, above: tuple[tuple[int, int], ...]) -> None:
        try:
            here = path.stat()
            # A link back to a folder we are in would never end.
            if (here.st_dev, here.st_ino) in above:
                self.found.left_out.append(prefix)
                return
            with os.scandir(path) as entries:
                ordered = sorted(entries, key=lambda entry: entry.name)
        except OSError as error:
            self.found.problems[prefix or "."] = f"cannot be read: {error.strerror}"
            return
        for entry in ordered:
            self.entry(entry, prefix + entry.name, (*above, (here.st_dev, here.st_ino)))

    def entry(self, entry: os.DirEntry[str], name: str, above: tuple[tuple[int, int], ...]) -> None:
        path = Path(entry.path)
        # os.path answers False, where the others raise, for a link that leads to itself.
        is_folder = entry.is_dir(follow_symlinks=False) or (self.links == "follow" and os.path.isdir(path))  # noqa: PTH112
        if self.rules.match_file(name + "/" if is_folder else name):
            self.found.left_out.append(name + "/" if is_folder else name)
        elif entry.is_symlink() and self.links == "skip":
            self.found.left_out.append(name)
        elif entry.is_symlink() and self.links == "inside" and (trouble := self.link_trouble(path)):
            self.found.problems[name] = trouble
        elif is_folder:
            self.folder(path, name + "/", above)
        elif trouble := _file_trouble(path):
            self.found.problems[name] = trouble
        else:
            self.found.files[name] = path

    def link_trouble(self, path: Path) -> str | None:
        try:
            target = path.resolve(strict=True)
        except (OSError, RuntimeError):  # RuntimeError: links in a circle, before Python 3.13
            return f"is a link to {os.readlink(path)!r}, where nothing is"  # noqa: PTH115 - Path would tidy what it says
        if not target.is_relative_to(self.real_root):
            return f"is a link to '{target}', outside the folder; links='follow' takes it, links='skip' leaves it out"
        if target.is_dir():
            return f"is a link to the folder '{target}'; links='follow' takes it, links='skip' leaves it out"
        return None


def _file_trouble(path: Path) -> str | None:
    try:
        mode = path.stat().st_mode
    except OSError as error:
        return f"cannot be read: {error.strerror}"
    if not stat.S_ISREG(mode):
        return "is no regular file"
    can_read = os.access(path, os.R_OK, effective_ids=os.access in os.supports_effective_ids)
    return None if can_read else "cannot be read: permission denied"


def _rules(root: Path, ignore: str | Iterable[str] | None) -> GitIgnoreSpec:
    from pathspec import GitIgnoreSpec

    own = ignore.splitlines() if isinstance(ignore, str) else list(ignore or ())
    if ignore is not None and not own:
        return GitIgnoreSpec.from_lines([])
    lines = [*LEFT_OUT, *_ignore_file(root), *own]
    try:
        return GitIgnoreSpec.from_lines(_inner(line) for line in lines)
    except ValueError as error:
        raise ValidationError(f"not gitignore syntax: {error}") from error


def _ignore_file(root: Path) -> Iterator[str]:
    file = root / IGNORE_FILE
    if file.is_file():
        try:
            yield from file.read_text(encoding="utf-8-sig").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise TransferError(f"'{file}' cannot be read: {error}") from error


def _inner(line: str) -> str:
    # pathspec lets "x/**" match the folder x itself, which would hide what a later "!x/y" takes back; git does not.
    stripped = line.rstrip()
    return f"{stripped}/*" if stripped.endswith("/**") else line
