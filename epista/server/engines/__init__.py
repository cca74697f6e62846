"""Engines: whatever parses users' files, in limited child processes. They know bytes and formats, never keys or people."""
