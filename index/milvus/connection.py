"""The client of a Milvus server, and what goes wrong with it in one sentence.

MilvusCollection --connect--> MilvusClient          every call of it inside `milvus_errors`
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

NO_PINGS = {"grpc.keepalive_time_ms": 2**31 - 1}
"""Milvus Lite hangs up on a client that pings it while idle, as pymilvus does."""

LOGGERS = ("pymilvus", "milvus_lite", "grpc._server")
"""They log a traceback for each error that is told in a sentence here; the last for what Milvus Lite does not have."""

EXTRA = "`pip install 'glam-retrieval[milvus]'`"

_opening = Lock()
_clients: Counter[str] = Counter()
"""Open clients of each Milvus Lite database; with the last one the database is let go."""


def connect(uri: str) -> "MilvusClient":
    """Opens a client; `disconnect` closes it. The token comes from the environment.

    Raises:
        GlamError: a package is not installed, no server answers, it does not take the token, or another process has
            the database of Milvus Lite open.
    """
    try:
        from pymilvus import MilvusClient
    except ImportError as error:
        raise GlamError(f"an index in Milvus wants the package pymilvus; {EXTRA}") from error
    for name in LOGGERS:
        logging.getLogger(name).setLevel(logging.CRITICAL + 1)
    if not is_lite(uri):
        with milvus_errors(uri):
            return MilvusClient(uri, token=os.environ.get(TOKEN, ""), timeout=CONNECT_SECONDS)
    if importlib.util.find_spec("milvus_lite") is None:
        raise GlamError(f"{uri}: a database of Milvus Lite wants the package milvus-lite; {EXTRA}")
    if not Path(uri).parent.is_dir():
        raise GlamError(f"{uri}: there is no folder {Path(uri).parent}")
    with _opening, milvus_errors(uri):
        client = MilvusClient(uri, timeout=CONNECT_SECONDS, grpc_options=NO_PINGS)
        _clients[uri] += 1
        return client


def disconnect(client: "MilvusClient", uri: str) -> None:
    """Closes a client. Milvus Lite keeps its database locked as long as the process lives if nobody ends it."""
    client.close()
    if is_lite(uri):
        from milvus_lite.server_manager import server_manager_instance  # type: ignore[import-untyped]

        with _opening:
            _clients[uri] -= 1
            if not _clients[uri]:
                server_manager_instance.release_server(uri)


@contextmanager
def milvus_errors(uri: str) -> Iterator[None]:
    """Tells what the server refuses as people can use it."""
    import grpc
    from pymilvus import MilvusException

    try:
        yield
    except MilvusException as error:
        cause = error.__cause__
        raise GlamError(_sentence(uri, error.message, cause if isinstance(cause, grpc.Call) else None)) from error
    except grpc.RpcError as error:
        call = error if isinstance(error, grpc.Call) else None
        raise GlamError(_sentence(uri, str(error), call)) from error


def _sentence(uri: str, message: str, call: "grpc.Call | None") -> str:
    """What went wrong, in one line.

    Args:
        uri: of the server.
        message: of pymilvus.
        call: what gRPC knows, which pymilvus does not always tell.
    """
    said = " ".join(((call and call.details()) or message).split())
    status = call.code().name if call else ""
    if "Open local milvus failed" in message:
        return f"{uri}: another process has this database of Milvus Lite open; a Milvus server serves any number"
    if status in ("UNAUTHENTICATED", "PERMISSION_DENIED") or "auth check failure" in said or "permission deny" in said:
        return f"{uri} does not take the token in {TOKEN} ({said})"
    if status in ("UNAVAILABLE", "DEADLINE_EXCEEDED") or "Fail connecting" in message or "Retry" in message:
        return f"no Milvus server answers at {uri} ({said})"
    return f"{uri}: Milvus says: {said}"
