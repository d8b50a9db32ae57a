"""A client of the service: `glam.Client`.

client = glam.Client("http://localhost:8000")
for result in client.search("bridge.jpg", top=5).results:
    print(result.score, result.image.landmark)
"""

import io
import json
import time
from collections.abc import Mapping
from http.client import HTTPException
from operator import index as to_int
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias, TypeVar
from urllib.error import HTTPError
from urllib.parse import urlencode, urlsplit, urlunsplit
from urllib.request import Request, urlopen
from uuid import uuid4

from pydantic import BaseModel, ValidationError

from glam.app.service import schemas
from glam.errors import GlamError

if TYPE_CHECKING:
    from PIL.Image import Image

Answer = TypeVar("Answer", bound=BaseModel)

Query: TypeAlias = "str | Path | bytes | Image | int"
"""An image as a path, as the bytes of a file, or as a Pillow image; or the image_id of an indexed image. A file that is
open for reading, other buffers, and integers of NumPy are accepted, too."""

BUSY = 503
"""HTTP status of a busy service."""

MAX_WAIT = 10.0
"""Maximum pause between two tries in seconds; arbitrary."""

MAX_ANSWER_BYTES = 100_000_000
"""Longest answer that is read; arbitrary, and more than any of the service."""

MAX_DETAIL = 500
"""Most characters of an error message of the service that are shown; arbitrary."""


class _Readable(Protocol):
    """The body of a response."""

    def read1(self, size: int, /) -> bytes:
        """Read what has arrived, up to ``size`` bytes."""


