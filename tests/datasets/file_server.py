"""A local server that drops connections, sends wrong answers, and sends wrong bytes."""

import re
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler

import numpy as np

BODY = np.random.default_rng(0).bytes(3_000_000)
OTHER = np.random.default_rng(1).bytes(3_000_000)

Answer = Callable[["Handler", bytes, int], None]
"""Answers a request for the bytes of a file from an offset."""


class Handler(BaseHTTPRequestHandler):
    """Serves `files`. Each request is answered by the next entry of `script`, and correctly after the last one."""

    files: dict[str, bytes]
    script: list[Answer]
    asked: list[tuple[str, int]]

    def do_GET(self) -> None:
        told = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", "bytes=0-"))
        assert told is not None
        start = int(told[1])
        self.asked.append((self.path, start))
        body = self.files.get(self.path)
        answer = self.script.pop(0) if self.script else rightly
        if body is None:
            self.send_error(404)
        else:
            answer(self, body, start)

    def begin(self, status: int, length: int, **headers: str) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(length))
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()

    def log_message(self, *args: object) -> None:
        pass


def rightly(
    handler: Handler, body: bytes, start: int, *, claimed: int | None = None, sent: bytes | None = None
) -> None:
    """Sends the requested bytes, or others that claim to be the requested ones."""
    claimed = start if claimed is None else claimed
    if start == 0:
        handler.begin(200, len(body), Content_Type="application/octet-stream")
    elif start < len(body):
        content_range = f"bytes {claimed}-{len(body) - 1}/{len(body)}"
        handler.begin(206, len(body) - start, Content_Range=content_range)
    else:
        handler.send_error(416)
        return
    handler.wfile.write(body[start:] if sent is None else sent)


def dropping(count: int) -> Answer:
    return lambda handler, body, start: rightly(handler, body, start, sent=body[start : start + count])


def wrong_range(handler: Handler, body: bytes, start: int) -> None:
    rightly(handler, body, start, claimed=start // 2, sent=body[start // 2 :][: len(body) - start])


def lying_range(handler: Handler, body: bytes, start: int) -> None:
    rightly(handler, body, start, sent=body[: len(body) - start])


def ignoring_range(handler: Handler, body: bytes, start: int) -> None:
    rightly(handler, body, 0)


def corrupted(handler: Handler, body: bytes, start: int) -> None:
    """Sends a wrong last byte."""
    rightly(handler, body, start, sent=body[start:-1] + bytes([body[-1] ^ 1]))


def failing(handler: Handler, body: bytes, start: int) -> None:
    handler.send_error(503)


def web_page(handler: Handler, body: bytes, start: int) -> None:
    handler.begin(200, len(body), Content_Type="text/html; charset=utf-8")
    handler.wfile.write(body)
