"""The table of contents: what you can do with a workspace."""

from __future__ import annotations

from typing import TYPE_CHECKING

from epista.client import artifacts as _artifacts
from epista.client import assets as _assets
from epista.client import conventions as _conventions
from epista.client import crates as _crates
from epista.client import experiments as _experiments
from epista.client import lineage as _lineage
from epista.client import linked as _linked
from epista.client import links as _links
from epista.client import namespaces as _namespaces
from epista.client import objects as _objects
from epista.client import previews as _previews
from epista.client import projects as _projects
from epista.client import provenance as _provenance
from epista.client import queries as _queries
from epista.client import usage as _usage
from epista.client.session import Session

if TYPE_CHECKING:
    from epista.client.arrays import Arrays
    from epista.client.flow import Flow
    from epista.client.image import Images
    from epista.client.instruments import Instruments
    from epista.client.sequence import Sequence


class Workspace(Session):
    """Your lab's data, as you are allowed to see it. Each verb lives in the module of its noun."""

    keys = _assets.keys
    ls = _assets.ls
    fetch = _objects.fetch
    deserialize = _objects.deserialize
    __call__ = _objects.deserialize
    get_meta = _assets.get_meta
    set_meta = _assets.set_meta
    put = _objects.put
    put_file = _objects.put_file
    put_dir = _objects.put_dir
    append = _objects.append
    link_dir = _linked.link_dir
    copy = _objects.copy
    copy_dir = _objects.copy_dir
    move = _objects.move
    move_dir = _objects.move_dir
    delete = _assets.delete
    delete_dir = _assets.delete_dir
    restore = _assets.restore
    purge = _assets.purge
    versions = _assets.versions

    experiment = _experiments.get
    experiments = _experiments.find
    create_experiment = _experiments.create
    projects = _projects.find
    create_project = _projects.create

    search = _assets.search
    assets = _assets.find
    get = _assets.get
    preview = _previews.get
    open = _objects.open
    query = _queries.query
    query_batches = _queries.batches
    explain = _queries.explain
    queries = _queries.find
    cancel_query = _queries.cancel
    run = _provenance.run
    lineage = _lineage.get
    export_crate = _crates.export
    publish_figure = _artifacts.publish_figure
    publish_table = _artifacts.publish_table
    link = _links.create
    conventions = _conventions.conventions
    usage = _usage.get

    if TYPE_CHECKING:  # the namespaces that `_namespaces.OURS` lists
        array: Arrays
        flow: Flow
        image: Images
        instruments: Instruments
        sequence: Sequence

    def __dir__(self) -> list[str]:
        return list(_namespaces.names(self, super().__dir__()))
