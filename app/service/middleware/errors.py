"""Answers with which the service refuses, from outside FastAPI, and how they reach a client that is still sending."""

import asyncio
from collections.abc import Mapping

from fastapi import HTTPException
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from glam.app.service.settings import ServiceLimits

RETRY_SECONDS = "2"

DRAIN_SECONDS = 2.0
"""How long the rest of a refused body is read and thrown away."""


def too_many() -> HTTPException:
    """The 503 answer where too many wait."""
    return HTTPException(503, "Too many requests wait already; try again soon.", headers={"Retry-After": RETRY_SECONDS})


def too_many_bytes(limits: ServiceLimits) -> HTTPException:
    """The 413 answer to a file above ``limits.upload_bytes``."""
    return HTTPException(413, f"The file is larger than {limits.upload_bytes / 1e6:g} MB, the most this service takes.")


async def refuse(send: Send, status: int, sentence: str, headers: Mapping[str, str] = {}) -> None:
    """Answers with a status and ``{"detail": sentence}``."""
    answer = JSONResponse({"detail": sentence}, status, headers=dict(headers))
    await send({"type": "http.response.start", "status": status, "headers": answer.raw_headers})
    await send({"type": "http.response.body", "body": answer.body})


class DrainMiddleware:
    """ASGI middleware that reads on for a moment after an answer to a request whose body did not arrive wholly.

    A connection that is closed while its client sends is reset, and the client may never see why. So the answer is
    sent, then what comes is thrown away, then the connection is closed.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["method"] in ("GET", "HEAD", "OPTIONS"):
            await self.app(scope, receive, send)
            return
        whole = False

        async def watched() -> Message:
            nonlocal whole
            message = await receive()
            whole = whole or message["type"] == "http.disconnect" or not message.get("more_body", False)
            return message

        async def lingering(message: Message) -> None:
            if whole or message["type"] != "http.response.body" or message.get("more_body", False):
                await send(message)
                return
            await send({**message, "more_body": True})
            try:
                async with asyncio.timeout(DRAIN_SECONDS):
                    while not whole:
                        await watched()
            except TimeoutError:
                pass
            await send({"type": "http.response.body", "body": b""})

        await self.app(scope, watched, lingering)
