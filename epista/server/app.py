"""
How the server is put together.

`create_app` alone constructs things, and nothing happens until the app starts: stores, then services over them, then
routes over the services, a row of the contract each.
"""

from __future__ import annotations

import importlib.util
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import text
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from epista.contract.endpoints import BY_NAME, ENDPOINTS
from epista.contract.errors import EpistaError, InvalidRequestError, MissingExtraError, NotFoundError, SettingsError
from epista.server.config import Config, LinkRoot
from epista.server.engines import duckdb, images
from epista.server.engines.extraction import Extractor
from epista.server.engines.images import ImageReader
from epista.server.engines.plans import Engine, Limits
from epista.server.engines.previews import Previewer
from epista.server.engines.schema_checks import SchemaChecks
from epista.server.engines.sequences import Indexer
from epista.server.engines.tables import TableFiles
from epista.server.routes import problems, status, tiles
from epista.server.routes.dispatch import Door, JsonRoute
from epista.server.routes.frames import BatchCommit, FrameDownload, FrameUpload
from epista.server.routes.limits import RateLimit
from epista.server.routes.metrics import Metrics
from epista.server.routes.queries import QueryStream, too_many
from epista.server.routes.requests import Requests
from epista.server.routes.tiles import PictureBase, PictureInfo, Tiles, Told
from epista.server.routes.transfers import CrossOrigin, Download, KeyStream, LinkDownload, PartUpload, Upload
from epista.server.routes.turns import LOOK_THREADS, SLOW_THREADS, Pool, Turns
from epista.server.services.appends import Appends
from epista.server.services.assets import Assets
from epista.server.services.audit import Audit
from epista.server.services.batches import Batches
from epista.server.services.conventions import Conventions
from epista.server.services.experiments import Experiments
from epista.server.services.frames import Frames
from epista.server.services.images import Images
from epista.server.services.lab import Lab
from epista.server.services.lineage import Lineage
from epista.server.services.linked import Linked
from epista.server.services.links import Links
from epista.server.services.objects import Objects
from epista.server.services.pixels import Pixels
from epista.server.services.previews import Previews
from epista.server.services.projects import Projects
from epista.server.services.queries import Queries
from epista.server.services.reindexing import Reindexing
from epista.server.services.resources import Resources, Trail
from epista.server.services.sequences import Sequences
from epista.server.services.signing_keys import SigningKeys
from epista.server.services.tables import Tables
from epista.server.services.tokens import Owner, Tokens
from epista.server.services.uploads import Uploads
from epista.server.services.usage import Usage
from epista.server.services.versions import Versions
from epista.server.services.workspaces import Workspaces
from epista.server.stores import moments
from epista.server.stores.blobs import BlobStore
from epista.server.stores.catalog import Catalog
from epista.server.stores.linked import FolderOrigin, Origin, Roots
from epista.server.stores.local import LocalBlobs
from epista.server.stores.search.index import SearchIndex
from epista.server.stores.search.sqlite import SqliteSearch
from epista.server.stores.sqlite import SqliteCatalog
from epista.server.stores.table_cache import TableCache
from epista.server.web import pages


