"""Limit on the size of a request's body, checked while it arrives."""

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from glam.app.service.middleware.errors import upload_too_large
from glam.app.service.settings import ServiceLimits

ENVELOPE_BYTES = 64 * 1024
"""Allowance for the multipart boundaries, part headers, and small fields around the largest upload; arbitrary."""


class BodyLimitMiddleware:
    """ASGI middleware that answers 413 as soon as a body exceeds the limit on uploads.

    It checks ``Content-Length`` before reading, and counts the bytes, because a chunked request has no such header.
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

        async def receive_within_limit() -> Message:
            # `receive` raises, so FastAPI gets the exception while it reads the form, and answers it.
            nonlocal received
            if declared.isdecimal() and int(declared) > self.body_bytes:
                raise upload_too_large(self.limits)
            message = await receive()
            received += len(message.get("body", b""))
            if received > self.body_bytes:
                raise upload_too_large(self.limits)
            return message

        await self.app(scope, receive_within_limit, send)
