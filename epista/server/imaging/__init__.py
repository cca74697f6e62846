"""Images: from the bytes of a blob to regions of pixels. Knows files and pixels, never keys or people."""
