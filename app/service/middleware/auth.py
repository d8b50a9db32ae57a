"""Access control: tokens, hosts, origins.

`AuthMiddleware` checks every request before its body is read.
"""

import hmac
import re
from dataclasses import dataclass
from http.cookies import CookieError, SimpleCookie
from ipaddress import ip_address

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from glam.app.service.middleware.errors import send_error
from glam.app.service.middleware.roles import SAFE_METHODS, Role, is_api, role_of, route_path

COOKIE = "glam_token"
"""The page stores its token in this cookie, because a browser sends no custom headers when it loads images. The cookie
grants reading only, because a browser may also send cookies with requests that another site makes."""

HOST = re.compile(
    r"(?:\[(?P<address>[0-9A-Fa-f:.]+)\]|(?P<name>[\w.-]+))(?::[0-9]*)?|(?P<bare>[0-9A-Fa-f]*(?::[0-9A-Fa-f.]*){2,})",
    re.ASCII,
)
"""A Host header: a name or address, and perhaps a port; some programs leave out the brackets of an IPv6 address."""

LOOPBACK_NAMES = ("localhost", "ip6-localhost")


@dataclass(frozen=True)
class Access:
    """Access rules.

    Attributes:
        read_token: token for reading the index; None if reading requires no token.
        write_token: token for adding and removing images, which also grants reading; None for none.
        allow_writes: whether adding and removing is allowed without a token.
        loopback_only: whether to reject requests whose Host header is neither a loopback name nor one of
            ``public_hosts``, against DNS rebinding.
        public_hosts: names, in lower case, by which a proxy makes the service reachable.
        allowed_origins: origins of other sites whose pages may use the API, such as ``https://example.org``.
    """

    read_token: str | None = None
    write_token: str | None = None
    allow_writes: bool = False
    loopback_only: bool = False
    public_hosts: tuple[str, ...] = ()
    allowed_origins: tuple[str, ...] = ()

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
        rejection = self._rejection(scope["method"], route_path(scope), Headers(scope=scope))
        if rejection is None:
            await self.app(scope, receive, send)
            return
        status, sentence = rejection
        await send_error(send, status, sentence, {"WWW-Authenticate": "Bearer"} if status == 401 else {})

    def _rejection(self, method: str, path: str, headers: Headers) -> tuple[int, str] | None:
        """Status and message of the error; None if the request is allowed."""
        access, host = self.access, host_name(headers.get("host", ""))
        if access.loopback_only and not is_loopback(host) and host.lower() not in access.public_hosts:
            return 400, (
                "This service accepts requests from its own machine only. Open it as localhost or 127.0.0.1, or start "
                "it with the name of its proxy: --public-host NAME."
            )
        role = role_of(method, path)
        is_guarded = method not in SAFE_METHODS or is_api(path) or role is not Role.OPEN
        if is_guarded and not self._is_same_site(headers):
            return 403, (
                "Requests from pages of other sites are rejected. Use the page of this service, or start it with "
                "--public-host NAME for its proxy or --allow-origin ORIGIN for another site."
            )
        if role is Role.WRITE:
            return self._write_rejection(headers)
        if role is Role.READ and access.read_token is not None and not self._may_read(headers):
            return 401, "A token is required. Send it in the header Authorization: Bearer TOKEN."
        return None

    def _write_rejection(self, headers: Headers) -> tuple[int, str] | None:
        access = self.access
        if not access.writable:
            return 403, "This service is read-only. To add or remove images, start it with a write token."
        if access.write_token is not None and not _is_one_of(bearer(headers), access.write_token):
            return 401, "A write token is required. Send it in the header Authorization: Bearer TOKEN."
        return None

    def _may_read(self, headers: Headers) -> bool:
        tokens = [token for token in (self.access.read_token, self.access.write_token) if token is not None]
        # The cookie also grants POST /api/search, because `_is_same_site` has checked the origin of the request.
        return _is_one_of(bearer(headers), *tokens) or _is_one_of(cookie(headers), *tokens)

    def _is_same_site(self, headers: Headers) -> bool:
        """Whether a request comes from a page of this service, from an allowed one, or not from a browser's page.

        GET is checked, too: a page of another site can start a search with an image tag.
        """
        origin = headers.get("origin")
        if origin in self.access.allowed_origins:
            return True
        if headers.get("sec-fetch-site", "none") not in ("same-origin", "none"):
            return False
        if origin is None:
            return True
        host = origin.partition("://")[2].lower()
        return host == headers.get("host", "").lower() or host_name(host) in self.access.public_hosts


def host_name(header: str) -> str:
    """The host in a Host header without the port, such as ``::1`` for ``[::1]:8000``; "" if the header is malformed."""
    found = HOST.fullmatch(header)
    return (found["address"] or found["name"] or found["bare"]) if found else ""


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
