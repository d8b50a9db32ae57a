"""HTTP methods: HEAD as GET, OPTIONS, and 405 for the methods that a path does not have."""

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from glam.app.service.middleware.errors import send_error
from glam.app.service.middleware.roles import allowed_methods, is_api, route_path


class MethodMiddleware:
    """The innermost ASGI middleware. Nothing behind it gets a method that `ROLES` does not list for the path.

    HEAD is handled as GET; `ConditionalMiddleware` leaves out the body.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        method, path = scope["method"], route_path(scope)
        methods = allowed_methods(path)
        if ".." in path.split("/") or (not methods and method not in ("GET", "HEAD")):
            await send_error(send, 404, "Not Found")
        elif method == "OPTIONS":
            headers = Headers({"Allow": ", ".join(methods)}).raw
            await send({"type": "http.response.start", "status": 204, "headers": headers})
            await send({"type": "http.response.body", "body": b""})
        elif methods and method not in methods:
            sentence = f"{method} is not possible here. Use {' or '.join(methods)}."
            await send_error(send, 405, sentence, {"Allow": ", ".join(methods)})
        else:
            inner = {**scope, "method": "GET" if method == "HEAD" else method}
            if is_api(path):
                inner["path"] = scope.get("root_path", "") + path  # without a slash at the end
            try:
                await self.app(inner, receive, send)
            finally:
                scope["route"] = inner.get("route")  # for the metrics
