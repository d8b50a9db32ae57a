"""How long a request may take to arrive and to be answered, and how many are taken in at a time."""

import asyncio

from fastapi import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from glam.app.service.middleware.errors import RETRY_SECONDS, refuse, too_many
from glam.app.service.settings import ServiceLimits


class TimeoutMiddleware:
    """ASGI middleware: 408 for a body that arrives too slowly, 503 for an answer that takes too long.

    An answer that has begun is not broken off.
    """

    def __init__(self, app: ASGIApp, limits: ServiceLimits) -> None:
        self.app, self.limits = app, limits

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        began = asyncio.get_running_loop().time()
        whole = False

        async def timed() -> Message:
            nonlocal whole
            if whole:
                return await receive()
            try:
                async with asyncio.timeout_at(began + self.limits.body_seconds):
                    message = await receive()
            except TimeoutError as error:
                sentence = f"The request did not arrive within {self.limits.body_seconds:g} seconds."
                raise HTTPException(408, sentence, headers={"Connection": "close"}) from error
            whole = not message.get("more_body", False)
            return message

        async def begin(message: Message) -> None:
            if not deadline.expired():
                deadline.reschedule(None)
            await send(message)

        try:
            async with asyncio.timeout_at(began + self.limits.request_seconds) as deadline:
                await self.app(scope, timed, begin)
        except TimeoutError:
            if not deadline.expired():
                raise
            sentence = f"The service is busy: no answer was ready within {self.limits.request_seconds:g} seconds."
            await refuse(send, 503, sentence, {"Retry-After": RETRY_SECONDS})


class AdmissionMiddleware:
    """ASGI middleware that takes in so many requests with a body at a time; one more is answered with 503 unread."""

    def __init__(self, app: ASGIApp, limits: ServiceLimits) -> None:
        self.app, self.most = app, limits.uploads
        self.inside = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["method"] in ("GET", "HEAD", "OPTIONS"):
            await self.app(scope, receive, send)
            return
        if self.inside >= self.most:
            error = too_many()
            await refuse(send, error.status_code, error.detail, error.headers or {})
            return
        self.inside += 1
        try:
            await self.app(scope, receive, send)
        finally:
            self.inside -= 1
