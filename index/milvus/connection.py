"""Connections to a Milvus server, and messages for their errors.

MilvusCollection --connect--> MilvusClient          each call inside `milvus_errors`
"""

import importlib.util
import logging
import os
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING

from glam.errors import GlamError
from glam.index.storage.milvus_config import TOKEN, is_lite

if TYPE_CHECKING:
    import grpc  # type: ignore[import-untyped]
    from pymilvus import MilvusClient  # type: ignore[import-untyped]

CONNECT_SECONDS = 10.0
"""Timeout of a connection (arbitrary)."""

NO_PINGS = {"grpc.keepalive_time_ms": 2**31 - 1}
"""Option of gRPC that disables the keepalive pings of pymilvus: Milvus Lite closes the connection of an idle client
that sends them."""

LOGGERS = ("pymilvus", "milvus_lite", "grpc._server")
"""Loggers to silence: they print a traceback for errors that `milvus_errors` turns into messages, and for features that
Milvus Lite does not support."""

EXTRA = "`pip install 'glam-retrieval[milvus]'`"

_opening = Lock()
_clients: Counter[str] = Counter()
"""Number of open clients per Milvus Lite database; closing the last one releases the database."""


def connect(uri: str) -> "MilvusClient":
    """Opens a client; close it with `disconnect`. The token is read from the environment variable `TOKEN`.

    Args:
        uri: address of a server, or path of a Milvus Lite database.

    Raises:
        GlamError: a package is not installed, the server does not answer or rejects the token, or another process has
            the Milvus Lite database open.
    """
    try:
        from pymilvus import MilvusClient
    except ImportError as error:
        raise GlamError(f"Milvus needs the package pymilvus. Install it: {EXTRA}") from error
    for name in LOGGERS:
        logging.getLogger(name).setLevel(logging.CRITICAL + 1)
    if not is_lite(uri):
        with milvus_errors(uri):
            return MilvusClient(uri, token=os.environ.get(TOKEN, ""), timeout=CONNECT_SECONDS)
    if importlib.util.find_spec("milvus_lite") is None:
        raise GlamError(f"{uri}: Milvus Lite needs the package milvus-lite. Install it: {EXTRA}")
    if not Path(uri).parent.is_dir():
        raise GlamError(f"{uri}: the folder {Path(uri).parent} does not exist. Create it, or choose another path.")
    with _opening, milvus_errors(uri):
        client = MilvusClient(uri, timeout=CONNECT_SECONDS, grpc_options=NO_PINGS)
        _clients[uri] += 1
        return client


def disconnect(client: "MilvusClient", uri: str) -> None:
    """Closes a client, and releases a Milvus Lite database with its last client.

    Without this, Milvus Lite would lock its database until the process ends.

    Args:
        client: client that `connect` returned.
        uri: its address or path.
    """
    client.close()
    if is_lite(uri):
        from milvus_lite.server_manager import server_manager_instance  # type: ignore[import-untyped]

        with _opening:
            _clients[uri] -= 1
            if not _clients[uri]:
                server_manager_instance.release_server(uri)


@contextmanager
def milvus_errors(uri: str) -> Iterator[None]:
    """Turns errors of the Milvus client into `GlamError` with messages for users.

    Args:
        uri: address of the server, or path of the Milvus Lite database.

    Raises:
        GlamError: the call inside failed.
    """
    import grpc
    from pymilvus import MilvusException

    try:
        yield
    except MilvusException as error:
        cause = error.__cause__
        raise GlamError(_message(uri, error.message, cause if isinstance(cause, grpc.Call) else None)) from error
    except grpc.RpcError as error:
        call = error if isinstance(error, grpc.Call) else None
        raise GlamError(_message(uri, str(error), call)) from error


def _message(uri: str, message: str, call: "grpc.Call | None") -> str:
    """The message for an error, in one line.

    Args:
        uri: address of the server, or path of the Milvus Lite database.
        message: message of pymilvus.
        call: gRPC call, whose details pymilvus does not always pass on; None if there is none.
    """
    reason = " ".join(((call and call.details()) or message).split()).rstrip(".")
    status = call.code().name if call else ""
    if "Open local milvus failed" in message:
        return (
            f"Another process has the Milvus Lite database {uri} open. Close it there, or use a Milvus server, which "
            "several processes can use."
        )
    denied = "auth check failure" in reason or "permission deny" in reason
    if status in ("UNAUTHENTICATED", "PERMISSION_DENIED") or denied:
        return f"{uri} rejects the token ({reason}). Set the environment variable {TOKEN} to a valid one."
    if status in ("UNAVAILABLE", "DEADLINE_EXCEEDED") or "Fail connecting" in message or "Retry" in message:
        return f"No Milvus server answers at {uri} ({reason}). Check the address, and that the server is running."
    return f"{uri}: Milvus reports an error ({reason}). Check the log of the server."
