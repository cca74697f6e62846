"""
Where fetched files may be written.

The names come from a server that is not trusted: every one is resolved again below the folder that the user named, and
what this machine cannot hold safely is refused. A key may hold any character that this machine's file names may hold.
"""

from __future__ import annotations

import hashlib
import os
import secrets
import stat
import unicodedata
from pathlib import Path
from typing import TYPE_CHECKING

from epista.contract.errors import TransferError
from epista.contract.keys import name_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

ON_WINDOWS = os.name == "nt"
"""Whether this machine reads ``\\``, drives and device names in paths."""

PART_SUFFIX = ".epista-part"
"""How the name of a file ends that has not wholly arrived."""

# https://learn.microsoft.com/windows/win32/fileio/naming-a-file; the superscript digits count as digits there.
_WINDOWS_DEVICES = {"con", "prn", "aux", "nul", "conin$", "conout$"} | {
    port + digit for port in ("com", "lpt") for digit in "0123456789¹²³"
}
_WINDOWS_FORBIDDEN = set('<>:"\\|?*')
_LONGEST_NAME_BYTES = 255


def for_file(dest: str | os.PathLike[str], key: str, *, on_windows: bool = ON_WINDOWS) -> Path:
    """
    Return where the file at *key* goes: into *dest* if that ends in ``/`` or is a folder, else to *dest* itself.

    Raises:
        TransferError: the name is not safe here, or a file stands where a folder must be.
    """
    typed = os.fspath(dest)
    path = Path(typed)
    if typed.endswith(("/", os.sep)) or path.is_dir():
        target = below(path, name_of(key), on_windows=on_windows)
        refuse_links(path, target)
    else:
        # The user named this very file, so a link there is theirs, and means what it points at.
        target = path.resolve() if path.is_symlink() else path
    if obstacles := _obstacles(target.parent, [target]):
        raise TransferError("; ".join(obstacles))
    return target


def for_folder(
    root: Path,
    names: Mapping[str, str],
    *,
    ignores_case: Callable[[Path], bool] | None = None,
    on_windows: bool = ON_WINDOWS,
) -> dict[str, Path | TransferError]:
    """
    Return where each file of a folder goes: *names* maps keys to paths relative to *root*.

    A name that is not safe has its error in place of a path. On a disk that ignores case, all names that mean the same
    file there have one; *ignores_case* tells of the disk, and is asked only when names differ by no more than case.

    Raises:
        TransferError: a file stands where a folder must be, or the reverse; all are listed.
    """
    places: dict[str, Path | TransferError] = {}
    for key, name in names.items():
        try:
            places[key] = below(root, name, on_windows=on_windows)
        except TransferError as error:
            places[key] = error
    for keys in _collisions({key: names[key] for key, place in places.items() if isinstance(place, Path)}):
        if _clash([names[key] for key in keys]) or (ignores_case or disk_ignores_case)(root):
            for key in keys:
                places[key] = TransferError(f"{keys[0]!r} and {keys[1]!r} would be the same file on this disk")
    obstacles = _obstacles(root, [place for place in places.values() if isinstance(place, Path)])
    if obstacles:
        raise TransferError("; ".join(obstacles), hint="choose another destination, or move these out of the way")
    return places


def below(root: Path, relative: str, *, on_windows: bool = ON_WINDOWS) -> Path:
    """Return *relative* below *root*, or refuse a name that would lead elsewhere or that this machine cannot hold."""
    segments = relative.split("/")
    for segment in segments:
        if trouble := _trouble(segment, on_windows):
            raise TransferError(f"{relative!r} is not written: {trouble}")
    return root.joinpath(*segments)


def refuse_links(root: Path, target: Path) -> None:
    """Refuse a symbolic link at *target* or between it and *root*: only links that the user named are followed."""
    step = root
    for segment in target.relative_to(root).parts:
        step = step / segment
        if step.is_symlink():
            raise TransferError(f"'{step}' is a symbolic link, which a fetch does not follow")


