"""Figures for Prometheus: what was asked, how long it took, what waits."""

from __future__ import annotations

from collections.abc import Callable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.process_collector import ProcessCollector

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
SECONDS = (0.1, 0.25, 0.5, 1, 2.5, 5, 10, 25, 50, 100, 250, 500)


class Metrics:
    """One server's figures; a registry of its own, so that two servers in one process do not mix."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        self.requests = Counter(
            "pixmend_http_requests", "Requests answered.", ["method", "status"], registry=self.registry
        )
        self.jobs = Counter("pixmend_jobs", "Jobs that are over.", ["kind", "state"], registry=self.registry)
        self.seconds = Histogram(
            "pixmend_job_seconds", "Time a job was worked on.", ["kind"], registry=self.registry, buckets=SECONDS
        )
        self.calls = Counter("pixmend_network_calls", "Calls of the networks.", registry=self.registry)
        self.refused = Counter("pixmend_jobs_refused", "Jobs refused, the queue being full.", registry=self.registry)

    def watch(self, name: str, text: str, value: Callable[[], float]) -> None:
        """A figure that is asked for when the metrics are."""
        Gauge(f"pixmend_{name}", text, registry=self.registry).set_function(value)

    def text(self) -> bytes:
        """All figures in Prometheus' text format."""
        return generate_latest(self.registry)
