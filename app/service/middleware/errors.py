"""Error responses from middleware, and their delivery while a client is still sending its request."""

import asyncio
from collections.abc import Mapping
from pathlib import Path

from fastapi import HTTPException
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from glam.app.service.settings import ServiceLimits

RETRY_SECONDS, SHUTDOWN_RETRY_SECONDS = "2", "5"
"""Values of ``Retry-After`` while the service is busy, and while it is shutting down; arbitrary."""

SHUTTING_DOWN = "The service is shutting down. Try again in a few seconds."

DRAIN_SECONDS = 2.0
"""Time limit for reading and discarding the rest of a rejected body; arbitrary."""


def service_busy() -> HTTPException:
    """503: the queue is full."""
    return HTTPException(
        503, "The service is busy. Try again in a few seconds.", headers={"Retry-After": RETRY_SECONDS}
    )


def upload_too_large(limits: ServiceLimits) -> HTTPException:
    """413: the file is larger than ``limits.upload_bytes``."""
    return HTTPException(413, f"The file is too large. Send a file of at most {limits.upload_bytes / 1e6:g} MB.")


def public_sentence(error: Exception, *folders: Path) -> str:
    """Message of an error for clients: one that does not tell where the index is on this machine.

    Args:
        error: the error.
        folders: folders whose paths the message may have; only their names stay.
    """
    text = str(error)
    for folder in folders:
        for path in sorted({str(folder), str(folder.absolute()), str(folder.resolve())}, key=len, reverse=True):
            if "/" in path.strip("/"):
                text = text.replace(path, folder.name)
    if text.split(" ", 1)[0].isalpha():  # not a file name
        text = text[:1].upper() + text[1:]
    return text if text.endswith(".") else f"{text}."


async def send_error(send: Send, status: int, sentence: str, headers: Mapping[str, str] = {}) -> None:
    """Send an error response: a status and ``{"detail": sentence}``."""
    answer = JSONResponse({"detail": sentence}, status, headers=dict(headers))
    await send({"type": "http.response.start", "status": status, "headers": answer.raw_headers})
    await send({"type": "http.response.body", "body": answer.body})


class DrainMiddleware:
    """ASGI middleware that discards the rest of a request's body after an early response.

    If the server closes a connection while the client is sending, the connection is reset, and the client may not get
    the response. So this middleware sends the response, reads and discards the rest of the body, and then ends.
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
