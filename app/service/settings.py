"""What the service accepts: sizes of uploads, numbers of requests, and times."""

from dataclasses import dataclass


@dataclass(frozen=True)
class ServiceLimits:
    """Bounds of requests, and of what is kept in memory.

    Attributes:
        upload_bytes: largest accepted image file, in bytes.
        upload_pixels: largest accepted image, in pixels (width times height), checked before it is decoded.
        uploads: most requests with a body that are taken in at a time; one more is answered with 503.
        waiting: most that wait for the model, and for the index; one more is answered with 503.
        body_seconds: within which the body of a request has to arrive.
        request_seconds: within which a request is answered, or given up with 503.
        batch: most images that go through the network together, and most queries that search together; 1 for one at a
            time, None for what is fast on the model's device.
        window_seconds: how long the first of a batch waits for others.
        thumbnail_cache_bytes: memory spent on keeping thumbnails, in bytes.
        descriptors: of how many uploads the descriptor is kept, for when they are asked again.
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
