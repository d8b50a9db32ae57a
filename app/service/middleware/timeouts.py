"""Timeouts for the body and the response of a request."""

import asyncio

from fastapi import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from glam.app.service.middleware.errors import RETRY_SECONDS, send_error
from glam.app.service.settings import ServiceLimits


class TimeoutMiddleware:
    """ASGI middleware: 408 for a body that arrives too slowly, 503 for a response that takes too long.

    A response that has begun is not interrupted.
    """

    def __init__(self, app: ASGIApp, limits: ServiceLimits) -> None:
        self.app, self.limits = app, limits

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        began = asyncio.get_running_loop().time()
        body_complete = False

        async def receive_before_deadline() -> Message:
            nonlocal body_complete
            if body_complete:
                return await receive()
            try:
                async with asyncio.timeout_at(began + self.limits.body_seconds):
                    message = await receive()
            except TimeoutError as error:
                sentence = f"The upload took more than {self.limits.body_seconds:g} seconds. Send a smaller file."
                raise HTTPException(408, sentence, headers={"Connection": "close"}) from error
            body_complete = not message.get("more_body", False)
            return message

        async def send_and_lift_deadline(message: Message) -> None:
            if not deadline.expired():
                deadline.reschedule(None)
            await send(message)

        try:
            async with asyncio.timeout_at(began + self.limits.request_seconds) as deadline:
                await self.app(scope, receive_before_deadline, send_and_lift_deadline)
        except TimeoutError:
            if not deadline.expired():
                raise
            sentence = f"The request took more than {self.limits.request_seconds:g} seconds. Try again later."
            await send_error(send, 503, sentence, {"Retry-After": RETRY_SECONDS})
