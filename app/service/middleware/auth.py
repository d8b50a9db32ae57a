"""Access control: tokens, hosts, origins.

`AuthMiddleware` checks every request before its body is read.
"""

import hmac
from dataclasses import dataclass
from http.cookies import CookieError, SimpleCookie
from ipaddress import ip_address

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from glam.app.service.middleware.errors import send_error

COOKIE = "glam_token"
"""The page stores its token in this cookie, because a browser sends no custom headers when it loads images. The cookie
grants reading only, because a browser may also send cookies with requests that another site makes."""

OPEN = frozenset({"/api/info"})
"""Paths under /api/ that need no token: the page asks there whether a token is needed."""

LOOPBACK_NAMES = ("localhost", "ip6-localhost")


@dataclass(frozen=True)
class Access:
    """Access rules.

    Attributes:
        read_token: token for reading the index; None if reading requires no token.
        write_token: token for adding and removing images, which also grants reading; None for none.
        allow_writes: whether adding and removing is allowed without a token.
        loopback_only: whether to reject requests whose Host header is not a loopback name, against DNS rebinding.
    """

    read_token: str | None = None
    write_token: str | None = None
    allow_writes: bool = False
    loopback_only: bool = False

    @property
    def writable(self) -> bool:
        """Whether images can be added and removed."""
        return self.allow_writes or self.write_token is not None


class AuthMiddleware:
    """ASGI middleware: 400 for a wrong Host header, 403 for a request from another site, 401 without a valid token."""

    def __init__(self, app: ASGIApp, access: Access) -> None:
        self.app, self.access = app, access

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        rejection = self._rejection(scope["method"], scope["path"], headers)
        if rejection is None:
            await self.app(scope, receive, send)
            return
        status, sentence = rejection
        await send_error(send, status, sentence, {"WWW-Authenticate": "Bearer"} if status == 401 else {})

    def _rejection(self, method: str, path: str, headers: Headers) -> tuple[int, str] | None:
        """Status and message of the error; None if the request is allowed."""
        if self.access.loopback_only and not is_loopback(host_name(headers.get("host", ""))):
            return 400, "This service accepts requests from its own machine only. Open it as localhost or 127.0.0.1."
        reads = method in ("GET", "HEAD", "OPTIONS")
        if not reads and not _same_origin(headers):
            return 403, "Requests from pages of other sites are rejected. Use the page of this service."
        if is_write(method, path):
            return self._write_rejection(headers)
        if needs_reading(path) and self.access.read_token is not None and not self._may_read(headers, reads):
            return 401, "A token is required. Send it in the header Authorization: Bearer TOKEN."
        return None

    def _write_rejection(self, headers: Headers) -> tuple[int, str] | None:
        access = self.access
        if not access.writable:
            return 403, "This service is read-only. To add or remove images, start it with a write token."
        if access.write_token is not None and not _is_one_of(bearer(headers), access.write_token):
            return 401, "A write token is required. Send it in the header Authorization: Bearer TOKEN."
        return None

    def _may_read(self, headers: Headers, reads: bool) -> bool:
        tokens = [token for token in (self.access.read_token, self.access.write_token) if token is not None]
        # The cookie also grants POST /api/search, because `_same_origin` has checked the origin of the request.
        return _is_one_of(bearer(headers), *tokens) or _is_one_of(cookie(headers), *tokens)


def is_write(method: str, path: str) -> bool:
    """Whether a request changes the index."""
    return (method == "POST" and path.rstrip("/") == "/api/images") or method in ("DELETE", "PUT", "PATCH")


def needs_reading(path: str) -> bool:
    """Whether the response reveals the index or the usage of the service."""
    return (path.startswith("/api/") and path not in OPEN) or path == "/metrics"


def host_name(header: str) -> str:
    """The host in a Host header without the port, such as ``::1`` for ``[::1]:8000``."""
    if header.startswith("["):
        return header[1:].partition("]")[0]
    return header.rpartition(":")[0] if header.count(":") == 1 else header


def is_loopback(host: str) -> bool:
    """Whether a host name or address is a loopback name or address."""
    if host.lower().rstrip(".") in LOOPBACK_NAMES or host.lower().endswith(".localhost"):
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False


def bearer(headers: Headers) -> str:
    """The token of the Authorization header; "" if there is none."""
    scheme, _, token = headers.get("authorization", "").partition(" ")
    return token.strip() if scheme.lower() == "bearer" else ""


def cookie(headers: Headers) -> str:
    """The token of the cookie; "" if there is none."""
    try:
        found = SimpleCookie(headers.get("cookie", "")).get(COOKIE)
    except CookieError:
        return ""
    return found.value if found else ""


def _is_one_of(given: str, *tokens: str) -> bool:
    """Compare in constant time."""
    matches = [hmac.compare_digest(given.encode("utf-8", "replace"), token.encode()) for token in tokens]
    return bool(given) and any(matches)


def _same_origin(headers: Headers) -> bool:
    """Whether the request comes from a page of this service, or from a program that is not a browser."""
    if headers.get("sec-fetch-site", "same-origin") not in ("same-origin", "none"):
        return False
    origin = headers.get("origin")
    return origin is None or origin.partition("://")[2].lower() == headers.get("host", "").lower()
