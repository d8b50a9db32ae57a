"""Limits of the service: upload sizes, queue lengths, timeouts, and cache sizes."""

from dataclasses import dataclass


@dataclass(frozen=True)
class ServiceLimits:
    """Limits on requests and on memory. The defaults are arbitrary unless `docs/lab/service.md` has measurements.

    Attributes:
        upload_bytes: largest accepted image file in bytes.
        upload_pixels: largest accepted image in pixels (width times height), checked before decoding.
        uploads: maximum number of concurrent requests whose body has arrived; one more gets 503.
        requests: maximum number of concurrent requests; one more gets 503, except a probe.
        client_requests: maximum number of them from one client address.
        connections: maximum number of connections that wait for a request; one more closes the oldest.
        client_connections: maximum number of them from one client address.
        waiting: maximum length of each queue; one more item gets 503.
        head_seconds: timeout in seconds for the head of a request; then the connection is closed.
        idle_seconds: timeout in seconds for the next request on a connection; then it is closed.
        body_seconds: timeout in seconds for the body of a request; then 408.
        write_seconds: timeout in seconds for a client that does not read its response; then the connection is closed.
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
    requests: int = 1_000
    client_requests: int = 128
    connections: int = 1_000
    client_connections: int = 200
    waiting: int = 256
    head_seconds: float = 10.0
    idle_seconds: float = 10.0
    body_seconds: float = 30.0
    write_seconds: float = 30.0
    request_seconds: float = 60.0
    batch: int | None = None
    window_seconds: float = 0.004
    thumbnail_cache_bytes: int = 64_000_000
    memory_bytes: int | None = None
    descriptors: int = 1_000
