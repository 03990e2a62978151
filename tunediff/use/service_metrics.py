"""What the service counts and times, for Prometheus."""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector

SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
TEXTS = (1, 2, 4, 8, 16, 32, 64, 128)


class Metrics:
    """The metrics of one service, in a registry of its own."""

    def __init__(self):
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        common = {"namespace": "tunediff", "registry": self.registry}
        self.requests = Counter("requests", "Requests answered", ["path", "status"], **common)
        self.seconds = Histogram("request_seconds", "From a request to its answer", ["path"], buckets=SECONDS, **common)
        self.answers = Counter("answers", "Texts answered with a label", ["model", "label"], **common)
        self.batch = Histogram("batch_texts", "Texts computed together", buckets=TEXTS, **common)
        self.batch_seconds = Histogram("batch_seconds", "Time to compute a batch", buckets=SECONDS, **common)
        self.in_flight = Gauge("requests_in_flight", "Requests that are not answered yet", **common)
        self.waiting = Gauge("waiting_texts", "Texts that wait to be computed", **common)

    def record_batch(self, texts: int, seconds: float) -> None:
        """Count a batch that was computed."""
        self.batch.observe(texts)
        self.batch_seconds.observe(seconds)
