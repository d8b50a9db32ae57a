"""Metrics for Prometheus, served at ``/metrics``."""

from collections.abc import Callable, Sized

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector, generate_latest

# Upper bounds of histogram buckets; arbitrary.
SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)
SIZES = (1, 2, 4, 8, 16, 32, 64)


class Metrics:
    """The metrics of one app, in their own registry."""

    def __init__(self) -> None:
        self.registry = registry = CollectorRegistry()
        ProcessCollector(registry=registry)
        self._requests = Counter(
            "glam_requests", "Answered requests.", ["method", "route", "status"], registry=registry
        )
        self._seconds = Histogram(
            "glam_request_seconds",
            "Time from the start of a request to the end of its response, in seconds.",
            ["route"],
            buckets=SECONDS,
            registry=registry,
        )
        self._in_flight = Gauge("glam_requests_running", "In-flight requests.", registry=registry)
        self._batches = Histogram(
            "glam_batch_size", "Number of items in a batch.", ["queue"], buckets=SIZES, registry=registry
        )
        self._waiting = Gauge("glam_queue_waiting", "Number of items in a queue.", ["queue"], registry=registry)
        self._lookups = Counter(
            "glam_descriptors",
            "Images to describe, by whether their descriptor was cached.",
            ["kept"],
            registry=registry,
        )
        self._images = Gauge("glam_index_images", "Number of images in the index.", registry=registry)
        self._opened = Counter("glam_index_opened", "Reloads of a changed index.", ["outcome"], registry=registry)

    def text(self) -> bytes:
        """The metrics in the text format of Prometheus."""
        return generate_latest(self.registry)

    def set_in_flight(self, count: int) -> None:
        """Set the number of in-flight requests."""
        self._in_flight.set(count)

    def record_request(self, method: str, route: str, status: int, seconds: float) -> None:
        """Count an answered request. ``route`` is the pattern of its path, because the number of paths is unbounded."""
        self._requests.labels(method, route, str(status)).inc()
        self._seconds.labels(route).observe(seconds)

    def batch(self, queue: str) -> Callable[[int], None]:
        """A function that records the size of a batch from a queue."""
        return self._batches.labels(queue).observe

    def watch_queue(self, queue: str, waiting: Sized) -> None:
        """Export the length of a queue."""
        self._waiting.labels(queue).set_function(lambda: len(waiting))

    def descriptor_lookup(self, cached: bool) -> None:
        """Count a lookup in the descriptor cache."""
        self._lookups.labels(str(cached).lower()).inc()

    def index_opened(self, images: int) -> None:
        """Count a successful reload."""
        self._opened.labels("done").inc()
        self._images.set(images)

    def index_failed(self) -> None:
        """Count a failed reload; the old snapshot stays current."""
        self._opened.labels("failed").inc()

    def set_index_images(self, images: int) -> None:
        """Set the number of images in the index."""
        self._images.set(images)
