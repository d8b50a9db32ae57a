"""Conditional requests and HEAD: an ETag for every cacheable answer, and no body for a client that does not need it."""

import hashlib

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

KEPT_HEADERS = frozenset({"etag", "cache-control", "content-location", "date", "expires", "last-modified", "vary"})
"""Headers of a 304 (RFC 9110, section 15.4.5)."""


class ConditionalMiddleware:
    """ASGI middleware that adds an ETag to JSON answers to GET, and answers 304 where ``If-None-Match`` has the ETag.

    Files bring an ETag of their own. An answer with ``Cache-Control: no-store`` gets none.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["method"] not in ("GET", "HEAD"):
            await self.app(scope, receive, send)
            return
        known = Headers(scope=scope).get("if-none-match", "")
        start: Message | None = None  # held back until the first part of the body, for its digest
        has_body = scope["method"] == "GET"

        async def send_conditionally(message: Message) -> None:
            nonlocal start, has_body
            if message["type"] == "http.response.start":
                start = message
                return
            if start is not None:
                _add_etag(start, message)
                if start["status"] == 200 and _matches(known, Headers(raw=start["headers"]).get("etag", "")):
                    has_body = False
                    headers = [(name, value) for name, value in start["headers"] if name.decode() in KEPT_HEADERS]
                    start = {**start, "status": 304, "headers": headers}
                await send(start)
                start = None
            await send(message if has_body else {**message, "body": b""})

        await self.app(scope, receive, send_conditionally)


def _add_etag(start: Message, body: Message) -> None:
    """Adds the digest of the body as an ETag, if the answer is JSON, complete, and may be cached."""
    headers = MutableHeaders(raw=start["headers"])
    is_json = headers.get("content-type", "").startswith("application/json")
    is_complete = start["status"] == 200 and not body.get("more_body", False)
    if is_complete and is_json and "etag" not in headers and "no-store" not in headers.get("cache-control", ""):
        headers["etag"] = f'"{hashlib.blake2b(body.get("body", b""), digest_size=16).hexdigest()}"'
        start["headers"] = headers.raw


def _matches(known: str, etag: str) -> bool:
    """Whether a list of ETags contains one, by weak comparison, which If-None-Match requires."""
    tags = [tag.strip().removeprefix("W/") for tag in known.split(",")]
    return bool(etag) and (etag.removeprefix("W/") in tags or known.strip() == "*")
