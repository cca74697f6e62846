"""The names of the Allen Institute's LIMS: ``1299958728_2022-03-15_13-28-02_multiplane-ophys_raw``, without a subject."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from epista.naming import moments
from epista.naming.components import cut, offset
from epista.naming.parsed import Refused
from epista.naming.vocabulary import TOKEN, is_known_label, is_known_platform, is_platform

_lims = re.compile(r"[0-9]{9,10}_")


class Lims:
    """9 or 10 digits, date and time, platform, perhaps a label."""

    def parse(self, component: str) -> Mapping[str, Any]:
        """Read the four in their order."""
        if not _lims.match(component):
            raise Refused("it does not begin with the 9 or 10 digits of a LIMS id", 0)
        tokens, extension, trailing, _ = cut(component)
        if not moments.HYPHENS.starts(tokens, 1):
            raise Refused("no date after the LIMS id", offset(tokens, 1))
        started, width, dropped = moments.HYPHENS.read(tokens, 1)
        place = 1 + width
        if place >= len(tokens) or not is_platform(tokens[place]):
            raise Refused("no platform after the time", offset(tokens, place))
        for index in range(place + 1, len(tokens)):
            if any(style.starts(tokens, index) for style in moments.STYLES) or not TOKEN.fullmatch(tokens[index]):
                raise Refused(f"{tokens[index]!r} is no label", offset(tokens, index))
        label = "_".join(tokens[place + 1 :]) or None
        warnings = moments.odd_year(started.year)
        if not is_known_platform(tokens[place]):
            warnings += (f"the platform {tokens[place]!r} is not known",)
        if dropped:
            warnings += ("a fraction of a second is left out",)
        if trailing:
            warnings += ("an underscore at the end is left out",)
        kind = "raw" if label is None or label.casefold() == "raw" else "derived" if is_known_label(label) else "other"
        return {
            "lims_id": tokens[0],
            "started": started,
            "date": started.date(),
            "platform": tokens[place],
            "label": label,
            "extension": extension,
            "warnings": warnings,
            "kind": "other" if trailing and label is None else kind,
        }

    def format(self, fields: Mapping[str, Any]) -> str:
        """Write them in their order."""
        lims, started, platform = fields.get("lims_id"), fields.get("started"), fields.get("platform")
        if not lims or not isinstance(started, datetime) or not platform:
            raise Refused("this convention needs lims_id, started and platform")
        parts = [str(lims), moments.HYPHENS.write(started), str(platform)]
        if fields.get("label"):
            parts.append(str(fields["label"]))
        return "_".join(parts) + (fields.get("extension") or "")


LIMS = Lims()
