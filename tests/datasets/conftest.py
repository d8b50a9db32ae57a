"""The server of the tests of downloads."""

import threading
from collections.abc import Iterator
from http.server import ThreadingHTTPServer
from types import SimpleNamespace

import pytest

from tests.datasets.file_server import BODY, Handler


@pytest.fixture
def server() -> Iterator[SimpleNamespace]:
    """A server with `files` and `script` to fill, its address `at`, and the requests `asked`; ``/file`` is `BODY`."""
    state: dict[str, object] = {"files": {"/file": BODY}, "script": [], "asked": []}
    listening = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (Handler,), state))
    threading.Thread(target=listening.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
    yield SimpleNamespace(at=f"http://127.0.0.1:{listening.server_address[1]}", **state)
    listening.shutdown()
    listening.server_close()
