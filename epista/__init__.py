"""
Epista: one governed bucket for a lab's data.

The public names are loaded when they are first used, so that ``import epista`` costs next to nothing.
"""

# Spelt out, because importing typing would cost more than the rest of this module.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from epista.client.artifacts import Published
    from epista.client.assets import Asset, AssetRef, Hit, Version
    from epista.client.current import assets, get, image, open, publish_figure, publish_table, query, search, use
    from epista.client.experiments import Experiment
    from epista.client.namespaces import namespaces, register_namespace
    from epista.client.queries import Query, QueryResult
    from epista.client.session import Session
    from epista.client.settings import load_env
    from epista.client.workspace import Workspace
    from epista.contract.errors import (
        AmbiguousNameError,
        AuthenticationError,
        ConflictError,
        EpistaError,
        ForbiddenError,
        FormatError,
        IntegrityError,
        InvalidKeyError,
        InvalidRequestError,
        KeyNotFoundError,
        LinkedFileChangedError,
        MissingExtraError,
        MissingFileError,
        NamespaceError,
        NotFoundError,
        QueryCancelledError,
        QueryError,
        QueryMemoryError,
        QueryRefusedError,
        QuerySyntaxError,
        QueryTimeoutError,
        QuotaError,
        RateLimitError,
        ResultTooLargeError,
        RoleNotFoundError,
        SearchSyntaxError,
        ServerError,
        SettingsError,
        StorageFullError,
        TooLargeError,
        TransferError,
        UnavailableError,
        UnreachableError,
        UnreadableError,
        UnreadableImageError,
        UnrecognizedNameError,
        ValidationError,
    )
    from epista.naming.registry import register_convention
    from epista.serializers import Picture, formats, register_serializer

_WHERE = {
    "Workspace": "epista.client.workspace",
    "Session": "epista.client.session",
    "Asset": "epista.client.assets",
    "AssetRef": "epista.client.assets",
    "Hit": "epista.client.assets",
    "Version": "epista.client.assets",
    "Experiment": "epista.client.experiments",
    "Query": "epista.client.queries",
    "QueryResult": "epista.client.queries",
    "Published": "epista.client.artifacts",
    "use": "epista.client.current",
    "assets": "epista.client.current",
    "get": "epista.client.current",
    "image": "epista.client.current",
    "open": "epista.client.current",
    "query": "epista.client.current",
    "search": "epista.client.current",
    "publish_figure": "epista.client.current",
    "publish_table": "epista.client.current",
    "load_env": "epista.client.settings",
    "namespaces": "epista.client.namespaces",
    "register_namespace": "epista.client.namespaces",
    "Picture": "epista.serializers",
    "formats": "epista.serializers",
    "register_serializer": "epista.serializers",
    "register_convention": "epista.naming.registry",
    "EpistaError": "epista.contract.errors",
    "SettingsError": "epista.contract.errors",
    "InvalidRequestError": "epista.contract.errors",
    "ValidationError": "epista.contract.errors",
    "InvalidKeyError": "epista.contract.errors",
    "SearchSyntaxError": "epista.contract.errors",
    "QueryError": "epista.contract.errors",
    "QuerySyntaxError": "epista.contract.errors",
    "QueryRefusedError": "epista.contract.errors",
    "QueryTimeoutError": "epista.contract.errors",
    "QueryMemoryError": "epista.contract.errors",
    "QueryCancelledError": "epista.contract.errors",
    "FormatError": "epista.contract.errors",
    "UnreadableError": "epista.contract.errors",
    "UnreadableImageError": "epista.contract.errors",
    "MissingExtraError": "epista.contract.errors",
    "NamespaceError": "epista.contract.errors",
    "AuthenticationError": "epista.contract.errors",
    "ForbiddenError": "epista.contract.errors",
    "NotFoundError": "epista.contract.errors",
    "KeyNotFoundError": "epista.contract.errors",
    "RoleNotFoundError": "epista.contract.errors",
    "AmbiguousNameError": "epista.contract.errors",
    "UnrecognizedNameError": "epista.contract.errors",
    "ConflictError": "epista.contract.errors",
    "TooLargeError": "epista.contract.errors",
    "ResultTooLargeError": "epista.contract.errors",
    "RateLimitError": "epista.contract.errors",
    "IntegrityError": "epista.contract.errors",
    "LinkedFileChangedError": "epista.contract.errors",
    "TransferError": "epista.contract.errors",
    "MissingFileError": "epista.contract.errors",
    "StorageFullError": "epista.contract.errors",
    "QuotaError": "epista.contract.errors",
    "UnreachableError": "epista.contract.errors",
    "UnavailableError": "epista.contract.errors",
    "ServerError": "epista.contract.errors",
}
"""Every public name, and the module it lives in."""

__all__ = [
    "Workspace",
    "Session",
    "Asset",
    "AssetRef",
    "Hit",
    "Version",
    "Experiment",
    "Query",
    "QueryResult",
    "Published",
    "use",
    "assets",
    "get",
    "image",
    "open",
    "query",
    "search",
    "publish_figure",
    "publish_table",
    "load_env",
    "namespaces",
    "register_namespace",
    "Picture",
    "formats",
    "register_serializer",
    "register_convention",
    "EpistaError",
    "SettingsError",
    "InvalidRequestError",
    "ValidationError",
    "InvalidKeyError",
    "SearchSyntaxError",
    "QueryError",
    "QuerySyntaxError",
    "QueryRefusedError",
    "QueryTimeoutError",
    "QueryMemoryError",
    "QueryCancelledError",
    "FormatError",
    "UnreadableError",
    "UnreadableImageError",
    "MissingExtraError",
    "NamespaceError",
    "AuthenticationError",
    "ForbiddenError",
    "NotFoundError",
    "KeyNotFoundError",
    "RoleNotFoundError",
    "AmbiguousNameError",
    "UnrecognizedNameError",
    "ConflictError",
    "TooLargeError",
    "ResultTooLargeError",
    "RateLimitError",
    "IntegrityError",
    "LinkedFileChangedError",
    "TransferError",
    "MissingFileError",
    "StorageFullError",
    "QuotaError",
    "UnreachableError",
    "UnavailableError",
    "ServerError",
]


def load_ipython_extension(ipython: object) -> None:
    """Add ``%%epista``, a cell of SQL: IPython calls this for ``%load_ext epista``."""
    from epista.client import notebooks

    notebooks.load(ipython)


# Hidden from type checkers, which would otherwise accept any misspelt name.
if not TYPE_CHECKING:

    def __getattr__(name):
        import importlib

        if name == "__version__":
            import importlib.metadata

            return importlib.metadata.version("epista")
        if name not in _WHERE:
            raise AttributeError(f"module 'epista' has no attribute {name!r}")
        found = getattr(importlib.import_module(_WHERE[name]), name)
        globals()[name] = found
        return found

    def __dir__():
        return sorted([*globals(), *__all__])
