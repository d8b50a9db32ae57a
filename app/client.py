"""Asking a service from Python: `glam.Client`.

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
from glam.errors import GlamError

if TYPE_CHECKING:
    from PIL.Image import Image

Query: TypeAlias = "str | Path | bytes | Image | int"
"""A photograph as a path, the bytes of a file or a Pillow image; or the number of an image of the index."""

BUSY = 503

MOST_WAIT = 10.0
"""Seconds between two tries, at most."""


class Client:
    """A service at an address.

    Args:
        url: of the service, as ``http://localhost:8000``.
        token: where it wants one.
        timeout: seconds for one answer.
        tries: how often it is asked while it answers that it is busy; it says itself when to come back.

    Its methods raise `GlamError` with one sentence: what the service said, or that there is none.
    """

    def __init__(self, url: str, token: str | None = None, *, timeout: float = 60.0, tries: int = 5) -> None:
        if urlsplit(url).scheme not in ("http", "https"):
            raise GlamError(f"{url!r} is no address as http://localhost:8000")
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
        """The images most like a photograph, best first.

        Args:
            query: see `Query`; an image of the index does not find itself.
            box: x1, y1, x2, y2 in pixels of the upright photograph, to search with that part.
            top: how many results, at most 200.
            skip: how many of the best to leave out.
            where: condition on the images, as ``city = 'Paris' and year > 2010``.
            threshold: least cosine.
            rerank: steps that put the first results in a better order, as ``aqe,geometric``, or ``default``.
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
        """Adds a photograph to the index.

        Args:
            image: a path, the bytes of a file, or a Pillow image.
            landmark: what it shows.
            metadata: what else is known of it: texts and numbers by name.
        """
        fields = {"landmark": landmark, "metadata": json.dumps(dict(metadata))}
        return schemas.Image.model_validate_json(self._post("/api/images", fields, _content(image)))

    def remove(self, image: int) -> None:
        """Removes the image with this number from the index; its file stays."""
        self._ask(Request(f"{self._url}/api/images/{image}", method="DELETE"))

    def image(self, image: int) -> schemas.Image:
        """What is known of the image with this number."""
        return schemas.Image.model_validate_json(self._get(f"/api/images/{image}", {}))

    def filters(self) -> list[schemas.Column]:
        """What a condition can name."""
        return schemas.Filters.model_validate_json(self._get("/api/filters", {})).columns

    def info(self) -> schemas.Info:
        """What is being served."""
        return schemas.Info.model_validate_json(self._get("/api/info", {}))

    def _get(self, path: str, fields: Mapping[str, object]) -> bytes:
        given = {name: value for name, value in fields.items() if value is not None}
        return self._ask(Request(f"{self._url}{path}{'?' if given else ''}{urlencode(given)}"))

    def _post(self, path: str, fields: Mapping[str, object], content: bytes) -> bytes:
        body, kind = form(fields, content)
        return self._ask(Request(f"{self._url}{path}", body, {"Content-Type": kind}))

    def _ask(self, request: Request) -> bytes:
        """The body of an answer; a service that is busy is asked again."""
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
                raise GlamError(f"{self._url}: no answer ({getattr(error, 'reason', error)})") from error
        raise AssertionError("the last try returns or raises")


def form(fields: Mapping[str, object], content: bytes) -> tuple[bytes, str]:
    """A form with an image, and its content type; fields that are None are left out."""
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
    """The bytes to send."""
    if isinstance(image, bytes):
        return image
    if isinstance(image, str | Path):
        try:
            return Path(image).read_bytes()
        except OSError as error:
            raise GlamError(f"{image}: {error.strerror}") from error
    out = io.BytesIO()
    image.convert("RGB").save(out, "PNG")
    return out.getvalue()


def _detail(error: HTTPError) -> str:
    """The sentence of an answer that is an error."""
    try:
        return str(json.loads(error.read())["detail"])
    except (ValueError, KeyError, TypeError, OSError):
        return f"{error.code} {error.reason}"


def _wait(error: HTTPError) -> float:
    try:
        return min(float(error.headers.get("Retry-After", 1)), MOST_WAIT)
    except ValueError:
        return 1.0
