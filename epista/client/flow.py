"""``ws.flow``: flow cytometry files, as tables of events."""

from __future__ import annotations

import gzip
from contextlib import closing
from typing import TYPE_CHECKING, Any, BinaryIO, cast

from epista.contract.errors import ValidationError
from epista.serializers import fcs, tables
from epista.serializers.serializer import require

if TYPE_CHECKING:
    import io

    import pandas as pd

    from epista.client.workspace import Workspace
    from epista.contract.assets import AssetRef

CLASSES = ("pandas", "arrow", "polars", "anndata")
"""What ``as_type`` of `Flow.events` may say."""


class Channel(str):
    """A channel: its name, which is also the column of `Flow.events`, and what the file says of it."""

    label: str
    """``$PnS``, such as the marker that was stained; empty where nobody said."""
    range: float
    """``$PnR``: stored values are below this."""
    gain: float
    """``$PnG``: linear values are stored times this."""
    decades: float
    """Of logarithmic amplification, by ``$PnE``; 0 for linear."""

    def __new__(cls, told: fcs.Channel) -> Channel:
        made = super().__new__(cls, told.name)
        made.label, made.range, made.gain, made.decades = told.label, told.range, told.gain, told.decades
        return made

    def __repr__(self) -> str:
        return f"<Channel {str(self)!r}{f' {self.label!r}' if self.label else ''}>"


class Flow:
    """Flow cytometry (FCS 2.0 to 3.2). What is not an event is read by range: of a file of gigabytes, some kilobytes."""

    def __init__(self, host: Workspace) -> None:
        self._here = host

    def events(
        self,
        ref: str | AssetRef,
        *,
        version: str | int | None = None,
        channels: list[str] | None = None,
        dtype: str = "float32",
        preprocess: bool = True,
        compensate: bool | dict[str, Any] = False,
        dataset: int = 0,
        as_type: str = "pandas",
    ) -> pd.DataFrame | Any:
        """
        Read the events: a row for each, a column for each channel (or each of *channels*), in the order of the file.

        Values are linear and times in seconds; with ``preprocess=False`` they are as stored. ``dtype="float64"`` keeps integers
        above 2**24. Nothing is compensated unless *compensate* says so: True applies the spillover matrix of the file, and
        ``{"channels": [...], "matrix": [[...]]}`` another. *dataset* counts the data sets of one file, from 0. *as_type* is
        ``pandas``, ``arrow``, ``polars`` or ``anndata``. ``attrs`` of a DataFrame hold ``keywords``, ``labels``, ``spill`` and
        ``warnings``.

        Raises:
            UnreadableError: no FCS file, or one whose events cannot be read.
            FormatError: it has no such channel, or no matrix to compensate with.
        """
        if as_type not in CLASSES:
            raise ValidationError(f"as_type={as_type!r}: one of {', '.join(CLASSES)} is needed")
        frame = self._here.deserialize(
            ref,
            format="fcs",
            version=version,
            dtype=dtype,
            preprocess=preprocess,
            compensate=compensate,
            dataset=dataset,
        )
        if channels is not None:
            if missing := [name for name in channels if name not in frame.columns]:
                raise ValidationError(
                    f"no channel {', '.join(map(repr, missing))}", hint=f"channels: {', '.join(map(str, frame.columns))}"
                )
            frame = frame[list(channels)]
        if as_type == "anndata":
            return _anndata(frame)
        return frame if as_type == "pandas" else tables.convert(frame, as_type)

    def channels(self, ref: str | AssetRef, *, version: str | int | None = None, dataset: int = 0) -> list[Channel]:
        """
        Return the channels, in the order of the file: strings, each with its ``label``, ``range``, ``gain`` and ``decades``.

        Raises:
            UnreadableError: no FCS file.
        """
        return [Channel(one) for one in self._head(ref, version, dataset).channels]

    def keywords(self, ref: str | AssetRef, *, version: str | int | None = None, dataset: int = 0) -> dict[str, str]:
        """
        Return the keywords, as in the file; standard ones are upper case and begin with ``$``.

        Raises:
            UnreadableError: no FCS file.
        """
        return self._head(ref, version, dataset).keywords

    def spill(self, ref: str | AssetRef, *, version: str | int | None = None, dataset: int = 0) -> pd.DataFrame | None:
        """
        Return the spillover matrix of the file, with the channels as index and columns; None if it has none.

        Raises:
            UnreadableError: no FCS file, or a matrix that cannot be read.
        """
        import pandas as pd

        found = fcs.spill_of(self.keywords(ref, version=version, dataset=dataset))
        return None if found is None else pd.DataFrame(found["matrix"], index=found["channels"], columns=found["channels"])

    def _head(self, ref: str | AssetRef, version: str | int | None, dataset: int) -> fcs.Head:
        with self._here.open(ref, version=version) as stream:
            # Unbuffered: a buffer would fetch a piece of the events with every few bytes.
            raw = cast("io.FileIO", stream.raw)
            if str(raw.name).lower().endswith((".gz", ".bgz")):
                with closing(gzip.GzipFile(fileobj=stream)) as unpacked:
                    return fcs.read_head(cast("BinaryIO", unpacked), dataset=dataset)
            return fcs.read_head(cast("BinaryIO", raw), dataset=dataset)


def _anndata(frame: pd.DataFrame) -> Any:
    """Return events as AnnData: cells in ``obs``, channels in ``var``, keywords in ``uns``."""
    anndata = require("anndata", "epista[singlecell]")
    import pandas as pd

    labels = frame.attrs["labels"]
    names = [str(name) for name in frame.columns]
    told = {name: value for name, value in frame.attrs.items() if value}
    return anndata.AnnData(
        X=frame.to_numpy(),
        obs=pd.DataFrame(index=[str(number) for number in range(len(frame))]),
        var=pd.DataFrame({"label": [labels.get(name, "") for name in names]}, index=names),
        uns={"keywords": told.get("keywords", {}), "warnings": list(told.get("warnings", ()))},
    )
