"""A picture: bytes that display themselves."""

from __future__ import annotations

import base64
import html
from typing import Any

from epista.contract.errors import FormatError
from epista.serializers.serializer import require


class Picture(bytes):
    """
    The bytes of a picture file, which a notebook shows.

    An SVG is shown as an image and a page of HTML in a sandboxed frame of its own origin, so that no script in either can
    reach the notebook.
    """

    media_type: str
    """The file's media type, such as ``image/png``."""

    def __new__(cls, data: bytes, media_type: str) -> Picture:
        """Make a picture of *data*."""
        picture = super().__new__(cls, data)
        picture.media_type = media_type
        return picture

    def __reduce__(self) -> tuple[Any, ...]:
        return Picture, (bytes(self), self.media_type)

    def __repr__(self) -> str:
        return f"<Picture {self.media_type}, {len(self):,} bytes>"

    def to_pil(self) -> Any:
        """
        Return the picture as a `PIL.Image.Image`.

        Raises:
            FormatError: it is no raster image: SVG, PDF or HTML.
        """
        if not self.media_type.startswith("image/") or self.media_type == "image/svg+xml":
            raise FormatError(f"a {self.media_type} has no pixels; save the figure as .png too")
        import io

        image = require("PIL.Image", "epista[image]").open(io.BytesIO(self))
        image.load()
        return image

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> dict[str, Any]:
        if self.media_type == "application/pdf":
            return {"text/plain": repr(self), self.media_type: self._base64()}
        return {"text/plain": repr(self), "text/html": self._repr_html_()}

    def _repr_html_(self) -> str:
        if self.media_type == "text/html":
            # Charts draw themselves with scripts: allowed, but without allow-same-origin the frame is nobody's origin.
            page = html.escape(self.decode("utf-8", errors="replace"), quote=True)
            return f'<iframe sandbox="allow-scripts" srcdoc="{page}" style="width:100%;height:480px;border:0"></iframe>'
        if self.media_type == "application/pdf":
            return f"<code>{html.escape(repr(self))}</code>"
        # Inside <img> browsers run no scripts and load nothing further.
        return f'<img src="data:{self.media_type};base64,{self._base64()}" style="max-width:100%">'

    def _base64(self) -> str:
        return base64.b64encode(self).decode()
