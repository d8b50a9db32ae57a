"""A client of the service: `glam.Client`.

client = glam.Client("http://localhost:8000")
for result in client.search("bridge.jpg", top=5).results:
    print(result.score, result.image.landmark)
"""

import io
import json
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias
from urllib.error import HTTPError, URLError
from urllib.parse import urlencode, urlsplit
from urllib.request import Request, urlopen
from uuid import uuid4

from glam.app.service import schemas
from glam.errors import GlamError, system_reason

if TYPE_CHECKING:
    from PIL.Image import Image

Query: TypeAlias = "str | Path | bytes | Image | int"
"""An image as a path, as the bytes of a file, or as a Pillow image; or the image_id of an indexed image."""

BUSY = 503
"""HTTP status of a busy service."""

MAX_WAIT = 10.0
"""Maximum pause between two tries in seconds; arbitrary."""


class Client:
    """A client of a running service.

    Its methods raise `GlamError` with the message of the service, or if the service cannot be reached.

    Args:
        url: address of the service, such as ``http://localhost:8000``.
        token: access token; None if the service requires none.
        timeout: timeout of one request in seconds.
        tries: maximum number of tries while the service is busy (503). ``Retry-After`` sets the pause between them.
    """

    def __init__(self, url: str, token: str | None = None, *, timeout: float = 60.0, tries: int = 5) -> None:
        if urlsplit(url).scheme not in ("http", "https"):
            raise GlamError(f"{url!r} is not an address of a service. Use a URL such as http://localhost:8000.")
        self._url = url.rstrip("/")
        self._headers = {} if token is None else {"Authorization": f"Bearer {token}"}
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
        corners = dict(zip(("x1", "y1", "x2", "y2"), box, strict=True)) if box is not None else {}
        fields = {"top": top, "skip": skip, "where": where, "threshold": threshold, "rerank": rerank, **corners}
        if isinstance(query, int):
            answer = self._get(f"/api/images/{query}/search", fields)
        else:
            answer = self._post("/api/search", fields, _content(query))
        return schemas.SearchAnswer.model_validate_json(answer)

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
        fields = {"landmark": landmark, "metadata": json.dumps(dict(metadata))}
        return schemas.Image.model_validate_json(self._post("/api/images", fields, _content(image)))

    def remove(self, image_id: int) -> None:
        """Remove an image from the index. Its file stays."""
        self._send(Request(f"{self._url}/api/images/{image_id}", method="DELETE"))

    def image(self, image_id: int) -> schemas.Image:
        """Path, landmark, size, and metadata of an indexed image."""
        return schemas.Image.model_validate_json(self._get(f"/api/images/{image_id}", {}))

    def filters(self) -> list[schemas.Column]:
        """Columns that filter expressions can use."""
        return schemas.Filters.model_validate_json(self._get("/api/filters", {})).columns

    def info(self) -> schemas.Info:
        """Facts about the index and the service."""
        return schemas.Info.model_validate_json(self._get("/api/info", {}))

    def _get(self, path: str, fields: Mapping[str, object]) -> bytes:
        params = {name: value for name, value in fields.items() if value is not None}
        return self._send(Request(f"{self._url}{path}{'?' if params else ''}{urlencode(params)}"))

    def _post(self, path: str, fields: Mapping[str, object], content: bytes) -> bytes:
        body, kind = form(fields, content)
        return self._send(Request(f"{self._url}{path}", body, {"Content-Type": kind}))

    def _send(self, request: Request) -> bytes:
        """Send a request, retry it while the service is busy, and return the body of the response."""
        for name, value in self._headers.items():
            request.add_unredirected_header(name, value)
        for last in [*[False] * (self._tries - 1), True]:
            try:
                with urlopen(request, timeout=self._timeout) as answer:
                    body: bytes = answer.read()
                    return body
            except HTTPError as error:
                if error.code != BUSY or last:
                    raise GlamError(f"{self._url}: {_detail(error)}") from error
                time.sleep(_wait(error))
            except (URLError, OSError) as error:
                reason = getattr(error, "reason", error)
                raise GlamError(f"{self._url} does not answer ({reason}). Check that the service runs.") from error
        raise AssertionError("the last try returns or raises")


def form(fields: Mapping[str, object], content: bytes) -> tuple[bytes, str]:
    """Body of a multipart form with an image, and its content type. Fields that are None are omitted."""
    boundary = uuid4().hex
    parts = [
        f'--{boundary}\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}\r\n'
        for name, value in fields.items()
        if value is not None
    ]
    parts.append(f'--{boundary}\r\nContent-Disposition: form-data; name="image"; filename="image"\r\n\r\n')
    return "".join(
        parts
    ).encode() + content + f"\r\n--{boundary}--\r\n".encode(), f"multipart/form-data; boundary={boundary}"


def _content(image: "str | Path | bytes | Image") -> bytes:
    """Encoded bytes of an image."""
    if isinstance(image, bytes):
        return image
    if isinstance(image, str | Path):
        from glam.images import read_regular_file  # here, because it loads NumPy and Pillow

        try:
            return read_regular_file(image)
        except OSError as error:
            raise GlamError(f"{image} cannot be read: {system_reason(error)}. Check the path.") from error
    out = io.BytesIO()
    image.convert("RGB").save(out, "PNG")
    return out.getvalue()


def _detail(error: HTTPError) -> str:
    """Message of an error response."""
    try:
        return str(json.loads(error.read())["detail"])
    except (ValueError, KeyError, TypeError, OSError):
        return f"{error.code} {error.reason}"


def _wait(error: HTTPError) -> float:
    """Seconds until the next try."""
    try:
        return min(float(error.headers.get("Retry-After", 1)), MAX_WAIT)
    except ValueError:
        return 1.0