class Client:
    """A client of a running service.

    Its methods raise `GlamError` with the message of the service, or if the service cannot be reached or something else
    answers at its address. The message never contains the token.

    Args:
        url: address of the service, such as ``http://localhost:8000``.
        token: access token; None if the service requires none.
        timeout: timeout of one request in seconds.
        tries: maximum number of tries while the service is busy (503). ``Retry-After`` sets the pause between them.

    Raises:
        GlamError: an argument is not valid.
    """

    def __init__(self, url: str, token: str | None = None, *, timeout: float = 60.0, tries: int = 5) -> None:
        self._url = _check_address(url)
        token = None if token is None else token.strip()
        if token is not None and not (token and token.isascii() and token.isprintable()):
            raise GlamError(
                "The token is empty or has characters that a header cannot hold. Check where it comes from."
            )
        if tries < 1 or not timeout > 0:
            raise GlamError(f"{tries} tries of {timeout} seconds are not possible. Give at least one, of more than 0.")
        self._token = token
        self._timeout, self._tries = timeout, tries

    def search(
        self,
        query: Query,
        *,
        box: tuple[float, float, float, float] | None = None,
        top: int = 10,
        skip: int = 0,
        where: str | None = None,
        threshold: float | None = None,
        rerank: str | None = None,
    ) -> schemas.SearchAnswer:
        """Search for the most similar images, best first.

        Args:
            query: image, or image_id of an indexed image, which the results leave out; see `Query`.
            box: region of the query to search with: x1, y1, x2, y2 in pixels of the upright image; None for the whole
                image.
            top: maximum number of results, 1 to 200.
            skip: number of top results to skip, 0 to 10,000.
            where: filter expression, such as ``width > 1000 and landmark = 'petra'``; None for all images.
            threshold: minimum score (cosine similarity, -1 to 1) of a result; None for no minimum.
            rerank: re-ranking steps, such as ``aqe,geometric``, or ``default``; None for a plain search.

        Raises:
            GlamError: the image cannot be read, an argument is not valid, or the service cannot be reached.
        """
        if box is not None and len(box) != 4:
            raise GlamError(f"The box {box} has {len(box)} numbers. Give four: x1, y1, x2, y2.")
        corners = dict(zip(("x1", "y1", "x2", "y2"), box, strict=True)) if box is not None else {}
        fields = {"top": top, "skip": skip, "where": where, "threshold": threshold, "rerank": rerank, **corners}
        image_id = _image_id(query)
        if image_id is not None:
            return self._get(f"/api/images/{image_id}/search", fields, schemas.SearchAnswer)
        return self._post("/api/search", fields, _content(query), schemas.SearchAnswer)

    def add(
        self, image: "str | Path | bytes | Image", *, landmark: str = "", metadata: Mapping[str, Any] = {}
    ) -> schemas.Image:
        """Add an image to the index.

        Args:
            image: path, bytes of a file, or Pillow image.
            landmark: landmark that the image shows; "" if unknown.
            metadata: further metadata: strings, numbers, booleans, and None by name.

        Returns:
            The added image, with its image_id.

        Raises:
            GlamError: the image cannot be read, the service is read-only, or it cannot be reached.
        """
        try:
            fields = {"landmark": landmark, "metadata": json.dumps(dict(metadata))}
        except (TypeError, ValueError) as error:
            raise GlamError(
                f"The metadata cannot be sent as JSON: {error}. Use strings, numbers, and booleans."
            ) from error
        return self._post("/api/images", fields, _content(image), schemas.Image)

    def remove(self, image_id: int) -> None:
        """Remove an image from the index. Its file stays."""
        self._send("DELETE", f"/api/images/{image_id}")

    def image(self, image_id: int) -> schemas.Image:
        """Path, landmark, size, and metadata of an indexed image."""
        return self._get(f"/api/images/{image_id}", {}, schemas.Image)

    def filters(self) -> list[schemas.Column]:
        """Columns that filter expressions can use."""
        return self._get("/api/filters", {}, schemas.Filters).columns

    def info(self) -> schemas.Info:
        """Facts about the index and the service."""
        return self._get("/api/info", {}, schemas.Info)

    def _get(self, path: str, fields: Mapping[str, object], kind: type[Answer]) -> Answer:
        params = {name: value for name, value in fields.items() if value is not None}
        query = urlencode(params, errors="replace")
        return self._parse(self._send("GET", f"{path}{'?' if query else ''}{query}"), kind)

    def _post(self, path: str, fields: Mapping[str, object], content: bytes, kind: type[Answer]) -> Answer:
        body, content_type = form(fields, content)
        return self._parse(self._send("POST", path, body, {"Content-Type": content_type}), kind)

    def _parse(self, body: bytes, kind: type[Answer]) -> Answer:
        try:
            return kind.model_validate_json(body)
        except ValidationError as error:
            raise self._foreign_answer() from error

    def _send(self, method: str, path: str, body: bytes | None = None, headers: Mapping[str, str] = {}) -> bytes:
        """Send a request, retry it while the service is busy, and return the body of the response."""
        for last in [*[False] * (self._tries - 1), True]:
            try:
                request = Request(f"{self._url}{path}", body, dict(headers), method=method)
                if self._token is not None:
                    request.add_unredirected_header("Authorization", f"Bearer {self._token}")
                end = time.monotonic() + self._timeout
                with urlopen(request, timeout=self._timeout) as answer:
                    if method == "DELETE" and answer.status != 204:
                        raise self._foreign_answer()
                    return _read(answer, end)
            except HTTPError as error:
                if error.code != BUSY or last:
                    raise GlamError(f"{self._url}: {self._detail(error)}") from error
                time.sleep(_wait(error))
            except (OSError, HTTPException, ValueError) as error:  # ValueError: a redirection to an invalid address
                reason = self._public(str(getattr(error, "reason", error)) or type(error).__name__)
                raise GlamError(f"{self._url} does not answer ({reason}). Check that the service runs.") from error
        raise AssertionError("the last try returns or raises")

    def _detail(self, error: HTTPError) -> str:
        """Message of an error response."""
        try:
            answer = json.loads(_read(error, time.monotonic() + self._timeout))
            return self._public(str(answer["detail"]))
        except (ValueError, KeyError, TypeError, OSError, HTTPException, RecursionError):
            return f"{error.code} {self._public(str(error.reason).splitlines()[0] if error.reason else '')}".strip()

    def _public(self, text: str) -> str:
        """A text from elsewhere on one line, without the token."""
        if self._token:
            text = text.replace(self._token, "***")
        line = " ".join(text.split())
        return line if len(line) <= MAX_DETAIL else f"{line[:MAX_DETAIL]}..."

    def _foreign_answer(self) -> GlamError:
        return GlamError(f"{self._url} does not answer as the service does. Check the address and the version of glam.")


