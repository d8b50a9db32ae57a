"""Running the service, and ending it without dropping a request.

SIGTERM, Ctrl-C --> new requests are refused with 503, running ones go on --all answered, or time is up--> the end
a second one    --> the end at once
"""

import signal
import socket
import time
from collections.abc import Callable
from types import FrameType

import uvicorn
from fastapi import FastAPI

from glam.app.service.dependencies import shared_of
from glam.app.service.middleware.access_log import Running

BUSY_SECONDS = 0.5
"""How long new requests are refused at least: whoever was about to send one is told, and not cut off."""

MOST_CONNECTIONS = 1_000
"""At a time; one more gets a bare 503 from uvicorn."""


class Server(uvicorn.Server):
    """A uvicorn server that ends when its app has answered what it was asked.

    Args:
        config: of uvicorn.
        running: of the app.
        grace_seconds: after which it ends all the same.
        started: called with the port once it listens.
    """

    def __init__(
        self, config: uvicorn.Config, running: Running, grace_seconds: float, started: Callable[[int], None]
    ) -> None:
        super().__init__(config)
        self._running, self._grace, self._tell = running, grace_seconds, started
        self._asked_at: float | None = None

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Listens, and says where."""
        await super().startup(sockets)
        if self.started:
            self._tell(self.servers[0].sockets[0].getsockname()[1])

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Begins to stop; asked a second time, ends."""
        if self._asked_at is None:
            self._asked_at = time.monotonic()
            self._running.stopping = True
        else:
            super().handle_exit(signal.SIGINT, frame)

    async def on_tick(self, counter: int) -> bool:
        """Looks, ten times a second, whether all is answered."""
        if self._asked_at is not None:
            waited = time.monotonic() - self._asked_at
            self.should_exit |= waited > (BUSY_SECONDS if not self._running.count else self._grace)
        return await super().on_tick(counter)


def make_server(
    app: FastAPI,
    host: str,
    port: int,
    grace_seconds: float = 30.0,
    started: Callable[[int], None] = lambda port: None,
) -> Server:
    """A server for an app of `glam.app.service.app.create_app`; its ``run`` returns when it has ended.

    Args:
        app: the service.
        host: address to listen on.
        port: 0 for any that is free.
        grace_seconds: how long running requests may go on once it is asked to end.
        started: called with the port once it listens.
    """
    config = uvicorn.Config(
        app,
        host=host,
        port=port,
        log_config=None,
        access_log=False,
        server_header=False,
        limit_concurrency=MOST_CONNECTIONS,
        timeout_keep_alive=10,
        timeout_graceful_shutdown=5,
    )
    return Server(config, shared_of(app).running, grace_seconds, started)
