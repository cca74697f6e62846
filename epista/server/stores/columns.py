"""
The types of columns, such that both databases keep and order the same.

Integers have 64 bits, as SQLite's have anyway. Texts are ordered by code point, as SQLite orders them anyway.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import BigInteger, Dialect, types

Integer = BigInteger().with_variant(types.Integer(), "sqlite")
Text = types.Text().with_variant(types.Text(collation="C"), "postgresql")


class _FreeText(types.TypeDecorator[str]):
    impl = types.Text
    cache_ok = True

    def load_dialect_impl(self, dialect: Dialect) -> types.TypeEngine[Any]:
        return types.Text(collation="C" if dialect.name == "postgresql" else None)

    def process_result_value(self, value: str | None, dialect: Dialect) -> str | None:
        return restored(value) if value and dialect.name == "postgresql" else value


FreeText = _FreeText()
"""Text that may have a NUL, which PostgreSQL does not keep."""


def without_nul(text: str) -> str:
    """Return *text* as PostgreSQL can keep it, such that `restored` gives it back and different texts stay different."""
    return text.replace("\1", "\1\1").replace("\0", "\1\2") if "\0" in text or "\1" in text else text


def restored(text: str) -> str:
    """Return what `without_nul` was given."""
    if "\1" not in text:
        return text
    return "\1".join(part.replace("\1\2", "\0") for part in text.split("\1\1"))