def form(fields: Mapping[str, object], content: bytes) -> tuple[bytes, str]:
    """Body of a multipart form with an image, and its content type. Fields that are None are omitted."""
    boundary = uuid4().hex
    parts = [
        f'--{boundary}\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}\r\n'
        for name, value in fields.items()
        if value is not None
    ]
    parts.append(f'--{boundary}\r\nContent-Disposition: form-data; name="image"; filename="image"\r\n\r\n')
    body = "".join(parts).encode("utf-8", "replace") + content + f"\r\n--{boundary}--\r\n".encode()
    return body, f"multipart/form-data; boundary={boundary}"


def _check_address(url: str) -> str:
    """The address of a service without a slash at its end.

    Raises:
        GlamError: it is not one, or it has a password, which messages would show.
    """
    try:
        parts = urlsplit(url)
        is_valid = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
        has_password = "@" in parts.netloc
    except (ValueError, AttributeError, TypeError):
        is_valid, has_password = False, "@" in str(url)
    if has_password:
        raise GlamError("The address has a user name or password. Give a token instead: token=...")
    if not is_valid or not url.isascii() or not url.isprintable() or " " in url or parts.query or parts.fragment:
        raise GlamError(f"{url!r} is not an address of a service. Use a URL such as http://localhost:8000.")
    return urlunsplit((parts.scheme, parts.netloc, parts.path.rstrip("/"), "", ""))


def _image_id(query: object) -> int | None:
    """The image_id that a query is; None for an image."""
    if isinstance(query, str | bytes | bool):
        return None
    try:
        return to_int(query)  # type: ignore[arg-type]
    except TypeError:
        return None


def _content(image: object) -> bytes:
    """Encoded bytes of an image.

    Raises:
        GlamError: it is no image, or cannot be read.
    """
    if isinstance(image, bytes | bytearray | memoryview):
        return bytes(image)
    try:
        if isinstance(image, str | Path):
            from glam.images import read_regular_file  # here, because it loads NumPy and Pillow

            return read_regular_file(image)
        if hasattr(image, "convert"):
            out = io.BytesIO()
            image.convert("RGB").save(out, "PNG")
            return out.getvalue()
        if hasattr(image, "read"):
            content = image.read()
            if isinstance(content, bytes):
                return content
    except Exception as error:  # Pillow and files of others raise anything
        reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
        raise GlamError(f"{image} cannot be read: {reason}. Check the path.") from error
    raise GlamError(
        f"An object of type {type(image).__name__} is no image. Give a path, the bytes of a file, or a Pillow image."
    )


def _read(answer: _Readable, end: float) -> bytes:
    """Body of a response.

    Raises:
        OSError: it is too long, or did not arrive until ``end``, a time of `time.monotonic`.
        http.client.HTTPException: it is cut off.
    """
    parts: list[bytes] = []
    size = 0
    while part := answer.read1(65_536):
        parts.append(part)
        size += len(part)
        if size > MAX_ANSWER_BYTES:
            raise OSError(f"its answer has more than {MAX_ANSWER_BYTES:,} bytes")
        if time.monotonic() > end:
            raise TimeoutError("its answer takes too long")
    return b"".join(parts)


def _wait(error: HTTPError) -> float:
    """Seconds until the next try."""
    try:
        wanted = float(error.headers.get("Retry-After", 1))
    except ValueError:  # a date
        return 1.0
    return min(wanted, MAX_WAIT) if wanted >= 0 else 1.0  # not for NaN either
