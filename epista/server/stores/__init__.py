"""Rows and bytes. A store never sees an actor and never commits."""
