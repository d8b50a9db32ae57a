"""Server with a graceful shutdown, which finishes in-flight requests.

SIGTERM or Ctrl-C --> new requests get 503 --in-flight requests answered, or grace period over--> exit
second signal --> the system ends the process, whatever it is doing
"""

import errno
import os
import resource
import signal
import socket
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from ipaddress import IPv4Network, IPv6Network
from types import FrameType

import uvicorn
from fastapi import FastAPI

from glam.app.service.connections import ConnectionTable, GuardedConnection
from glam.app.service.dependencies import get_app_state
from glam.app.service.middleware.access_log import InFlightRequests
from glam.errors import GlamError

MIN_SHUTDOWN_SECONDS = 0.5
"""Minimum duration of a shutdown, so that clients that are about to send a request get a response. Arbitrary."""

OVERDUE_SECONDS = 15.0
"""Time after the grace period in which the work in the queues must end; arbitrary."""

OPEN_FILES = 65_536
"""Open files and connections that the service asks the system for; arbitrary, and less if the system allows less."""

Network = IPv4Network | IPv6Network


class Server(uvicorn.Server):
    """A uvicorn server that exits after its app has answered all in-flight requests.

    Args:
        config: configuration of uvicorn.
        in_flight: in-flight requests of the app.
        grace_seconds: maximum duration of the shutdown in seconds.
        on_start: called with the port when the server listens.
        on_overdue: called in a thread if the process still runs ``overdue_seconds`` after the grace period.
        overdue_seconds: time for the work in the queues to end.
    """

    def __init__(
        self,
        config: uvicorn.Config,
        in_flight: InFlightRequests,
        grace_seconds: float,
        on_start: Callable[[int], None],
        on_overdue: Callable[[], object] | None,
        overdue_seconds: float,
    ) -> None:
        super().__init__(config)
        self._in_flight, self._grace = in_flight, grace_seconds
        self._on_start, self._on_overdue, self._overdue_seconds = on_start, on_overdue, overdue_seconds
        self._stop_requested_at: float | None = None

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start to listen, and report the port."""
        await super().startup(sockets)
        if self.started:
            self._on_start(self.servers[0].sockets[0].getsockname()[1])

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Begin a graceful shutdown, and leave the next signal to the system."""
        for handled in (signal.SIGINT, signal.SIGTERM):
            if signal.getsignal(handled) == self.handle_exit:
                signal.signal(handled, signal.SIG_DFL)  # a handler in Python would wait for the GIL
        if self._stop_requested_at is not None:
            return
        self._stop_requested_at = time.monotonic()
        self._in_flight.stopping = True
        if self._on_overdue is not None:
            overdue = threading.Timer(self._grace + self._overdue_seconds, self._on_overdue)
            overdue.daemon = True
            overdue.start()

    async def on_tick(self, counter: int) -> bool:
        """Check whether all requests are answered; uvicorn calls this ten times per second."""
        if self._stop_requested_at is not None:
            waited = time.monotonic() - self._stop_requested_at
            self.should_exit |= waited > (MIN_SHUTDOWN_SECONDS if not self._in_flight.count else self._grace)
        return await super().on_tick(counter)


def check_port(host: str, port: int) -> None:
    """Makes sure that a server can listen, before work begins whose result it serves.

    Args:
        host: address to listen on.
        port: 0 for any free port, which is not checked.

    Raises:
        GlamError: the port is in use or needs more permissions, or the address is not one of this machine.
    """
    if not port:
        return
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, kind, protocol) as trial:
            if os.name == "posix":  # as uvicorn does: a port whose last server has just ended is free
                trial.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            trial.bind(address)
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            raise GlamError(f"Port {port} is in use. Choose another with --port.") from error
        if error.errno == errno.EACCES:
            raise GlamError(f"You may not listen on port {port}. Choose one from 1024 up with --port.") from error
        raise GlamError(f"{host} is not an address of this machine. Choose another with --host.") from error


def make_server(
    app: FastAPI,
    host: str,
    port: int,
    grace_seconds: float = 30.0,
    on_start: Callable[[int], None] = lambda port: None,
    *,
    trusted_proxies: Sequence[Network] = (),
    on_overdue: Callable[[], object] | None = None,
    overdue_seconds: float = OVERDUE_SECONDS,
) -> Server:
    """Create a server whose ``run`` returns after the shutdown.

    Args:
        app: the service, from `glam.app.service.app.create_app`.
        host: address to listen on.
        port: port to listen on; 0 for any free one.
        grace_seconds: maximum duration of the shutdown in seconds.
        on_start: called with the port when the server listens.
        trusted_proxies: addresses of the proxies whose ``X-Forwarded-For`` is believed.
        on_overdue: called in a thread if the shutdown takes too long; see `Server`.
        overdue_seconds: see `Server`.
    """
    app_state = get_app_state(app)
    limits = app_state.limits
    tables = {name: ConnectionTable(limits, trusted_proxies) for name in ("half_open", "idle")}
    config = uvicorn.Config(
        app,
        host=host,
        port=port,
        http=partial(GuardedConnection, limits=limits, **tables),  # type: ignore[arg-type]
        ws="none",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=bool(trusted_proxies),
        forwarded_allow_ips=[str(network) for network in trusted_proxies],
        timeout_graceful_shutdown=5,
    )
    return Server(config, app_state.in_flight, grace_seconds, on_start, on_overdue, overdue_seconds)


def raise_file_limit() -> None:
    """Let this process open more files, as the usual 1,024 are fewer than the connections that it keeps."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = OPEN_FILES if hard == resource.RLIM_INFINITY else min(OPEN_FILES, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        with suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
