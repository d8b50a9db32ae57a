"""Error answers sent from outside FastAPI, and their delivery to a client that is still sending its request."""

import asyncio
from collections.abc import Mapping

from fastapi import HTTPException
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from glam.app.service.settings import ServiceLimits

RETRY_SECONDS = "2"

DRAIN_SECONDS = 2.0
"""How long the rest of a rejected body is read and discarded; arbitrary."""


def service_busy() -> HTTPException:
    """503: the queue is full."""
    return HTTPException(503, "Too many requests wait already; try again soon.", headers={"Retry-After": RETRY_SECONDS})


def upload_too_large(limits: ServiceLimits) -> HTTPException:
    """413: the file is larger than ``limits.upload_bytes``."""
    return HTTPException(413, f"The file is larger than {limits.upload_bytes / 1e6:g} MB, the most this service takes.")


async def send_error(send: Send, status: int, sentence: str, headers: Mapping[str, str] = {}) -> None:
    """Send an error answer: a status and ``{"detail": sentence}``."""
    answer = JSONResponse({"detail": sentence}, status, headers=dict(headers))
    await send({"type": "http.response.start", "status": status, "headers": answer.raw_headers})
    await send({"type": "http.response.body", "body": answer.body})


class DrainMiddleware:
    """ASGI middleware that reads the rest of a request's body after it was answered early.

    Closing a connection while its client sends resets it, and the client may never see the answer. So the answer is
    sent, the rest of the body is read and discarded, and then the connection is closed.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["method"] in ("GET", "HEAD", "OPTIONS"):
            await self.app(scope, receive, send)
            return
        body_complete = False

        async def receive_and_track() -> Message:
            nonlocal body_complete
            message = await receive()
            body_complete = body_complete or message["type"] == "http.disconnect" or not message.get("more_body", False)
            return message

        async def send_and_drain(message: Message) -> None:
            if body_complete or message["type"] != "http.response.body" or message.get("more_body", False):
                await send(message)
                return
            await send({**message, "more_body": True})
            try:
                async with asyncio.timeout(DRAIN_SECONDS):
                    while not body_complete:
                        await receive_and_track()
            except TimeoutError:
                pass
            await send({"type": "http.response.body", "body": b""})

        await self.app(scope, receive_and_track, send_and_drain)
