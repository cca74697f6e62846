"""Measurements: never a timed test. CI only checks that they run."""
