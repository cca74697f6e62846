"""
The client's settings, read once when a session is opened.

Precedence: argument, ``EPISTA_*``, ``BIOLAKE_*``, the named env file (in the same order), the credentials file. Those four
kinds of variables are four *sources*. What a source says belongs to the server that it names:

- Token, workspace, experiment and refresh address of a source that also names a server are used for that server only.
- Those of a source that names none belong to the server that the variables configure together; if no variable names one, to
  the server that is opened.

So a token never travels to another server than the one it was given for, whatever the code opens.
"""

from __future__ import annotations

import os
import re
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from epista.client import credentials
from epista.contract import keys
from epista.contract.errors import InvalidKeyError, SettingsError

PREFIXES = ("EPISTA_", "BIOLAKE_")
"""What the names of our variables begin with; the older name second."""

VARIABLES = {
    "API_URL": "the server: an http(s) address, or the folder of an embedded lab",
    "TOKEN": "the token",
    "PAT": "another name for the token",
    "WORKSPACE_ID": "the workspace, by name or id",
    "EXPERIMENT_ID": "the active experiment, where keys without a folder are written",
    "NOTEBOOK_ID": "the notebook, recorded with what it makes",
    "TOKEN_REFRESH_URL": "where a kernel token is renewed, if not at the server itself",
    "CREDENTIALS": "the credentials file, if not ~/.epista/credentials.json",
    "ENV_FILE": "a file of such variables, read below the real ones",
    "CACHE_DIR": "a folder in which what was read is kept, for the next time and for when the lab cannot be reached",
    "CACHE_BYTES": "how much may be kept there, such as 500MB or 20GiB; 10 GiB if not set",
    "INSTRUMENTS_PYTHON": "a Python that has allotropy, if not the one in ~/.epista/instruments",
    "RECORD_CODE": "0 records neither script, cell nor git commit with what is made; else they are, where they are found",
    "PROGRESS": "1 shows progress, 0 does not; else only on a terminal or in a notebook",
}
"""Every variable the client reads, without its prefix."""

SECRETS = tuple(prefix + name for prefix in PREFIXES for name in ("TOKEN", "PAT"))
"""The variables that other programs have no business with."""

CREDENTIALS = "~/.epista/credentials.json"
"""Where the credentials are kept unless a variable says otherwise."""


_PYTHON = "INSTRUMENTS_PYTHON"

CACHE_BYTES = 10 * 1024**3
"""How much may be kept in a cache unless a variable says otherwise."""


@dataclass(frozen=True)
class Settings:
    """What a session is opened with."""

    location: str
    """A server's address, normalised; or the absolute path of a folder, for an embedded lab."""
    is_folder: bool
    """Whether `location` is a folder."""
    token: str | None = field(repr=False)
    """The secret; None only for a folder."""
    refresh_url: str | None
    """Where the token is renewed, or None for the server itself."""
    workspace: str | None
    """By name or id; None for the only one."""
    experiment: str | None
    """The active experiment."""
    notebook: str | None
    """The notebook, for provenance."""
    show_progress: bool | None
    """None: only on a terminal or in a notebook."""
    records_code: bool
    """Whether script, cell and git commit are recorded with what is made."""
    cache_dir: Path | None
    """Where what was read is kept; None: nowhere."""
    cache_bytes: int
    """How much may be kept there."""


@dataclass(frozen=True)
class _Source:
    """Variables of one prefix from one place, without the prefix."""

    title: str
    values: Mapping[str, str] = field(repr=False)
    server: str | None
    """The server it names, normalised."""


# The one thing here that outlives a call: `load_env` is for the whole process, as the environment is.
_loaded: dict[str, str] = {}
_loaded_from: list[str] = []
_lock = threading.Lock()


def load_env(path: str | os.PathLike[str]) -> None:
    """
    Read the ``EPISTA_*`` and ``BIOLAKE_*`` lines of an env file, for every session opened from now on.

    They rank below real variables, whose environment stays untouched, and above the credentials file. Values are taken as
    written, without expansion. The file takes the place of one named before or by ``EPISTA_ENV_FILE``.

    Raises:
        SettingsError: the file cannot be read.
    """
    found = _read_env_file(Path(path).expanduser())
    with _lock:
        _loaded.clear()
        _loaded.update(found)
        _loaded_from[:] = [str(path)]


