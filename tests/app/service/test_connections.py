"""Connections over real sockets: clients that send or read slowly, and more of them than there is room for."""

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing
from http.client import HTTPConnection
from ipaddress import ip_network
from typing import Any

import pytest

from glam.app.service.client_address import client_key
from glam.app.service.decode_cost import Decode
from glam.app.service.server import make_server
from glam.app.service.settings import ServiceLimits
from glam.index import Index

from .colors import ColorModel, app_of, wait_until

SHORT = ServiceLimits(head_seconds=0.4, idle_seconds=0.4, body_seconds=0.4, write_seconds=0.4)
HEAD = b"GET /api/info HTTP/1.1\r\nHost: localhost\r\n"


@pytest.fixture
def port(index: Index, model: ColorModel, serve: Any) -> Iterator[int]:
    with serve(app_of(index, model, SHORT), 5) as (port, _):
        yield port


def connect(port: int, address: str = "127.0.0.1") -> socket.socket:
    return socket.create_connection(("127.0.0.1", port), timeout=10, source_address=(address, 0))


def ended(connection: socket.socket, seconds: float = 10) -> bool:
    """Whether the service closes a connection within some time, after what it sent."""
    connection.settimeout(seconds)
    try:
        while connection.recv(65_536):
            pass
    except TimeoutError:
        return False
    except ConnectionError:
        pass
    return True


def status(port: int, path: str = "/healthz", address: str = "127.0.0.1", **headers: str) -> int:
    with closing(HTTPConnection("127.0.0.1", port, timeout=20, source_address=(address, 0))) as connection:
        connection.request("GET", path, headers=headers)
        answer = connection.getresponse()
        answer.read()
        return answer.status


@pytest.mark.parametrize("sent", [b"", b"GET", HEAD, HEAD + b"X-a: " + b"b" * 5000])
def test_a_connection_without_a_complete_head_is_closed(port: int, sent: bytes) -> None:
    with closing(connect(port)) as connection:
        connection.sendall(sent)
        assert ended(connection)


def drip(connection: socket.socket, stop: threading.Event) -> None:
    try:
        while not stop.wait(0.02):
            connection.sendall(b"x")
    except OSError:
        pass


@pytest.mark.parametrize(
    "start",
    [
        HEAD + b"X-a: ",
        # The response comes before the body, which nobody reads.
        b"POST /nothing HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100000\r\n\r\n",
        b"GET /api/info HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100000\r\n\r\n",
    ],
)
def test_bytes_that_drip_in_do_not_keep_a_connection(port: int, start: bytes) -> None:
    stop = threading.Event()
    with closing(connect(port)) as connection:
        connection.sendall(start)
        thread = threading.Thread(target=drip, args=(connection, stop))
        thread.start()
        try:
            assert ended(connection)
        finally:
            stop.set()
            thread.join()


def test_an_idle_connection_is_closed_and_one_that_is_used_is_not(port: int) -> None:
    with closing(HTTPConnection("127.0.0.1", port, timeout=10)) as connection:
        for _ in range(6):
            connection.request("GET", "/api/info")
            assert connection.getresponse().read()
            time.sleep(0.2)
        assert ended(connection.sock)


