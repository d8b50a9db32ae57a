"""Limits of the service: sizes of uploads, numbers of requests, and timeouts."""

from dataclasses import dataclass


@dataclass(frozen=True)
class ServiceLimits:
    """Limits on requests and on memory.

    Attributes:
        upload_bytes: largest accepted image file, in bytes.
        upload_pixels: largest accepted image, in pixels (width times height), checked before it is decoded.
        uploads: most requests with a body at a time; one more gets 503.
        waiting: most items in the queue of the model, and in that of the index; one more gets 503.
        body_seconds: timeout for the body of a request to arrive, in seconds.
        request_seconds: timeout for an answer, in seconds; then 503.
        batch: most images in a batch of the network, and most queries in a batch of the search; None for a default that
            is fast on the model's device.
        window_seconds: how long the first item of a batch waits for others.
        thumbnail_cache_bytes: size of the thumbnail cache, in bytes.
        descriptors: size of the descriptor cache, in uploads.
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
    descriptors: int = 1_000
