"""The path below which a proxy serves the service."""

from starlette.types import ASGIApp, Receive, Scope, Send


class RootPathMiddleware:
    """The outermost ASGI middleware: requests may have the root path at their beginning, or a proxy has removed it.

    Server options for a root path expect one of the two, and proxies are configured either way.
    """

    def __init__(self, app: ASGIApp, root_path: str) -> None:
        self.app, self.root_path = app, root_path

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            scope["root_path"] = self.root_path
        await self.app(scope, receive, send)
