"""Previews: what one sees of an asset without opening it."""

from __future__ import annotations

import base64
import html
from typing import TYPE_CHECKING

from epista.client import listings
from epista.contract import previews as wire
from epista.contract.assets import AssetRef

if TYPE_CHECKING:
    from epista.client.session import Session


class Preview(wire.Preview, frozen=True, kw_only=True):
    """The beginning of what an asset holds: `facts`, and whichever of `rows`, `text`, `cells` and `picture` fit it."""

    def __repr__(self) -> str:
        return self.as_text() or "(no preview)"

    def _repr_html_(self) -> str:
        return self.as_html() or "<p>(no preview)</p>"

    def as_text(self) -> str:
        """Return the preview as lines of text, without anything that would steer a terminal; empty if nothing is shown."""
        parts = [", ".join(f"{name}: {listings.printable(value)}" for name, value in self.facts)]
        if self.columns:
            parts.append(listings.text_table([column.name for column in self.columns], self.rows) if self.rows else self._names())
        if self.text is not None:
            parts.append("\n".join(listings.printable(line) for line in self.text.splitlines()))
        for cell in self.cells:
            parts.append(f"[{cell.kind}]\n" + "\n".join(listings.printable(line) for line in cell.source.splitlines()))
        if self.is_cut:
            parts.append("...")
        if self.problem:
            parts.append(f"no preview: {listings.printable(self.problem)}")
        return "\n".join(part for part in parts if part)

    def as_html(self) -> str:
        """Return the preview as HTML in which everything that comes from the file is escaped; empty if nothing is shown."""
        parts = [listings.html_fields(list(self.facts))] if self.facts else []
        if self.picture is not None:
            png = base64.b64encode(self.picture.png).decode()
            parts.append(f'<img src="data:image/png;base64,{png}" alt="preview" style="max-width: 100%">')
        if self.columns:
            names = [column.name for column in self.columns]
            parts.append(listings.html_table(names, self.rows) if self.rows else f"<p>{html.escape(self._names())}</p>")
        if self.text is not None:
            parts.append(f"<pre>{html.escape(self.text)}</pre>")
        parts += [f"<p>{html.escape(cell.kind)}</p><pre>{html.escape(cell.source)}</pre>" for cell in self.cells]
        if self.is_cut:
            parts.append("<p>…</p>")
        if self.problem:
            parts.append(f"<p>no preview: {html.escape(self.problem)}</p>")
        return "".join(parts)

    def _names(self) -> str:
        return "columns: " + ", ".join(listings.printable(column.name) for column in self.columns)


def get(here: Session, ref: str | AssetRef, *, version: str | int | None = None) -> Preview:
    """
    Show the beginning of an asset: the first rows of a table, the first lines of a text, a small picture, channels, records.

    *ref* is an id, a key or a bare name. The lab looks into the file, a bounded part of it, and keeps what it saw by content.
    Where it cannot, `Preview.problem` says why.

    Raises:
        KeyNotFoundError: nothing is there.
        AmbiguousNameError: a bare name fits several assets.
    """
    text = ref.id if isinstance(ref, AssetRef) else ref
    asked = wire.GetPreview(
        workspace=here.name,
        ref=text,
        experiment=here.experiment_name,
        version=None if version is None else str(version),
    )
    return here.wire.call("previews.get", asked, reply=Preview)
