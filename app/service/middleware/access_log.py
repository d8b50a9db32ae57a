"""Access log, one line per request; request ids; and the response to unexpected exceptions."""

import logging
import re
import secrets
import time
from typing import Any

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from glam.app.service.metrics import Metrics
from glam.app.service.middleware.errors import SHUTDOWN_RETRY_SECONDS, SHUTTING_DOWN, send_error
from glam.app.service.middleware.roles import is_api, route_path

log = logging.getLogger("glam.service")

REQUEST_ID = "X-Request-ID"

VALID_REQUEST_ID = re.compile(r"[A-Za-z0-9._:-]{1,64}")
"""A request id that is accepted from a client or a proxy; any other is replaced."""


class InFlightRequests:
    """Number of in-flight requests, and whether new ones are accepted.

    Attributes:
        count: number of in-flight requests.
        stopping: whether the service is shutting down, so that new requests get 503.
    """

    def __init__(self) -> None:
        self.count = 0
        self.stopping = False


class AccessLogMiddleware:
    """ASGI middleware around all others: request id, access log, and metrics.

    It answers 500 to an unexpected exception, and 503 to new requests during a shutdown.
    """

    def __init__(self, app: ASGIApp, metrics: Metrics, in_flight: InFlightRequests) -> None:
        self.app, self.metrics, self.in_flight = app, metrics, in_flight

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        sent_id = Headers(scope=scope).get(REQUEST_ID.lower(), "")
        request_id = sent_id if VALID_REQUEST_ID.fullmatch(sent_id) else secrets.token_hex(8)
        scope.setdefault("state", {})["request_id"] = request_id
        began, status, sent_bytes = time.perf_counter(), 0, 0

        async def send_and_record(message: Message) -> None:
            nonlocal status, sent_bytes
            if message["type"] == "http.response.start":
                status = message["status"]
                MutableHeaders(scope=message)[REQUEST_ID] = request_id
            sent_bytes += len(message.get("body", b""))
            await send(message)

        self.in_flight.count += 1
        self.metrics.set_in_flight(self.in_flight.count)
        try:
            if self.in_flight.stopping and not is_probe(scope):
                headers = {"Retry-After": SHUTDOWN_RETRY_SECONDS, "Connection": "close"}
                await send_error(send_and_record, 503, SHUTTING_DOWN, headers)
            else:
                await self.app(scope, receive, send_and_record)
        except Exception:
            log.exception("failed", extra={"facts": {"request_id": request_id, "path": scope["path"]}})
            if status:
                raise
            sentence = f"Internal error. The log of the service has the details under request_id {request_id}."
            await send_error(send_and_record, 500, sentence)
        finally:
            self.in_flight.count -= 1
            self.metrics.set_in_flight(self.in_flight.count)
            seconds = time.perf_counter() - began
            self.metrics.record_request(_method(scope), route(scope), status, seconds)
            log.info("request", extra={"facts": _facts(scope, request_id, status, sent_bytes, seconds)})


def route(scope: Scope) -> str:
    """Pattern of the path of a request, such as ``/api/images/{image_id}``."""
    path = getattr(scope.get("route"), "path", None)
    if path is not None:
        return str(path)
    return "refused" if is_api(route_path(scope)) else "page"


def _facts(scope: Scope, request_id: str, status: int, sent_bytes: int, seconds: float) -> dict[str, Any]:
    client = scope.get("client")
    return {
        "request_id": request_id,
        "client": client[0] if client else None,
        "method": scope["method"],
        "path": scope["path"],
        "status": status,
        "bytes": sent_bytes,
        "milliseconds": round(1000 * seconds, 1),
    }


def _method(scope: Scope) -> str:
    method: str = scope["method"]
    return method if method in ("GET", "HEAD", "OPTIONS", "POST", "DELETE") else "other"


def is_probe(scope: Scope) -> bool:
    """Whether a request asks how the service is, which is answered under any load."""
    return route_path(scope) in ("/healthz", "/readyz", "/metrics")