def test_a_client_that_does_not_read_its_response_is_dropped(index: Index, model: ColorModel, serve: Any) -> None:
    large = index.root / "red.png"
    large.write_bytes(large.read_bytes() + bytes(50_000_000))  # more than the buffers of both sockets hold
    with serve(app_of(index, model, SHORT), 5) as (port, server), closing(connect(port)) as connection:
        connection.sendall(b"GET /api/images/0/file HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert connection.recv(12) == b"HTTP/1.1 200"
        wait_until(lambda: not server.server_state.connections, 60)
        wait_until(lambda: server._in_flight.count == 0, 60)


def test_more_half_open_connections_than_there_is_room_for_close_the_oldest(
    index: Index, model: ColorModel, serve: Any
) -> None:
    limits = ServiceLimits(connections=20, client_connections=8, head_seconds=60)
    with serve(app_of(index, model, limits), 5) as (port, server), ExitStack() as stack:

        def open_some(count: int, address: str) -> list[socket.socket]:
            opened = [stack.enter_context(closing(connect(port, address))) for _ in range(count)]
            for connection in opened:
                connection.sendall(HEAD)
            return opened

        first = open_some(8, "127.0.0.2")
        second = open_some(8, "127.0.0.3")
        wait_until(lambda: len(server.server_state.connections) == 16)
        time.sleep(1.1)  # each is left a second
        more = open_some(2, "127.0.0.2")
        assert all(map(ended, first[:2]))
        assert not ended(first[2], 0.1)
        assert status(port) == 200
        open_some(6, "127.0.0.4")
        assert all(map(ended, first[2:4]))
        for connection in (*first[4:], *second, *more):
            connection.sendall(b"\r\n")
            connection.settimeout(10)
            assert connection.recv(100).startswith(b"HTTP/1.1 200")


def test_a_burst_of_requests_is_answered_however_few_connections_may_wait(
    index: Index, model: ColorModel, serve: Any
) -> None:
    limits = ServiceLimits(connections=2, client_connections=2)
    with serve(app_of(index, model, limits), 5) as (port, _), ExitStack() as stack:
        opened = [stack.enter_context(closing(connect(port))) for _ in range(30)]
        for connection in opened:
            connection.sendall(HEAD + b"\r\n")
        for connection in opened:
            assert connection.recv(100).startswith(b"HTTP/1.1 200")


def test_one_client_cannot_take_all_requests_and_probes_are_always_answered(
    index: Index, model: ColorModel, serve: Any
) -> None:
    limits = ServiceLimits(requests=5, client_requests=3)
    with serve(app_of(index, model, limits), 5) as (port, server), ExitStack() as stack:

        def upload_slowly(address: str) -> None:
            connection = stack.enter_context(closing(connect(port, address)))
            head = b"POST /api/search HTTP/1.1\r\nHost: localhost\r\nContent-Type: multipart/form-data; boundary=b\r\n"
            connection.sendall(head + b"Content-Length: 1000\r\n\r\n--b\r\n")

        for _ in range(3):
            upload_slowly("127.0.0.2")
        wait_until(lambda: server._in_flight.count == 3)
        assert status(port, "/api/info", "127.0.0.2") == 503
        assert status(port, "/api/info", "127.0.0.3") == 200
        for _ in range(2):
            upload_slowly("127.0.0.3")
        wait_until(lambda: server._in_flight.count == 5)
        assert status(port, "/api/info", "127.0.0.4") == 503
        for address in ("127.0.0.2", "127.0.0.4"):
            for path in ("/healthz", "/readyz", "/metrics"):
                assert status(port, path, address) == 200


def test_slow_uploads_take_no_place_of_those_that_have_arrived(index: Index, model: ColorModel, serve: Any) -> None:
    from glam.app.client import form

    body, kind = form({}, (index.root / "red.png").read_bytes())
    with serve(app_of(index, model, ServiceLimits(uploads=1)), 5) as (port, server), ExitStack() as stack:
        for _ in range(3):
            slow = stack.enter_context(closing(connect(port)))
            slow.sendall(
                b"POST /api/search HTTP/1.1\r\nHost: localhost\r\nContent-Type: %s\r\nContent-Length: 9999\r\n\r\n--"
                % kind.encode()
            )
        wait_until(lambda: server._in_flight.count == 3)
        with closing(HTTPConnection("127.0.0.1", port, timeout=20)) as connection:
            connection.request("POST", "/api/search", body, {"Content-Type": kind})
            assert connection.getresponse().status == 200


def test_what_is_not_http_is_refused_with_a_sentence(port: int) -> None:
    with closing(connect(port)) as connection:
        connection.sendall(b"\x16\x03\x01 hello\r\n\r\n")
        answer = connection.recv(10_000)
        assert answer.startswith(b"HTTP/1.1 400")
        assert b'{"detail":"' in answer
        assert ended(connection)


@pytest.mark.parametrize(("trusted", "seen"), [((), "127.0.0.2"), (("127.0.0.2/32",), "203.0.113.7")])
def test_only_a_trusted_proxy_tells_the_address_of_its_client(
    index: Index, model: ColorModel, trusted: tuple[str, ...], seen: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "glam.service")
    ports: list[int] = []
    networks = [ip_network(one) for one in trusted]
    server = make_server(app_of(index, model), "127.0.0.1", 0, 5, ports.append, trusted_proxies=networks)
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        wait_until(lambda: ports)
        headers = {"X-Forwarded-For": "198.51.100.1, 203.0.113.7"}
        assert status(ports[0], "/api/info", "127.0.0.2", **headers) == 200
        wait_until(lambda: any(record.getMessage() == "request" for record in caplog.records))
    finally:
        server.handle_exit(15, None)
        thread.join(30)
    facts = [record.facts for record in caplog.records if record.getMessage() == "request"]  # type: ignore[attr-defined]
    assert facts[0]["client"] == seen


@pytest.mark.parametrize(
    ("host", "key"),
    [
        ("192.0.2.1", "192.0.2.1"),
        ("::ffff:192.0.2.1", "192.0.2.1"),
        ("2001:db8:1:2:3::4", "2001:db8:1:2::"),
        ("2001:db8:1:2:ffff::", "2001:db8:1:2::"),
        ("", ""),
        ("unix:", "unix:"),
    ],
)
def test_clients_are_told_apart_by_address_or_by_ipv6_network(host: str, key: str) -> None:
    assert client_key(host) == key


def test_work_that_does_not_end_does_not_keep_the_process(index: Index, model: ColorModel) -> None:
    """The work is in a C library, so no exception could stop it."""
    ports: list[int] = []
    is_overdue, may_end = threading.Event(), threading.Event()
    app = app_of(index, model)
    server = make_server(app, "127.0.0.1", 0, 0.1, ports.append, on_overdue=is_overdue.set, overdue_seconds=1.0)
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        wait_until(lambda: ports)
        app.state.glam.decoders._large.submit(Decode(0, lambda: may_end.wait(60)))
        server.handle_exit(15, None)
        assert is_overdue.wait(10)
        assert thread.is_alive()
    finally:
        may_end.set()
        thread.join(30)
