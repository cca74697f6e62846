"""Epista: one governed bucket for a lab's data."""
