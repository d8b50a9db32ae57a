"""What the service accepts, and the guard that counts the bytes of a request while they arrive."""

from dataclasses import dataclass

from fastapi import HTTPException
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

# Room for the multipart boundaries, part headers and small fields around an upload of the largest size.
ENVELOPE_BYTES = 64 * 1024


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


def too_many_bytes(limits: ServiceLimits) -> HTTPException:
    """The 413 answer to a file above ``limits.upload_bytes``."""
    return HTTPException(413, f"The file is larger than {limits.upload_bytes / 1e6:g} MB, the most this service takes.")


class BodyLimitMiddleware:
    """ASGI middleware that ends a request with 413 as soon as its body is longer than an upload may be.

    The declared ``Content-Length`` is checked before a byte is read; the bytes are counted too, because a chunked
    request declares none.
    """

    def __init__(self, app: ASGIApp, limits: ServiceLimits) -> None:
        self.app = app
        self.limits = limits
        self.body_bytes = limits.upload_bytes + ENVELOPE_BYTES

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return

        declared = Headers(scope=scope).get("content-length", "")
        received = 0

        async def counted() -> Message:
            # Raised within `receive`, the exception reaches FastAPI where it reads the form, and is answered there.
            nonlocal received
            if declared.isdecimal() and int(declared) > self.body_bytes:
                raise too_many_bytes(self.limits)
            message = await receive()
            received += len(message.get("body", b""))
            if received > self.body_bytes:
                raise too_many_bytes(self.limits)
            return message

        await self.app(scope, counted, send)
