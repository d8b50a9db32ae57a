"""Uploaded files: what is read, and what is refused before much is spent on it."""

import asyncio
import io
import struct
import zlib
from typing import Any

import numpy as np
import pytest
from fastapi import FastAPI, HTTPException, UploadFile
from PIL import Image, features

from glam.app.service.middleware.body_limit import ENVELOPE_BYTES, BodyLimitMiddleware
from glam.app.service.settings import ServiceLimits
from glam.app.service.uploads import read_upload
from glam.images import FORMATS

EXIF_ORIENTATION = 0x0112
TURNED_RIGHT = 6


def encoded(format: str, size: tuple[int, int] = (64, 32), **options: object) -> bytes:
    out = io.BytesIO()
    Image.new("RGB", size, "red").save(out, format, **options)
    return out.getvalue()


def read(data: bytes, limits: ServiceLimits = ServiceLimits()) -> Image.Image:  # noqa: B008
    return read_upload(io.BytesIO(data), limits)


def refusal(data: bytes, limits: ServiceLimits = ServiceLimits()) -> tuple[int, str]:  # noqa: B008
    with pytest.raises(HTTPException) as refused:
        read(data, limits)
    return refused.value.status_code, refused.value.detail


def status_of(data: bytes) -> int:
    try:
        read(data)
    except HTTPException as refused:
        return refused.status_code
    return 200


@pytest.mark.parametrize("format", [*FORMATS, "MPO"])
def test_every_promised_format_is_read(format: str) -> None:
    if format == "AVIF" and not features.check("avif"):
        pytest.skip("this build of Pillow has no AVIF")
    image = read(encoded(format))
    assert (image.mode, image.size) == ("RGB", (64, 32))


def test_a_turned_image_is_read_upright() -> None:
    exif = Image.Exif()
    exif[EXIF_ORIENTATION] = TURNED_RIGHT
    assert read(encoded("JPEG", exif=exif.tobytes())).size == (32, 64)


@pytest.mark.parametrize(
    "data",
    [
        b"just some text",
        b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n",  # Pillow would start Ghostscript
        b'<svg xmlns="http://www.w3.org/2000/svg"/>',
        b"\0" * 1000,
    ],
)
def test_what_is_no_image_of_a_promised_format_is_415(data: bytes) -> None:
    status, sentence = refusal(data)
    assert status == 415
    assert "JPEG" in sentence


def test_formats_that_pillow_reads_but_nobody_promised_are_415() -> None:
    assert refusal(encoded("EPS"))[0] == 415
    assert refusal(encoded("TGA"))[0] == 415


@pytest.mark.filterwarnings("ignore::UserWarning:PIL")
def test_a_cut_off_image_of_any_promised_format_is_refused_and_raises_nothing_else() -> None:
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8))
    for format in ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF"):
        out = io.BytesIO()
        noise.save(out, format)
        data = out.getvalue()
        for kept in (6, 20, 60, len(data) // 2, len(data) - 40):
            assert status_of(data[:kept]) in (200, 415, 422), (format, kept)


def test_a_damaged_image_is_422() -> None:
    status, sentence = refusal(encoded("JPEG", (400, 400))[:900])
    assert status == 422
    assert sentence.endswith(".")


def test_an_empty_file_is_422() -> None:
    assert refusal(b"") == (422, "The file is empty. Send another file.")


def test_bytes_up_to_the_limit_are_read_and_one_more_is_413() -> None:
    data = encoded("PNG")
    read(data, ServiceLimits(upload_bytes=len(data)))
    assert refusal(data, ServiceLimits(upload_bytes=len(data) - 1))[0] == 413


def test_pixels_up_to_the_limit_are_read_and_one_more_is_413() -> None:
    read(encoded("PNG"), ServiceLimits(upload_pixels=64 * 32))
    assert refusal(encoded("PNG"), ServiceLimits(upload_pixels=64 * 32 - 1))[0] == 413


@pytest.mark.parametrize("size", [(9000, 6000), (60_000, 60_000)])
@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
def test_too_many_pixels_are_told_from_the_header_alone(size: tuple[int, int]) -> None:
    status, sentence = refusal(png_without_pixels(*size))
    assert status == 413  # decoding it would have been 422
    assert "50 megapixels" in sentence


def png_without_pixels(width: int, height: int) -> bytes:
    """A PNG that claims a size and holds nothing of it."""
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + png_chunk(b"IHDR", header) + png_chunk(b"IDAT", b"")


def png_chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


# The guard that counts the bytes of a body

CHUNK = 10_000


def test_a_body_declared_too_long_is_refused_unread() -> None:
    assert send_chunks(50, ServiceLimits(upload_bytes=1000), declare_length=True) == (413, 0)


def test_a_chunked_body_is_refused_as_soon_as_it_is_too_long() -> None:
    status, read = send_chunks(1000, ServiceLimits(upload_bytes=100_000), declare_length=False)
    assert status == 413
    assert (read - 1) * CHUNK <= 100_000 + ENVELOPE_BYTES


@pytest.mark.parametrize("declare_length", [True, False])
def test_a_body_within_the_limit_passes(declare_length: bool) -> None:
    assert send_chunks(10, ServiceLimits(upload_bytes=100_000), declare_length=declare_length) == (200, 10)


def send_chunks(chunks: int, limits: ServiceLimits, *, declare_length: bool) -> tuple[int, int]:
    """Send a form of so many chunks to an app behind the guard. Returns the status and how many chunks were read."""
    app = FastAPI()
    app.add_middleware(BodyLimitMiddleware, limits=limits)
    app.add_api_route("/", take, methods=["POST"])
    head = b'--b\r\nContent-Disposition: form-data; name="image"; filename="x.jpg"\r\n\r\n'
    tail = b"\r\n--b--\r\n"
    bodies = [head + bytes(CHUNK - len(head)), *[bytes(CHUNK)] * (chunks - 2), bytes(CHUNK - len(tail)) + tail]
    headers = [(b"content-type", b"multipart/form-data; boundary=b")]
    if declare_length:
        headers.append((b"content-length", str(chunks * CHUNK).encode()))
    scope = {"type": "http", "method": "POST", "path": "/", "query_string": b"", "headers": headers, "root_path": ""}
    read = 0
    statuses: list[int] = []

    async def receive() -> dict[str, Any]:
        nonlocal read
        read += 1
        return {"type": "http.request", "body": bodies[read - 1], "more_body": read < chunks}

    async def send(message: Any) -> None:
        if message["type"] == "http.response.start":
            statuses.append(message["status"])

    asyncio.run(app({**scope, "http_version": "1.1", "scheme": "http"}, receive, send))
    return statuses[0], read


async def take(image: UploadFile) -> None:
    """An endpoint that takes a form."""