def create_app(config: Config, *, owner: Owner | None = None, clock: moments.Clock = moments.now) -> Starlette:
    """Build the server over the lab in ``config.lab``, made by `founding.prepare`; *owner* uses an embedded lab."""
    folder = Path(config.lab)
    resources = resources_of(config, clock)
    catalog, blobs = resources.catalog, resources.blobs

    tokens = Tokens(resources, owner)
    versions = Versions(resources)
    assets, objects = Assets(resources), Objects(resources, versions)
    batches = Batches(resources, versions)
    linked = Linked(resources, batches)
    frames = Frames(resources, objects, batches)
    links = Links(resources, tokens)
    pixels = Pixels(resources)
    looking = Images(resources, tokens, pixels)
    uploads = Uploads(resources, objects)
    engines = engines_of(config)
    queries = Queries(resources, Tables(resources), engines, limits_of(config))
    reindexing = Reindexing(resources, Extractor(children=1, timeout_seconds=config.extract_timeout_seconds))
    services: dict[str, Any] = {
        "tokens": tokens,
        "workspaces": Workspaces(resources, address_of(config)),
        "conventions": Conventions(resources),
        "experiments": Experiments(resources),
        "projects": Projects(resources),
        "assets": assets,
        "objects": objects,
        "frames": frames,
        "links": links,
        "linked": linked,
        "uploads": uploads,
        "tables": Appends(resources, versions, objects),
        "usage": Usage(resources),
        "queries": queries,
        "lineage": Lineage(resources),
        "previews": Previews(resources, pixels),
        "images": looking,
        "sequences": Sequences(resources),
        "audit": Audit(resources),
        "lab": Lab(resources, folder),
        "reindexing": reindexing,
        "signing_keys": SigningKeys(resources),
    }

    door = Door(
        tokens=tokens,
        resources=resources,
        limit=RateLimit(config.requests_per_minute),
        slow=Pool(SLOW_THREADS, at_once=4 * SLOW_THREADS, per_caller=SLOW_THREADS // 2),
        # One child is left for others: whatever somebody looks at, and for however long.
        looks=Pool(LOOK_THREADS, at_once=LOOK_THREADS, per_caller=min(LOOK_THREADS // 4, images.CHILDREN - 1)),
        streams=Turns(config.max_streams),
    )
    raw = {
        "objects.upload": Upload(BY_NAME["objects.upload"], door, objects),
        "objects.content": Download(BY_NAME["objects.content"], door, objects.content, blobs),
        "uploads.put_part": PartUpload(BY_NAME["uploads.put_part"], door, uploads),
        "links.open": LinkDownload(BY_NAME["links.open"], door, links, blobs),
        "frames.send": FrameUpload(BY_NAME["frames.send"], door, frames),
        "batches.commit": BatchCommit(BY_NAME["batches.commit"], door, batches),
        "images.info": Told(BY_NAME["images.info"], door, looking.maker, looking.info),
        "images.rendering": Told(BY_NAME["images.rendering"], door, looking.maker, looking.rendering),
        "images.region": Tiles(BY_NAME["images.region"], door, looking.maker, looking.region, Turns(tiles.REGIONS)),
        "images.thumbnail": Tiles(BY_NAME["images.thumbnail"], door, looking.maker, looking.thumbnail),
        "images.annotations": Tiles(
            BY_NAME["images.annotations"], door, looking.maker, looking.annotations, Turns(tiles.REGIONS)
        ),
        "images.iiif": PictureBase(BY_NAME["images.iiif"], door, looking.maker, looking.iiif),
        "images.iiif_info": PictureInfo(BY_NAME["images.iiif_info"], door, looking.maker, looking.iiif_info),
        "images.iiif_picture": Tiles(
            BY_NAME["images.iiif_picture"], door, looking.maker, looking.iiif_picture, Turns(tiles.PICTURES)
        ),
        "images.zarr": Tiles(BY_NAME["images.zarr"], door, looking.maker, looking.zarr, Turns(tiles.PICTURES)),
        "frames.read": FrameDownload(BY_NAME["frames.read"], door, frames),
        "queries.run": QueryStream(BY_NAME["queries.run"], door, queries, turns_of(config)),
        "assets.keys": KeyStream(BY_NAME["assets.keys"], door, assets),
    }
    routes: list[BaseRoute] = []
    for row in ENDPOINTS:
        noun, verb = row.name.split(".")
        endpoint = raw.get(row.name) or JsonRoute(row, getattr(services[noun], verb), door)
        methods = [row.method, "OPTIONS"] if isinstance(endpoint, CrossOrigin) else [row.method]
        # What stands last may have slashes, if it is the name of something in a store.
        path = row.path.replace("/{key}", "/{key:path}")
        routes.append(Route(path, endpoint, methods=methods, name=row.name))

    def is_ready() -> bool:
        try:
            with catalog.read() as tx:
                return bool(tx.execute(text("SELECT 1")).scalar())
        except EpistaError:
            return False

    metrics = Metrics()
    routes += status.routes(door, metrics, is_ready)
    routes += pages.routes(door, looking)

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        catalog.open()
        resources.trail.open()
        reindexing.open()
        try:
            yield
        finally:
            reindexing.close()
            queries.close()
            resources.trail.close()
            resources.extractor.close()
            resources.schema_checks.close()
            resources.table_files.close()
            resources.previewer.close()
            resources.indexer.close()
            if resources.images is not None:
                resources.images.close()
            catalog.close()

    app = Starlette(
        routes=routes,
        lifespan=lifespan,
        middleware=[Middleware(Requests, metrics=metrics)],
        exception_handlers={HTTPException: _no_route},
    )
    # An address with a slash too many is another address, and not sent on: `.../experiments/` is no list of experiments.
    app.router.redirect_slashes = False
    return app


def resources_of(config: Config, clock: moments.Clock) -> Resources:
    """Return the stores and engines that the settings name; none of them is open, and no child is started yet."""
    catalog = catalog_of(config)
    return Resources(
        config=config,
        catalog=catalog,
        blobs=blob_store(config),
        roots=roots_of(config),
        search=search_of(config),
        extractor=Extractor(timeout_seconds=config.extract_timeout_seconds),
        schema_checks=SchemaChecks(),
        table_files=TableFiles(
            memory_bytes=config.table_memory_bytes, file_bytes=config.table_cache_bytes, seconds=config.table_seconds
        ),
        table_cache=TableCache(Path(config.lab) / "tables", config.table_cache_bytes),
        previewer=Previewer(timeout_seconds=config.extract_timeout_seconds),
        indexer=Indexer(timeout_seconds=config.table_seconds),
        images=ImageReader() if all(map(importlib.util.find_spec, images.PACKAGES)) else None,
        clock=clock,
        trail=Trail(catalog),
    )


def blob_store(config: Config) -> BlobStore:
    """Return the store of the bytes that the settings name; nothing is asked of it yet."""
    if not config.blobs:
        return LocalBlobs(Path(config.lab))
    try:
        from epista.server.stores import remote, s3
    except ImportError as error:
        raise MissingExtraError(f"for {config.blobs!r} a package is missing", hint='pip install "epista[s3]"') from error
    if not config.blobs.startswith("s3://"):
        return remote.open_url(config.blobs, stall_seconds=config.body_timeout_seconds)
    name, _, prefix = config.blobs.removeprefix("s3://").partition("/")
    bucket = s3.Bucket(
        name=name,
        prefix=prefix.strip("/"),
        endpoint=config.s3_endpoint,
        public_endpoint=config.s3_public_endpoint or config.s3_endpoint,
        region=config.s3_region,
        access_key=config.s3_access_key,
        secret_key=config.s3_secret_key,
        is_path_style=config.s3_endpoint is not None if config.s3_path_style is None else config.s3_path_style,
        checksum=config.s3_checksum,
    )
    return s3.S3Blobs(bucket, stall_seconds=config.body_timeout_seconds)


def roots_of(config: Config) -> Roots:
    """Return the roots below which files may be linked; nothing is asked of them yet."""
    return Roots({name: _origin(name, root, config) for name, root in config.link_roots.items()})


def _origin(name: str, root: LinkRoot, config: Config) -> Origin:
    if not root.url.startswith("s3://"):
        return FolderOrigin(name, Path(root.url))
    try:
        from epista.server.stores import linked_remote, s3
    except ImportError as error:
        raise MissingExtraError(f"for the root {name!r} a package is missing", hint='pip install "epista[s3]"') from error
    secret = None
    if root.s3_secret_key_file is not None:
        try:
            secret = Path(root.s3_secret_key_file).read_text(encoding="utf-8").strip()
        except (OSError, UnicodeDecodeError) as error:
            raise SettingsError(f"link_roots.{name}: s3_secret_key_file cannot be read") from error
    bucket, _, prefix = root.url.removeprefix("s3://").partition("/")
    place = s3.Bucket(
        name=bucket,
        prefix=prefix.strip("/"),
        endpoint=root.s3_endpoint,
        public_endpoint=None,
        region=root.s3_region,
        access_key=root.s3_access_key,
        secret_key=secret,
        is_path_style=root.s3_endpoint is not None if root.s3_path_style is None else root.s3_path_style,
        # For reading there is nothing to check.
        checksum="none",
    )
    return linked_remote.RemoteOrigin(name, s3.opened(place, stall_seconds=config.body_timeout_seconds))


def catalog_of(config: Config) -> Catalog:
    """Return the lab's catalog, closed: in the database of the settings, else in the lab's folder."""
    if not config.database:
        return SqliteCatalog(Path(config.lab) / "lab.db")
    try:
        from epista.server.stores.postgres import PostgresCatalog
    except ImportError as error:
        raise MissingExtraError(
            "for a catalog in PostgreSQL a package is missing", hint='pip install "epista[postgres]"'
        ) from error
    return PostgresCatalog(config.database, connections=config.database_connections)


def search_of(config: Config) -> SearchIndex:
    """Return the search index that belongs to the catalog."""
    if not config.database:
        return SqliteSearch()
    from epista.server.stores.search.postgres import PostgresSearch

    return PostgresSearch()


def engines_of(config: Config) -> dict[str, Engine]:
    """Return the engines that can be used, by their names; nothing is asked of them yet."""
    engines: dict[str, Engine] = {}
    if all(importlib.util.find_spec(name) for name in duckdb.PACKAGES):
        engines["duckdb"] = duckdb.DuckDB(
            Path(config.lab) / "scratch", reach="links" if config.blobs else "files", keep_warm=config.query_warm_child
        )
    if config.spark_url:
        # Not with the module: it needs sqlglot, which would slow every start of a server.
        try:
            from epista.server.engines import spark
        except ImportError as error:
            raise MissingExtraError("for spark_url a package is missing", hint='pip install "epista[spark]"') from error
        engines["spark"] = spark.Spark(
            config.spark_url,
            scratch=spark.FolderScratch(Path(config.spark_scratch)),
            files=config.spark_files,
            token=config.spark_token,
            is_warm=config.query_warm_child,
        )
    return engines


def limits_of(config: Config) -> Limits:
    """Return what one query may use."""
    return Limits(
        rows=config.query_rows or None,
        bytes=config.query_bytes or None,
        seconds=config.query_seconds,
        memory_bytes=config.query_memory_bytes,
        spill_bytes=config.query_spill_bytes,
        threads=config.query_threads or _half_of_the_cores(),
    )


def turns_of(config: Config) -> Turns:
    """Return the turns at running queries."""
    return Turns(
        config.queries_at_once or _half_of_the_cores(),
        per_caller=config.queries_per_token,
        wait_seconds=config.query_wait_seconds,
        refusal=too_many,
    )


def _half_of_the_cores() -> int:
    return max(2, (os.cpu_count() or 2) // 2)


def address_of(config: Config) -> str:
    """Return the address that people use."""
    host = f"[{config.host}]" if ":" in config.host else config.host
    return (config.public_url or f"http://{host}:{config.port}").rstrip("/")


async def _no_route(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    if error.status_code == 405:
        problem: EpistaError = InvalidRequestError(f"{request.method} is not answered at this address", hint="see /openapi.json")
    else:
        problem = NotFoundError("nothing is answered at this address", hint="see /openapi.json")
    response = problems.response(problem, request.scope["epista.request_id"])
    response.status_code = error.status_code
    for name, value in (error.headers or {}).items():
        response.headers[name] = value
    return response
