"""
Figures for Prometheus.

With several worker processes the figures of all are summed, through the files that prometheus_client keeps in
``PROMETHEUS_MULTIPROC_DIR``; `epista serve` sets that up.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest, multiprocess

MEDIA_TYPE = "text/plain; version=0.0.4; charset=utf-8"

_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)


class Metrics:
    """The figures of one app."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        self._requests = Counter(
            "epista_requests_total", "Requests answered", ["endpoint", "method", "status"], registry=self._registry
        )
        self._seconds = Histogram(
            "epista_request_seconds", "Time to the last byte", ["endpoint"], buckets=_SECONDS, registry=self._registry
        )
        self._in_flight = Gauge(
            "epista_requests_in_flight", "Requests being answered", registry=self._registry, multiprocess_mode="livesum"
        )

    @contextmanager
    def in_flight(self) -> Iterator[None]:
        """Count a request while it is answered."""
        with self._in_flight.track_inprogress():
            yield

    def observe(self, endpoint: str, method: str, status: int, seconds: float) -> None:
        """Count an answered request."""
        known = method if method in ("GET", "HEAD", "POST", "PUT", "DELETE") else "other"
        self._requests.labels(endpoint, known, str(status)).inc()
        self._seconds.labels(endpoint).observe(seconds)

    def text(self) -> bytes:
        """Return all figures in the text format of Prometheus."""
        registry = self._registry
        if folder := os.environ.get("PROMETHEUS_MULTIPROC_DIR"):
            _forget_the_dead(Path(folder))
            registry = CollectorRegistry()
            multiprocess.MultiProcessCollector(registry)  # type: ignore[no-untyped-call]
        return generate_latest(registry)


def _forget_the_dead(folder: Path) -> None:
    """Leave out what killed workers say is in flight; what they counted stays."""
    for file in folder.glob("gauge_live*_*.db"):
        pid = int(file.stem.rpartition("_")[2])
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            multiprocess.mark_process_dead(pid)  # type: ignore[no-untyped-call]
        except PermissionError:
            continue  # somebody else's process by now