def read(
    environ: Mapping[str, str],
    *,
    location: str | os.PathLike[str] | None = None,
    token: str | None = None,
    workspace: str | None = None,
    experiment: str | None = None,
    notebook: str | None = None,
    progress: bool | None = None,
) -> Settings:
    """
    Return the settings of one session: the arguments, completed from the variables and the credentials file.

    Raises:
        SettingsError: no server or no token; the message lists every place looked in. Or a setting that makes no sense.
    """
    sources = _sources(environ)
    configured = next((source.server for source in sources if source.server), None)
    file = credentials_file(environ)
    known = credentials.load(file)
    if location is not None:
        chosen = normalise(os.fspath(location), "the location given")
    elif configured or known.default:
        chosen = configured or normalise(known.default or "", str(file))
    else:
        raise SettingsError(
            f"no server: no location given, and {_nowhere('API_URL', sources)}, no default in {str(file)!r}",
            hint="epista.Workspace('./lab') opens a lab in a folder; epista auth login LINK signs in to a server",
        )
    speaking = [source for source in sources if (source.server or configured or chosen) == chosen]

    def variable(*names: str) -> str | None:
        return next((source.values[name] for source in speaking for name in names if name in source.values), None)

    def anywhere(name: str) -> str | None:
        return next((source.values[name] for source in sources if name in source.values), None)

    saved = known.servers.get(chosen)
    is_folder = not is_url(chosen)
    refresh_url = None
    if is_folder:
        if token is not None:
            raise SettingsError(f"a lab in a folder ({chosen!r}) takes no token; it makes a private one of its own")
    else:
        token = token or variable("TOKEN", "PAT")
        # Never for a token of the credentials file: that one belongs to its server alone.
        refresh_url = variable("TOKEN_REFRESH_URL") if token else None
        token = token or (saved.token if saved else None)
        if token is None:
            raise SettingsError(
                f"no token for {chosen}: none given, and {_no_token(chosen, sources, speaking)}, none in {str(file)!r}",
                hint="epista auth login LINK, or epista auth login --token TOKEN --api-url " + chosen,
            )
        check_token(token)
    return Settings(
        location=chosen,
        is_folder=is_folder,
        token=token,
        refresh_url=refresh_url and normalise(refresh_url, "TOKEN_REFRESH_URL", folders=False),
        workspace=workspace or variable("WORKSPACE_ID") or (saved.workspace if saved else None),
        experiment=_experiment(experiment or variable("EXPERIMENT_ID")),
        notebook=notebook or anywhere("NOTEBOOK_ID"),
        show_progress=_flag("PROGRESS", anywhere("PROGRESS")) if progress is None else progress,
        records_code=_flag("RECORD_CODE", anywhere("RECORD_CODE")) is not False,
        cache_dir=Path(named).expanduser().absolute() if (named := anywhere("CACHE_DIR")) else None,
        cache_bytes=_bytes(anywhere("CACHE_BYTES")),
    )


def credentials_file(environ: Mapping[str, str]) -> Path:
    """Return where the credentials are kept."""
    named = next((source.values["CREDENTIALS"] for source in _sources(environ) if "CREDENTIALS" in source.values), CREDENTIALS)
    return Path(named).expanduser()


def instruments_python(environ: Mapping[str, str]) -> Path | None:
    """Return the interpreter that is named for reading exports of instruments, if one is."""
    named = next((source.values[_PYTHON] for source in _sources(environ) if _PYTHON in source.values), None)
    return None if named is None else Path(named).expanduser().absolute()


def is_url(location: str) -> bool:
    """Tell a server's address from a folder."""
    return location.lower().startswith(("http://", "https://"))


def normalise(location: str, whence: str, *, folders: bool = True) -> str:
    """
    Return *location* in the form in which locations are compared: no trailing slash, host in lower case, absolute folder.

    Raises:
        SettingsError: neither an http(s) address nor a folder. Never repeats what may be a secret.
    """
    if not is_url(location):
        if not location or "\0" in location or "://" in location or not folders:
            raise SettingsError(f"{whence} is neither an http:// or https:// address{' nor a folder' if folders else ''}")
        return str(Path(location).expanduser().resolve())
    try:
        parts = urlsplit(location)
        host, port = parts.hostname, parts.port
    except ValueError as error:
        raise SettingsError(f"{whence} is no address: {error}") from None
    if not host or any(char.isspace() or not char.isprintable() for char in location):
        raise SettingsError(f"{whence} is no address")
    if parts.username is not None:
        raise SettingsError(f"{whence} has a user or password in it, which addresses here never have", hint="give token=")
    if parts.fragment:
        raise SettingsError(f"{whence} is a sign-in link, not an address", hint="epista auth login LINK")
    if parts.query:
        raise SettingsError(f"{whence} has a query ('?') in it, which addresses here never have")
    host = f"[{host}]" if ":" in host else host
    standard = {"http": 80, "https": 443}[parts.scheme]
    return f"{parts.scheme}://{host}{'' if port in (None, standard) else f':{port}'}{parts.path.rstrip('/')}"


