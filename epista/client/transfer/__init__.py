"""Bytes on the move: to files, to memory, to the lab, and back."""
