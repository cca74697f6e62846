"""
The server's settings, read once.

A TOML file, then ``EPISTA_SERVER_*`` variables, then the command line; later ones win. A setting that nobody knows stops the
start, because a misspelt limit would otherwise be no limit.
"""

from __future__ import annotations

import difflib
import json
import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, get_type_hints

import msgspec

from epista.contract.errors import SettingsError

PREFIX = "EPISTA_SERVER_"
"""What the names of the server's environment variables begin with."""


class LinkRoot(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A place below which files may be linked; its files are read, and never written."""

    url: str
    """A folder of the server's machine, absolute, or ``s3://bucket/prefix``."""
    workspaces: tuple[str, ...] = ()
    """The workspaces whose admins may link what lies below it; ``*`` for all."""
    s3_endpoint: str | None = None
    """The address of an S3 store other than Amazon's."""
    s3_region: str = "us-east-1"
    """The region of the bucket."""
    s3_access_key: str | None = None
    """The access key, which only needs to read; without one, the credentials that the machine gives its programs are used."""
    s3_secret_key_file: str | None = None
    """A file with the secret of the access key."""
    s3_path_style: bool | None = None
    """Whether the bucket stands in the path of an address. Unset: yes with an endpoint, no without."""

    def __repr__(self) -> str:
        return f"LinkRoot(url={self.url!r}, workspaces={self.workspaces!r})"


class Config(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Every setting of the server."""

    lab: str = "lab"
    """The folder that holds the catalog and the bytes."""
    blobs: str = ""
    """Where the bytes are, if not in the folder: ``s3://bucket/prefix``, or ``gs://`` or ``az://`` likewise."""
    s3_endpoint: str | None = None
    """The address of an S3 store other than Amazon's, such as ``https://s3.lab.example``."""
    s3_region: str = "us-east-1"
    """The region of the bucket."""
    s3_access_key: str | None = None
    """The access key; without one, the credentials that the machine gives its programs are used, and no direct links made."""
    s3_secret_key: str | None = None
    """The secret of the access key. Better in `s3_secret_key_file`, or in a variable."""
    s3_secret_key_file: str | None = None
    """A file with the secret of the access key."""
    s3_path_style: bool | None = None
    """Whether the bucket stands in the path of an address, not in its host. Unset: yes with an endpoint, no without."""
    s3_public_endpoint: str | None = None
    """The address under which people reach the store, if it is another than the server's."""
    s3_direct_bytes: int = 64 * 1024**2
    """From this size on, clients bring bytes straight from the store, if they reach it; 0 for never."""
    s3_direct_seconds: int = 300
    """How long an address in the store is good for, which a client gets for that."""
    s3_checksum: str = "crc64nvme"
    """What the store checks each request and part by: crc64nvme, sha256, or none for a store that knows neither."""
    link_roots: dict[str, LinkRoot] = {}
    """Where files may be linked from, by name: tables ``[link_roots.NAME]`` of the settings file, see the guide on linking."""
    database: str = ""
    """Where the catalog is, if not in the folder: ``postgresql://USER@HOST/NAME``. A password is better kept in ``~/.pgpass``."""
    database_connections: int = 10
    """How many connections each server process keeps to PostgreSQL for reading; one more writes."""
    host: str = "127.0.0.1"
    """The address to listen on."""
    port: int = 8717
    """The port to listen on; 0 takes a free one."""
    workers: int = 1
    """How many processes serve requests."""
    public_url: str | None = None
    """The address that people use, where a proxy stands in front."""
    max_upload_bytes: int = 1024**4
    """The largest object."""
    part_bytes: int = 16 * 1024**2
    """How large the parts of an upload in parts are, but for objects that would have more than 10,000 of them."""
    upload_seconds: int = 7 * 24 * 3600
    """How long an upload in parts may take, with all its interruptions, before `gc` removes it."""
    max_incomplete_uploads: int = 100
    """How many uploads in parts one user may have under way in a workspace."""
    max_json_bytes: int = 64 * 1024**2
    """The largest JSON request."""
    requests_per_minute: int = 12_000
    """How many requests one token may make, in each server process; 0 for no limit."""
    max_streams: int = 128
    """How many bodies may come in and go out at once, in each server process; one token may have a quarter of them."""
    body_timeout_seconds: float = 60.0
    """How long to wait for the next piece of a body, in either direction."""
    stop_timeout_seconds: int = 20
    """How long transfers may go on when the server is asked to stop; then they are cut."""
    query_engine: str = "duckdb"
    """What runs queries that name no engine: duckdb, or spark where `spark_url` is set."""
    query_seconds: float = 120.0
    """How long one query may work; waiting for its turn and for its reader does not count."""
    query_rows: int = 10_000_000
    """How many rows one query may give; 0 for no limit."""
    query_bytes: int = 1024**3
    """How many bytes of Arrow one query may give; 0 for no limit."""
    query_memory_bytes: int = 1024**3
    """How much memory one query may take in DuckDB."""
    query_spill_bytes: int = 8 * 1024**3
    """How much of the disk one query may take besides."""
    query_threads: int = 0
    """How many threads one query has in DuckDB; 0 for half of the machine's, and 2 at least."""
    queries_at_once: int = 0
    """How many queries run at once, in each server process; 0 for half as many as the machine has cores, and 2 at least."""
    queries_per_token: int = 2
    """How many of them may be one token's."""
    query_wait_seconds: float = 60.0
    """How long a query waits for its turn before it is sent away."""
    query_warm_child: bool = True
    """Whether a process stands by for the next query, which takes 90 MB and saves a fifth of a second."""
    spark_url: str = ""
    """The address of the lab's Spark Connect server, such as ``sc://spark.lab.example:15002``; see the guide on Spark."""
    spark_token: str | None = None
    """The token that it asks for. Better in `spark_token_file`, or in a variable."""
    spark_token_file: str | None = None
    """A file with that token."""
    spark_files: dict[str, str] = {}
    """What paths and addresses of the lab's files begin with, and what stands there for the cluster; others are copied."""
    spark_scratch: str = ""
    """A folder that the server and all of the cluster share under this path, for results on their way."""
    extract_timeout_seconds: float = 5.0
    """How long the search index may read in one file."""
    table_cache_bytes: int = 10 * 1024**3
    """How much of this machine's disk, in the lab's folder, holds what is made for queries and for looking at images."""
    table_memory_bytes: int = 4 * 1024**3
    """How much memory the conversion of one table may take; a CSV file needs some six times its size."""
    table_seconds: float = 600.0
    """How long it may take."""
    backup_root: str | None = None
    """The folder below which managers may have backups made; without it, only the user of an embedded lab may make one."""
    kernel_token_seconds: int = 15 * 60
    """How long a kernel token lives before it is renewed."""
    kernel_renew_seconds: int = 24 * 3600
    """How long a kernel token can be renewed."""
    sign_in_link_seconds: int = 24 * 3600
    """How long a sign-in link works."""
    link_seconds: int = 12 * 3600
    """How long a signed link may work; 0 allows none."""
    metrics_public: bool = False
    """Whether ``/metrics`` needs no token."""
    log_level: str = "info"
    """debug, info, warning or error."""

    def __repr__(self) -> str:
        told = {name: getattr(self, name) for name in self.__struct_fields__ if name not in SECRETS}
        return f"Config({', '.join(f'{name}={value!r}' for name, value in told.items())})"


SECRETS = ("s3_secret_key", "spark_token", "database")
"""The settings that are never shown."""


SETTINGS = tuple(Config.__struct_fields__)
"""The names of all settings."""


_STORE = re.compile(r"(s3|gs|az)://[A-Za-z0-9][A-Za-z0-9._-]+(/[^/?#\s]+)*/?")

_CONNECT = re.compile(r"sc://([A-Za-z0-9.-]+|\[[0-9A-Fa-f:]+\])(:[0-9]{1,5})?(/(;[A-Za-z_-]+=[^;\s]*)*)?")

_ADDRESS = re.compile(r"https?://[^/?#@\s]+/?")

_LEAST = {
    "database_connections": 1,
    "s3_direct_bytes": 0,
    "s3_direct_seconds": 1,
    "max_upload_bytes": 1,
    "part_bytes": 1024,
    "upload_seconds": 1,
    "max_incomplete_uploads": 1,
    "max_json_bytes": 1,
    "requests_per_minute": 0,
    "max_streams": 1,
    "body_timeout_seconds": 0.001,
    "query_seconds": 0.001,
    "query_rows": 0,
    "query_bytes": 0,
    "query_memory_bytes": 64 * 1024**2,
    "query_spill_bytes": 0,
    "query_threads": 0,
    "queries_at_once": 0,
    "queries_per_token": 1,
    "query_wait_seconds": 0.001,
    "extract_timeout_seconds": 0.001,
    "table_cache_bytes": 1,
    "table_memory_bytes": 256 * 1024**2,
    "table_seconds": 0.001,
    "kernel_token_seconds": 1,
    "kernel_renew_seconds": 1,
    "sign_in_link_seconds": 1,
    "link_seconds": 0,
}


def read(*, file: Path | None, environ: Mapping[str, str], **given: Any) -> Config:
    """
    Return the settings; *given* ones that are None are not given.

    Raises:
        SettingsError: a file that cannot be read, an unknown setting, or a value that does not fit.
    """
    found: dict[str, Any] = {}
    if file:
        try:
            found.update(tomllib.loads(file.read_text(encoding="utf-8")))
        except OSError as error:
            raise SettingsError(f"the settings file {str(file)!r} cannot be read: {error.strerror}") from error
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise SettingsError(f"the settings file {str(file)!r} is not TOML: {error}") from error
        _refuse_unknown(found, f"the settings file {str(file)!r}")
    variables: dict[str, Any] = {
        name.removeprefix(PREFIX).lower(): value for name, value in environ.items() if name.startswith(PREFIX)
    }
    _refuse_unknown(variables, f"the environment ({PREFIX}...)")
    for name, example in {"link_roots": '{"NAME": {"url": "/data"}}', "spark_files": '{"/lab/": "file:///mnt/lab/"}'}.items():
        if name in variables:
            try:
                variables[name] = json.loads(variables[name])
            except ValueError as error:
                raise SettingsError(f"{PREFIX}{name.upper()} is not JSON", hint=f"such as {example}") from error
    found.update(variables)
    found.update({name: value for name, value in given.items() if value is not None})
    try:
        # Variables are text, so "8717" is a fine port; msgspec's lax mode reads numbers and booleans out of text.
        config = msgspec.convert(found, Config, strict=False)
    except msgspec.ValidationError as error:
        raise SettingsError(f"a setting does not fit: {error}", hint="see docs/reference/settings.md") from error
    if config.log_level not in ("debug", "info", "warning", "error"):
        raise SettingsError(f"log_level is {config.log_level!r}; one of debug, info, warning, error")
    if not 0 <= config.port <= 65535 or config.workers < 1 or config.stop_timeout_seconds < 1:
        raise SettingsError("port is 0 to 65535, workers and stop_timeout_seconds at least 1")
    for name, least in _LEAST.items():
        if not least <= getattr(config, name) < 2**62:  # which not-a-number is not either
            raise SettingsError(f"{name} is {getattr(config, name)}; it is at least {least}")
    if config.database and not config.database.startswith("postgresql://"):
        # The value is not repeated: it may have a password.
        raise SettingsError("database is no address of PostgreSQL", hint="postgresql://USER@HOST/NAME, or nothing for a folder")
    if config.backup_root is not None and not Path(config.backup_root).is_absolute():
        raise SettingsError(f"backup_root is {config.backup_root!r}, which is no absolute path")
    _check_roots(config)
    return _with_spark(_with_store(config))


def link_roots_of(lab: Path) -> dict[str, LinkRoot]:
    """
    Return the roots that the folder of an embedded lab names in ``lab.toml``, for its only workspace or all of them.

    Raises:
        SettingsError: the file cannot be read, or says something else.
    """
    file = lab / "lab.toml"
    if not file.is_file():
        return {}
    config = read(file=file, environ={}, lab=str(lab))
    if msgspec.structs.replace(config, link_roots={}) != Config(lab=str(lab)):
        raise SettingsError(f"{str(file)!r} may name link_roots and nothing else", hint="a server has other settings")
    return config.link_roots


def _check_roots(config: Config) -> None:
    """Refuse roots that cannot be, or below which the lab's own bytes would lie: linking them would show them to others."""
    own = [Path(config.lab).resolve(), *([Path(config.backup_root).resolve()] if config.backup_root else [])]
    for name, root in config.link_roots.items():
        said = f"link_roots.{name}: url is {root.url!r}"
        if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_-]{0,62}", name):
            raise SettingsError(f"link_roots: a root has a short name of letters, digits, - and _, not {name!r}")
        if root.s3_endpoint is not None and not _ADDRESS.fullmatch(root.s3_endpoint):
            raise SettingsError(f"link_roots.{name}: s3_endpoint is no address such as https://s3.lab.example")
        if bool(root.s3_access_key) != bool(root.s3_secret_key_file):
            raise SettingsError(f"link_roots.{name}: of s3_access_key and its secret only one is set", hint="set both, or none")
        if root.url.startswith("s3://"):
            if not _STORE.fullmatch(root.url):
                raise SettingsError(f"{said}, which is no address of a bucket", hint="s3://bucket/prefix")
            both = [one.rstrip("/") + "/" for one in (config.blobs, root.url)]
            if config.blobs and (both[0].startswith(both[1]) or both[1].startswith(both[0])):
                raise SettingsError(f"{said}, and the lab's own bytes are there too", hint="give them different prefixes")
            continue
        if not Path(root.url).is_absolute() or "\0" in root.url:
            raise SettingsError(f"{said}, which is neither an absolute path nor s3://bucket/prefix")
        folder = Path(root.url).resolve()
        for one in own:
            if folder.is_relative_to(one) or one.is_relative_to(folder):
                raise SettingsError(f"{said}, and the lab or its backups lie there too", hint="give a folder beside them")


def _with_store(config: Config) -> Config:
    """Check what is said of the store of the bytes, and read its secret."""
    if config.blobs and not _STORE.fullmatch(config.blobs):
        raise SettingsError(
            f"blobs is {config.blobs!r}, which is no address of a store",
            hint="s3://bucket/prefix, gs://... or az://...; unset: the folder",
        )
    if config.s3_checksum not in ("crc64nvme", "sha256", "none"):
        raise SettingsError(f"s3_checksum is {config.s3_checksum!r}; one of crc64nvme, sha256, none")
    for name in ("s3_endpoint", "s3_public_endpoint"):
        address = getattr(config, name)
        if address is not None and not _ADDRESS.fullmatch(address):
            raise SettingsError(f"{name} is {address!r}, which is no address such as https://s3.lab.example")
    config = _with_secret(config, "s3_secret_key")
    if bool(config.s3_access_key) != bool(config.s3_secret_key):
        raise SettingsError("of s3_access_key and its secret only one is set", hint="set both, or none for the machine's own")
    return config


def _with_spark(config: Config) -> Config:
    """Check what is said of the Spark cluster, and read its token."""
    if config.query_engine not in ("duckdb", "spark"):
        raise SettingsError(f"query_engine is {config.query_engine!r}; one of duckdb, spark")
    if not config.spark_url:
        if config.query_engine == "spark":
            raise SettingsError("query_engine is spark, and no spark_url says where it is", hint="sc://HOST:15002")
        return config
    if not _CONNECT.fullmatch(config.spark_url) or "token=" in config.spark_url:
        # The value is not repeated: it may have the token.
        raise SettingsError(
            "spark_url is no address of a Spark Connect server", hint="sc://HOST:15002; the token stands in spark_token_file"
        )
    if not Path(config.spark_scratch).is_absolute():
        raise SettingsError("with spark_url belongs spark_scratch, an absolute path", hint="a folder that the cluster shares")
    return _with_secret(config, "spark_token")


def _with_secret(config: Config, name: str) -> Config:
    """Read a secret that stands in a file of its own."""
    file = getattr(config, f"{name}_file")
    if file is None:
        return config
    if getattr(config, name) is not None:
        raise SettingsError(f"{name} and {name}_file are both set", hint="keep one of them")
    try:
        secret = Path(file).read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(f"{name}_file {file!r} cannot be read") from error
    return msgspec.structs.replace(config, **{name: secret, f"{name}_file": None})


def _refuse_unknown(found: Mapping[str, Any], where: str) -> None:
    known = get_type_hints(Config)
    for name in found:
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            nearest = f"; nearest: {near[0]!r}" if near else ""
            raise SettingsError(f"{where} has the unknown setting {name!r}{nearest}", hint="see docs/reference/settings.md")
