"""Limits of the service: upload sizes, queue lengths, timeouts, and cache sizes."""

from dataclasses import dataclass


@dataclass(frozen=True)
class ServiceLimits:
    """Limits on requests and on memory. The defaults are arbitrary unless `docs/lab/service.md` has measurements.

    Attributes:
        upload_bytes: largest accepted image file in bytes.
        upload_pixels: largest accepted image in pixels (width times height), checked before decoding.
        uploads: maximum number of concurrent requests with a body; one more gets 503.
        waiting: maximum length of each queue; one more item gets 503.
        body_seconds: timeout in seconds for the body of a request; then 408.
        request_seconds: timeout in seconds for the response; then 503.
        batch: maximum number of images per batch of the network, and of queries per batch of the search; None for a
            default that suits the device of the model.
        window_seconds: time in seconds that the first item of a batch waits for others.
        thumbnail_cache_bytes: capacity of the thumbnail cache in bytes.
        memory_bytes: memory that the process may use; None for a quarter of the machine. When it is full, further
            images get 503.
        descriptors: capacity of the descriptor cache in descriptors.
    """

    upload_bytes: int = 20_000_000
    upload_pixels: int = 50_000_000
    uploads: int = 128
    waiting: int = 256
    body_seconds: float = 30.0
    request_seconds: float = 60.0
    batch: int | None = None
    window_seconds: float = 0.004
    thumbnail_cache_bytes: int = 64_000_000
    memory_bytes: int | None = None
    descriptors: int = 1_000
