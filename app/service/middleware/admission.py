"""Limits on concurrent requests: in total, per client, and of those whose body has arrived; and memory for bodies."""

from collections import Counter

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from glam.app.service.client_address import client_key
from glam.app.service.memory_budget import MemoryBudget
from glam.app.service.middleware.access_log import is_probe
from glam.app.service.middleware.errors import send_error, service_busy
from glam.app.service.settings import ServiceLimits


class AdmissionMiddleware:
    """ASGI middleware that answers 503 to requests beyond the limits; probes are always admitted.

    A request with a body counts as an upload only when its body has arrived, so that slow clients take no place.
    """

    def __init__(self, app: ASGIApp, limits: ServiceLimits, budget: MemoryBudget) -> None:
        self.app, self.limits, self.budget = app, limits, budget
        self.uploads = 0
        self.by_client: Counter[str] = Counter()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or is_probe(scope):
            await self.app(scope, receive, send)
            return
        client = client_key(scope["client"][0] if scope.get("client") else "")
        has_body = scope["method"] not in ("GET", "HEAD", "OPTIONS")
        if (
            self.by_client.total() >= self.limits.requests
            or self.by_client[client] >= self.limits.client_requests
            or (has_body and self.uploads >= self.limits.uploads)
        ):
            error = service_busy()
            await send_error(send, error.status_code, error.detail, error.headers or {})
            return
        is_upload, reserved = False, 0

        async def receive_and_count() -> Message:
            nonlocal is_upload, reserved
            message = await receive()
            size = len(message.get("body", b""))
            is_complete = has_body and not message.get("more_body", False)
            if not self.budget.try_reserve(size) or (is_complete and self.uploads >= self.limits.uploads):
                raise service_busy()
            reserved += size
            if is_complete and not is_upload:
                self.uploads += 1
                is_upload = True
            return message

        self.by_client[client] += 1
        try:
            await self.app(scope, receive_and_count, send)
        finally:
            self.budget.release(reserved)
            self.uploads -= is_upload
            self.by_client[client] -= 1
            if not self.by_client[client]:
                del self.by_client[client]
