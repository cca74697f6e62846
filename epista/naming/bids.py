"""
The file names of BIDS: ``sub-01_ses-02_task-rest_run-1_bold.nii.gz``.

Source: Brain Imaging Data Structure 1.10, "Common principles: filenames". A session is required: without one a name tells of
no recording.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from epista.naming.parsed import Refused
from epista.naming.vocabulary import cut_extension

_entity = re.compile(r"([A-Za-z]+)-([A-Za-z0-9]+)")
_suffix = re.compile(r"[A-Za-z][A-Za-z0-9]*")


class Bids:
    """``sub-X_ses-Y``, further pairs, a suffix; what has a ``desc-`` was derived."""

    def parse(self, component: str) -> Mapping[str, Any]:
        """Read the pairs in their order, and the suffix as the label."""
        if not component.startswith("sub-"):
            raise Refused("it does not begin with sub-", 0)
        stem, extension = cut_extension(component)
        tokens = stem.split("_")
        pairs: list[tuple[str, str]] = []
        label = None
        at = 0
        for place, token in enumerate(tokens):
            if found := _entity.fullmatch(token):
                key, value = found.groups()
                if key in ("sub", "ses") and place != ("sub", "ses").index(key):
                    raise Refused(f"{key}- stands in the wrong place", at)
                if key in dict(pairs):
                    raise Refused(f"{key}- stands there twice", at)
                pairs.append((key, value))
            elif place > 1 and place == len(tokens) - 1 and _suffix.fullmatch(token):
                label = token
            else:
                raise Refused(f"{token!r} is no key-value pair", at)
            if place == 1 and pairs[1][0] != "ses":
                raise Refused("no ses- after sub-", at)
            at += len(token) + 1
        if len(pairs) < 2:
            raise Refused("no ses- after sub-", len(stem))
        (_, subject), (_, session), *others = pairs
        return {
            "subject_id": subject,
            "tokens": (("ses", session), *others),
            "label": label,
            "extension": extension,
            "kind": "derived" if "desc" in dict(others) else "raw",
            "canonical": component,
            "parent": "_".join(tokens[:-1]) if label else None,
            "recording": (subject, session),
        }

    def format(self, fields: Mapping[str, Any]) -> str:
        """Write subject, session, the other pairs and the suffix."""
        tokens = dict(fields.get("tokens", ()))
        session = tokens.pop("ses", None)
        if not fields.get("subject_id") or not session:
            raise Refused("this convention needs subject_id and the token ses")
        parts = [f"sub-{fields['subject_id']}", f"ses-{session}", *(f"{key}-{value}" for key, value in tokens.items())]
        if fields.get("label"):
            parts.append(str(fields["label"]))
        return "_".join(parts) + (fields.get("extension") or "")


BIDS = Bids()
