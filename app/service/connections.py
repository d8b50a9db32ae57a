r"""Connections: time limits for what a client sends and reads, and a limit on those that wait for a request.

    accepted --> head --> body --> (request runs) --> idle --> head ...        every phase has a time limit
    of the connections in "head", and of those in "idle", the oldest makes room for a new one


The limits are here and not in middleware, because a request exists for middleware only after its head has arrived, and
no longer after its response has begun.
"""

import asyncio
import logging
from collections.abc import Sequence
from ipaddress import IPv4Network, IPv6Network, ip_address
from typing import Any, Literal

import h11
from starlette.responses import JSONResponse
from uvicorn.protocols.http.h11_impl import H11Protocol

from glam.app.service.client_address import client_key
from glam.app.service.settings import ServiceLimits

log = logging.getLogger("glam.service")

Phase = Literal["head", "body", "idle", "closing"]
"""What a connection waits for: the rest of a request's head or body, the next request, or the delivery of its end."""

LEAST_SECONDS = 1.0
"""Time that a connection may wait however many others do; arbitrary."""

CLOSING_SECONDS = 10.0
"""Time for a client to read the end of a response; arbitrary."""


class ConnectionTable:
    """The connections that wait for a request, oldest first: those without one, or idle ones between two.

    Half-open connections are no reason to close idle ones, whose clients have sent a request before; so each kind has
    a table.

    Args:
        limits: limits on their number.
        trusted: networks of the proxies, whose connections come from many clients.
        least_seconds: time that each connection is left, however many there are.
    """

    def __init__(
        self,
        limits: ServiceLimits,
        trusted: Sequence[IPv4Network | IPv6Network] = (),
        least_seconds: float = LEAST_SECONDS,
    ) -> None:
        self._limits, self._trusted, self._least_seconds = limits, trusted, least_seconds
        self._waiting: dict[GuardedConnection, None] = {}  # a dict is an ordered set
        self._by_client: dict[str, dict[GuardedConnection, None]] = {}

    def __len__(self) -> int:
        """Number of connections that wait for a request."""
        return len(self._waiting)

    def add(self, connection: "GuardedConnection") -> None:
        """Note that a connection waits. If there are too many, of its client or in total, the oldest ones are closed.

        A connection is left some time, so that a burst of honest ones is not closed before it was listened to.
        """
        self._waiting[connection] = None
        own = self._by_client.setdefault(connection.client_key, {})
        own[connection] = None
        if not self._is_proxy(connection):
            self._limit(own, self._limits.client_connections)
        self._limit(self._waiting, self._limits.connections)

    def _limit(self, waiting: "dict[GuardedConnection, None]", most: int) -> None:
        while len(waiting) > most:
            oldest = next(iter(waiting))
            if oldest.waits_since + self._least_seconds > oldest.loop.time():
                break
            oldest.end()

    def remove(self, connection: "GuardedConnection") -> None:
        """Note that a connection no longer waits."""
        self._waiting.pop(connection, None)
        own = self._by_client.get(connection.client_key, {})
        own.pop(connection, None)
        if not own:
            self._by_client.pop(connection.client_key, None)

    def _is_proxy(self, connection: "GuardedConnection") -> bool:
        host = connection.client[0] if connection.client else ""
        try:
            return any(ip_address(host) in network for network in self._trusted)
        except ValueError:
            return False


class GuardedConnection(H11Protocol):
    """A connection of uvicorn with time limits.

    Args:
        limits: limits of the service.
        half_open: table of the connections that wait for the head of a request.
        idle: table of the connections that wait for the next request.
        options: arguments of uvicorn.

    Attributes:
        client_key: address that connections are counted by.
        waits_since: time of the event loop at which it began to wait for a request.
    """

    def __init__(
        self, *, limits: ServiceLimits, half_open: ConnectionTable, idle: ConnectionTable, **options: Any
    ) -> None:
        super().__init__(**options)
        self._write_seconds = limits.write_seconds
        self._tables: dict[Phase, ConnectionTable] = {"head": half_open, "idle": idle}
        self._seconds: dict[Phase, float] = {
            "head": limits.head_seconds,
            "body": 2 * limits.body_seconds,  # `TimeoutMiddleware` answers 408 at half of the time
            "idle": limits.idle_seconds,
            "closing": CLOSING_SECONDS,
        }
        self._phase: Phase | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._write_timer: asyncio.TimerHandle | None = None
        self.client_key = ""
        self.waits_since = 0.0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Wait for the head of the first request."""
        super().connection_made(transport)
        self.client_key = client_key(self.client[0] if self.client else "")
        self._enter("head")

    def data_received(self, data: bytes) -> None:
        """Handle data. Bytes that drip in do not extend the time limit of their phase."""
        super().data_received(data)
        state = self.conn.their_state
        self._enter("head" if state is h11.IDLE else "body" if state is h11.SEND_BODY else None)

    def on_response_complete(self) -> None:
        """Wait for the rest of a body that the response did not need, or for the next request."""
        super().on_response_complete()
        state = self.conn.their_state
        self._enter("idle" if state is h11.IDLE else "body" if state is h11.SEND_BODY else None)

    def pause_writing(self) -> None:
        """Start the time limit of a client that does not read."""
        super().pause_writing()
        self._write_timer = self.loop.call_later(self._write_seconds, self.transport.abort)

    def resume_writing(self) -> None:
        """Lift the time limit of a client that does not read."""
        super().resume_writing()
        if self._write_timer is not None:
            self._write_timer.cancel()

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the connection."""
        super().connection_lost(exc)
        self._enter(None)

    def timeout_keep_alive_handler(self) -> None:
        """Nothing: the phase "idle" has a time limit here."""

    def send_400_response(self, msg: str) -> None:
        """Answer a request that is not HTTP as every other error is answered, and close the connection."""
        facts = {"client": self.client[0] if self.client else None, "method": None, "path": None, "status": 400}
        log.info("request", extra={"facts": facts})
        answer = JSONResponse({"detail": "This is not a valid HTTP/1.1 request."}, 400, {"Connection": "close"})
        events = [
            h11.Response(status_code=400, headers=answer.raw_headers, reason=b"Bad Request"),
            h11.Data(data=bytes(answer.body)),
            h11.EndOfMessage(),
        ]
        self.transport.write(b"".join(self.conn.send(event) or b"" for event in events))
        self.end()

    def end(self) -> None:
        """Close the connection after what was written has been delivered, or after a time limit."""
        self.transport.close()
        self._enter("closing")

    def _enter(self, phase: Phase | None) -> None:
        """Begin a phase, unless the connection is in it already; None while a request runs."""
        if phase is not None and self.transport.is_closing():
            phase = "closing"
        if phase == self._phase:
            return
        if self._phase in self._tables:
            self._tables[self._phase].remove(self)
        self._phase = phase
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if phase is not None:
            stop = self.end if phase in self._tables else self.transport.abort
            self._timer = self.loop.call_later(self._seconds[phase], stop)
        if phase in self._tables:
            self.waits_since = self.loop.time()
            self._tables[phase].add(self)