def check_token(token: str) -> None:
    """Refuse what cannot stand in a header, without repeating it."""
    if not token or not all("!" <= char <= "~" for char in token):
        raise SettingsError("the token has characters that no token has, such as a space or a line end; was it copied whole?")


def _sources(environ: Mapping[str, str]) -> list[_Source]:
    with _lock:
        file, name = dict(_loaded), next(iter(_loaded_from), None)
    if name is None:
        name = next((value for prefix in PREFIXES if (value := environ.get(prefix + "ENV_FILE"))), None)
        file = _read_env_file(Path(name).expanduser()) if name else {}
    found = [_source(f"{prefix}*", environ, prefix) for prefix in PREFIXES]
    if name is not None:
        found += [_source(f"{prefix}* in {name!r}", file, prefix) for prefix in PREFIXES]
    return found


def _source(title: str, variables: Mapping[str, str], prefix: str) -> _Source:
    # An empty variable is none: that is how people unset one for a single command.
    values = {name: value for name in VARIABLES if (value := variables.get(prefix + name, "").strip())}
    server = normalise(values["API_URL"], f"API_URL of {title}") if "API_URL" in values else None
    return _Source(title, values, server)


def _read_env_file(path: Path) -> dict[str, str]:
    try:
        text = path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise SettingsError(f"the env file {str(path)!r} cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise SettingsError(f"the env file {str(path)!r} is not UTF-8 text") from error
    credentials.warn_if_open(path)
    found = {}
    for line in text.splitlines():
        name, equals, value = line.strip().removeprefix("export ").partition("=")
        if equals and name.strip().startswith(PREFIXES):
            found[name.strip()] = _unquoted(value.strip())
    return found


def _unquoted(value: str) -> str:
    if value[:1] in ("'", '"'):
        inside, quote, _ = value[1:].partition(value[0])
        return inside if quote else value
    return value.partition(" #")[0].rstrip()


def _experiment(name: str | None) -> str | None:
    if name is None:
        return None
    try:
        name = keys.normalise(name)
    except InvalidKeyError as error:
        raise SettingsError(f"the experiment is the first folder of a key: {error.message}") from error
    if "/" in name:
        raise SettingsError(f"the experiment is the first folder of a key, so it has no '/': {name!r}")
    return name


def _flag(name: str, text: str | None) -> bool | None:
    if text is None:
        return None
    if text not in ("0", "1"):
        raise SettingsError(f"{name} is 0 or 1, not {text!r}")
    return text == "1"


_UNITS = {"": 1, "b": 1} | {f"{prefix}b": 1000 ** (n + 1) for n, prefix in enumerate("kmgt")}
_UNITS |= {f"{prefix}ib": 1024 ** (n + 1) for n, prefix in enumerate("kmgt")}


def _bytes(text: str | None) -> int:
    if text is None:
        return CACHE_BYTES
    found = re.fullmatch(r"(\d{1,15}) ?([A-Za-z]*)", text, re.ASCII)
    if not found or found[2].lower() not in _UNITS or not int(found[1]):
        raise SettingsError(f"CACHE_BYTES is a number of bytes, such as 500MB or 20GiB, not {text!r}")
    size: int = int(found[1]) * _UNITS[found[2].lower()]
    return size


def _nowhere(name: str, sources: list[_Source]) -> str:
    return ", ".join(f"no {source.title.replace('*', name, 1)}" for source in sources)


def _no_token(chosen: str, sources: list[_Source], speaking: list[_Source]) -> str:
    looked = []
    for source in sources:
        if source in speaking:
            looked.append("no " + source.title.replace("*", "TOKEN", 1))
        elif source.values.keys() & {"TOKEN", "PAT"}:
            looked.append(f"the token in {source.title} belongs to another server")
    return ", ".join(looked)