def part_of(target: Path, sha256: str) -> Path:
    """Return the hidden file beside *target* in which content with *sha256* arrives."""
    name = f".{target.name}.{sha256[:12]}{PART_SUFFIX}"
    if len(os.fsencode(name)) > _LONGEST_NAME_BYTES:
        short = hashlib.sha256(os.fsencode(target.name)).hexdigest()[:16]
        name = f".{short}.{sha256[:12]}{PART_SUFFIX}"
    return target.with_name(name)


def disk_ignores_case(folder: Path) -> bool:
    """Whether the disk under *folder*, which need not be there yet, takes names that differ by case for the same."""
    while not folder.exists():
        folder = folder.parent
    probe = folder / f".epista-case-{secrets.token_hex(8)}"
    try:
        probe.touch(exist_ok=False)
        try:
            return probe.with_name(probe.name.upper()).exists()
        finally:
            probe.unlink()
    except OSError:
        # Nothing can be written there, and the transfer will say so better.
        return True


def _trouble(segment: str, on_windows: bool) -> str | None:
    if not segment:
        return "it has an empty name, or starts at the root"
    if segment in (".", ".."):
        return f"{segment!r} leads to another folder"
    if any(unicodedata.category(char) in ("Cc", "Cs") for char in segment):
        return f"{segment!r} has a character that is no text"
    if len(segment.encode()) > _LONGEST_NAME_BYTES:
        return f"{segment[:40]!r}... is longer than the {_LONGEST_NAME_BYTES} bytes that a file's name may have"
    if segment.endswith(PART_SUFFIX):
        return f"names ending in {PART_SUFFIX!r} are kept for files that have not wholly arrived"
    if on_windows:
        if bad := sorted(_WINDOWS_FORBIDDEN.intersection(segment)):
            return f"Windows allows no {bad[0]!r} in a name"
        if segment[-1] in " .":
            return f"Windows drops the {segment[-1]!r} at the end of {segment!r}"
        if segment.split(".")[0].rstrip().lower() in _WINDOWS_DEVICES:
            return f"{segment!r} is the name of a device on Windows"
    return None


def _collisions(names: Mapping[str, str]) -> list[list[str]]:
    """Return the groups of keys whose files, or whose file and folder, differ by no more than case and normal form."""
    files: dict[str, list[str]] = {}
    for key, name in names.items():
        files.setdefault(_folded(name), []).append(key)
    groups = {folded: keys for folded, keys in files.items() if len(keys) > 1}
    for key, name in names.items():
        folder = _folded(name)
        while "/" in folder:
            folder = folder.rpartition("/")[0]
            if folder in files:
                groups.setdefault(folder, list(files[folder])).append(key)
    return list(groups.values())


def _clash(names: Sequence[str]) -> bool:
    """Whether some of *names* cannot stand side by side on any disk: the same file twice, or a file that is also a folder."""
    distinct = set(names)
    return len(distinct) < len(names) or any(name.startswith(f"{other}/") for name in names for other in distinct)


def _folded(name: str) -> str:
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", name).casefold())


def _obstacles(root: Path, targets: Sequence[Path]) -> list[str]:
    folders = {root, *root.parents}
    for target in targets:
        folder = target.parent
        while folder not in folders:
            folders.add(folder)
            folder = folder.parent
    return _told([*map(_as_folder, sorted(folders)), *map(_as_file, targets)])


def _told(found: Iterable[str | None]) -> list[str]:
    return [text for text in found if text]


def _as_folder(folder: Path) -> str | None:
    # os.path answers False, where Path raises, for a name that is too long.
    if os.path.lexists(folder) and not os.path.isdir(folder):  # noqa: PTH112
        return f"'{folder}' is a file, where a folder must be"
    return None


def _as_file(target: Path) -> str | None:
    try:
        mode = target.lstat().st_mode
    except OSError:
        return None
    if stat.S_ISDIR(mode):
        return f"'{target}' is a folder, where a file must be"
    if not (stat.S_ISREG(mode) or stat.S_ISLNK(mode)):
        return f"'{target}' is no regular file, and is not replaced"
    return None
