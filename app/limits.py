"""What the service accepts, and the guard that counts the bytes of a request while they arrive."""

from dataclasses import dataclass

from fastapi import HTTPException
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

# Room for the multipart boundaries, part headers and small fields around an upload of the largest size.
ENVELOPE_BYTES = 64 * 1024


@dataclass(frozen=True)
class Limits:
    """Bounds of one request.

    Attributes:
        upload_bytes: largest accepted image file, in bytes.
        upload_pixels: largest accepted image, in pixels (width times height), checked before it is decoded.
        thumbnail_cache_bytes: memory spent on keeping thumbnails, in bytes.
    """

    upload_bytes: int = 20_000_000
    upload_pixels: int = 50_000_000
    thumbnail_cache_bytes: int = 64_000_000


def too_many_bytes(limits: Limits) -> HTTPException:
    """The 413 answer to a file above ``limits.upload_bytes``."""
    return HTTPException(413, f"The file is larger than {limits.upload_bytes / 1e6:g} MB, the most this service takes.")


class BodyLimit:
    """ASGI middleware that ends a request with 413 as soon as its body is longer than an upload may be.

    The declared ``Content-Length`` is checked before a byte is read; the bytes are counted too, because a chunked
    request declares none.
    """

    def __init__(self, app: ASGIApp, limits: Limits) -> None:
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
