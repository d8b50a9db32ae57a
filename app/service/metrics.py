"""What the service counts, for Prometheus at ``/metrics``."""

from collections.abc import Callable, Sized

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector, generate_latest

SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)
SIZES = (1, 2, 4, 8, 16, 32, 64)


class Metrics:
    """The counters of one app, in a registry of its own."""

    def __init__(self) -> None:
        self.registry = registry = CollectorRegistry()
        ProcessCollector(registry=registry)
        self._requests = Counter(
            "glam_requests", "Requests that were answered.", ["method", "route", "status"], registry=registry
        )
        self._seconds = Histogram(
            "glam_request_seconds",
            "From a request to the end of its answer.",
            ["route"],
            buckets=SECONDS,
            registry=registry,
        )
        self._running = Gauge("glam_requests_running", "Requests being answered now.", registry=registry)
        self._batches = Histogram(
            "glam_batch_size", "How many went through together.", ["queue"], buckets=SIZES, registry=registry
        )
        self._waiting = Gauge("glam_queue_waiting", "How many wait now.", ["queue"], registry=registry)
        self._again = Counter(
            "glam_descriptors",
            "Photographs asked for, by whether their descriptor was kept.",
            ["kept"],
            registry=registry,
        )
        self._images = Gauge("glam_index_images", "Images of the index being served.", registry=registry)
        self._opened = Counter(
            "glam_index_opened", "Times that a changed index was opened.", ["outcome"], registry=registry
        )

    def text(self) -> bytes:
        """In the format of Prometheus."""
        return generate_latest(self.registry)

    def running(self, count: int) -> None:
        """How many requests are being answered."""
        self._running.set(count)

    def answered(self, method: str, route: str, status: int, seconds: float) -> None:
        """A request was answered; ``route`` is the pattern of its path, since paths are without number."""
        self._requests.labels(method, route, str(status)).inc()
        self._seconds.labels(route).observe(seconds)

    def batch(self, queue: str) -> Callable[[int], None]:
        """What is to be called with the size of each batch of a queue."""
        return self._batches.labels(queue).observe

    def watch_queue(self, queue: str, waiting: Sized) -> None:
        """Shows the length of a queue."""
        self._waiting.labels(queue).set_function(lambda: len(waiting))

    def asked_again(self, kept: bool) -> None:
        """A photograph was asked for."""
        self._again.labels(str(kept).lower()).inc()

    def index_opened(self, images: int) -> None:
        """A changed index is being served from now on."""
        self._opened.labels("done").inc()
        self._images.set(images)

    def index_failed(self) -> None:
        """A changed index could not be opened; the one before is being served."""
        self._opened.labels("failed").inc()

    def serves(self, images: int) -> None:
        """The index that is being served at first."""
        self._images.set(images)
