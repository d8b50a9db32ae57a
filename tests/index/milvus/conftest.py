"""Fixtures: a Milvus Lite database, a folder of images, and two indexes of that folder."""

from collections.abc import Iterator
from concurrent import futures
from pathlib import Path
from typing import Any

import grpc
import pytest

from glam.datasets.readers import read_collection
from glam.index import Milvus, build
from glam.index.milvus.connection import connect, disconnect

from .pairs import COUNT, Pair, write, write_manifest


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A Milvus Lite database that stays open."""
    uri = str(tmp_path_factory.mktemp("milvus") / "lite.db")
    client = connect(uri)
    yield uri
    disconnect(client, uri)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Images with a manifest; images 3 and 4 are equal."""
    root = tmp_path / "photos"
    root.mkdir()
    for i in range(COUNT):
        write(root, i)
    (root / "04.jpg").write_text("content 3")
    write_manifest(root)
    return root


@pytest.fixture
def pair(folder: Path, tmp_path: Path, database: str, content_model: Any, request: pytest.FixtureRequest) -> Pair:
    pair = Pair(tmp_path / "faiss.glam", tmp_path / "milvus.glam")
    name = "".join(c if c.isalnum() else "_" for c in request.node.name)
    build(pair.faiss, read_collection(folder), content_model)
    build(pair.milvus, read_collection(folder), content_model, backend=Milvus(database, name))
    return pair


@pytest.fixture
def closed_server() -> Iterator[str]:
    """A server that rejects every token."""

    class Refusing(grpc.GenericRpcHandler):  # type: ignore[misc]
        def service(self, call: Any) -> Any:
            def refuse(request: bytes, context: Any) -> None:
                context.abort(grpc.StatusCode.UNAUTHENTICATED, "auth check failure")

            return grpc.unary_unary_rpc_method_handler(refuse)

    server = grpc.server(futures.ThreadPoolExecutor(2))
    server.add_generic_rpc_handlers((Refusing(),))
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    yield f"http://127.0.0.1:{port}"
    server.stop(0)
