"""One line of JSON in the log for every request, its number in the answer, and the catching of what went wrong."""

import json
import logging
import re
import secrets
import sys
import time
from datetime import UTC, datetime
from typing import Any

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from glam.app.service.metrics import Metrics
from glam.app.service.middleware.errors import refuse

log = logging.getLogger("glam.service")

REQUEST_ID = "X-Request-ID"

GIVEN_ID = re.compile(r"[A-Za-z0-9._:-]{1,64}")
"""What is taken over from a client or a proxy; anything else gets a new one."""


class Running:
    """How many requests are being answered, and whether new ones are.

    Attributes:
        count: of requests.
        stopping: whether the service is about to end.
    """

    def __init__(self) -> None:
        self.count = 0
        self.stopping = False


class AccessLogMiddleware:
    """ASGI middleware, the outermost: request id, log, metrics; 500 with a sentence for what nobody foresaw; 503 once
    the service is stopping."""

    def __init__(self, app: ASGIApp, metrics: Metrics, running: Running) -> None:
        self.app, self.metrics, self.running = app, metrics, running

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        given = Headers(scope=scope).get(REQUEST_ID.lower(), "")
        number = given if GIVEN_ID.fullmatch(given) else secrets.token_hex(8)
        scope.setdefault("state", {})["request_id"] = number
        began, status, sent = time.perf_counter(), 0, 0

        async def noted(message: Message) -> None:
            nonlocal status, sent
            if message["type"] == "http.response.start":
                status = message["status"]
                MutableHeaders(scope=message)[REQUEST_ID] = number
            sent += len(message.get("body", b""))
            await send(message)

        self.running.count += 1
        self.metrics.running(self.running.count)
        try:
            if self.running.stopping and not _is_probe(scope["path"]):
                sentence = "The service is stopping; ask again when it is back."
                await refuse(noted, 503, sentence, {"Retry-After": "5", "Connection": "close"})
            else:
                await self.app(scope, receive, noted)
        except Exception:
            log.exception("failed", extra={"facts": {"request_id": number, "path": scope["path"]}})
            if status:
                raise
            await refuse(noted, 500, f"Something went wrong here; the log has more under the request id {number}.")
        finally:
            self.running.count -= 1
            self.metrics.running(self.running.count)
            seconds = time.perf_counter() - began
            self.metrics.answered(_method(scope), route(scope), status, seconds)
            log.info("request", extra={"facts": _facts(scope, number, status, sent, seconds)})


def route(scope: Scope) -> str:
    """The pattern of a request's path, as ``/api/images/{id}``."""
    path = getattr(scope.get("route"), "path", None)
    if path is not None:
        return str(path)
    return "refused" if scope["path"].startswith("/api") else "page"


class JsonLines(logging.Formatter):
    """A record as one line of JSON."""

    def format(self, record: logging.LogRecord) -> str:
        """The record with what was given as ``extra={"facts": ...}``."""
        line: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "event": record.getMessage(),
            **getattr(record, "facts", {}),
        }
        if record.exc_info:
            line["traceback"] = self.formatException(record.exc_info)
        return json.dumps(line, ensure_ascii=False, default=str)


def log_to_stderr() -> None:
    """Sends the log of the service, and uvicorn's warnings, to standard error as lines of JSON."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonLines())
    for name, level in (("glam.service", logging.INFO), ("uvicorn", logging.WARNING)):
        logger = logging.getLogger(name)
        logger.handlers, logger.propagate = [handler], False
        logger.setLevel(level)


def _facts(scope: Scope, number: str, status: int, sent: int, seconds: float) -> dict[str, Any]:
    client = scope.get("client")
    return {
        "request_id": number,
        "client": client[0] if client else None,
        "method": scope["method"],
        "path": scope["path"],
        "status": status,
        "bytes": sent,
        "milliseconds": round(1000 * seconds, 1),
    }


def _method(scope: Scope) -> str:
    method: str = scope["method"]
    return method if method in ("GET", "HEAD", "OPTIONS", "POST", "DELETE") else "other"


def _is_probe(path: str) -> bool:
    return path in ("/healthz", "/readyz", "/metrics")
