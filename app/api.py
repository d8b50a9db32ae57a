"""The JSON API: what can be asked under ``/api``, and how each question is answered."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Annotated, Any, TypeVar

from anyio import CapacityLimiter, to_thread
from fastapi import APIRouter, Depends, File, Form, Header, HTTPException, Path, Query, Request, Response, UploadFile
from fastapi.responses import FileResponse

from glam.app import schemas
from glam.app.limits import Limits
from glam.app.photographs import Photographs
from glam.app.searcher import Searcher
from glam.app.uploads import read_upload
from glam.images import Box
from glam.index import Entry, Index

MOST_RESULTS = 200

T = TypeVar("T")


@dataclass
class Services:
    """What the endpoints share; ``create_app`` puts it into ``app.state.services``."""

    index: Index
    model_name: str
    searcher: Searcher
    photographs: Photographs
    limits: Limits
    # One photograph at a time is decoded and described: the model uses all cores by itself, and memory stays bounded.
    # Those who wait do so on the event loop, not in a thread that thumbnails could use.
    model_turn: CapacityLimiter = field(default_factory=lambda: CapacityLimiter(1))

    async def in_model_turn(self, work: Callable[[], T]) -> T:
        """Run ``work`` in a thread, when no other such work is running."""
        return await to_thread.run_sync(work, limiter=self.model_turn)


def services_of(request: Request) -> Services:
    """The services of the app that got this request."""
    services: Services = request.app.state.services
    return services


Shared = Annotated[Services, Depends(services_of)]


def known_entry(id: Annotated[int, Path(description="Number of an image of the index.")], services: Shared) -> Entry:
    """The entry that the path names, or a 404."""
    try:
        return services.index.entry(id)
    except (KeyError, OverflowError) as error:  # OverflowError: more than the 64 bits of a number in SQLite
        raise HTTPException(404, f"There is no image {id} in this index.") from error


Known = Annotated[Entry, Depends(known_entry)]

LEFT, TOP, RIGHT, BOTTOM = (
    f"{edge} edge of the part to search with, in pixels of the upright image."
    for edge in ("Left", "Top", "Right", "Bottom")
)


def box_in_url(
    x1: Annotated[float | None, Query(allow_inf_nan=False, description=LEFT)] = None,
    y1: Annotated[float | None, Query(allow_inf_nan=False, description=TOP)] = None,
    x2: Annotated[float | None, Query(allow_inf_nan=False, description=RIGHT)] = None,
    y2: Annotated[float | None, Query(allow_inf_nan=False, description=BOTTOM)] = None,
) -> Box | None:
    """The box given in the query string, if any."""
    return _all_or_none(x1, y1, x2, y2)


def box_in_form(
    x1: Annotated[float | None, Form(allow_inf_nan=False, description=LEFT)] = None,
    y1: Annotated[float | None, Form(allow_inf_nan=False, description=TOP)] = None,
    x2: Annotated[float | None, Form(allow_inf_nan=False, description=RIGHT)] = None,
    y2: Annotated[float | None, Form(allow_inf_nan=False, description=BOTTOM)] = None,
) -> Box | None:
    """The box given in the fields of a form, if any."""
    return _all_or_none(x1, y1, x2, y2)


def _all_or_none(x1: float | None, y1: float | None, x2: float | None, y2: float | None) -> Box | None:
    if x1 is not None and y1 is not None and x2 is not None and y2 is not None:
        return (x1, y1, x2, y2)
    if x1 is None and y1 is None and x2 is None and y2 is None:
        return None
    raise HTTPException(422, "A box needs all four of x1, y1, x2 and y2.")


def _problems(*codes: int) -> dict[int | str, dict[str, Any]]:
    """The error answers of an endpoint, for its documentation."""
    sentences = {
        404: "There is no such image, or its file is gone.",
        413: "The upload has too many bytes or pixels.",
        415: "The upload is not an image of a known format.",
        422: "A value is missing or out of range, or the image is damaged.",
    }
    return {code: {"model": schemas.Problem, "description": sentences[code]} for code in codes}


IMAGE_ANSWER: dict[str, Any] = {"description": "The picture.", "content": {"image/*": {}}}
COUNT = "How many results, at most."

router = APIRouter(prefix="/api")


@router.post("/search", tags=["search"], summary="Search with a photograph", responses=_problems(413, 415, 422))
async def search_with_upload(
    services: Shared,
    image: Annotated[UploadFile, File(description="JPEG, PNG, WebP, GIF, BMP, TIFF or AVIF.")],
    box: Annotated[Box | None, Depends(box_in_form)],
    top: Annotated[int, Form(ge=1, le=MOST_RESULTS, description=COUNT)] = 50,
) -> schemas.SearchAnswer:
    """Describes an uploaded photograph, or the part of it in a box, and returns the indexed images most like it."""

    def work() -> schemas.SearchAnswer:
        return services.searcher.by_photograph(read_upload(image.file, services.limits), box, top)

    return await services.in_model_turn(work)


@router.get(
    "/images/{id}/search", tags=["search"], summary="Search with an indexed image", responses=_problems(404, 422)
)
async def search_with_indexed(
    services: Shared,
    entry: Known,
    box: Annotated[Box | None, Depends(box_in_url)],
    top: Annotated[int, Query(ge=1, le=MOST_RESULTS, description=COUNT)] = 50,
) -> schemas.SearchAnswer:
    """Returns the images most like an indexed one, without that one. With a box, its crop is described afresh."""
    if box is None:
        return await to_thread.run_sync(services.searcher.by_descriptor, entry, top)

    def work() -> schemas.SearchAnswer:
        return services.searcher.by_photograph(services.photographs.read(entry.id), box, top, entry)

    return await services.in_model_turn(work)


@router.get("/images/{id}", tags=["images"], summary="Facts about an indexed image", responses=_problems(404, 422))
def image(entry: Known) -> schemas.Image:
    """Returns where an indexed image lies, what it shows, and its size."""
    return schemas.Image.of(entry)


@router.get(
    "/images/{id}/file",
    tags=["images"],
    summary="The photograph itself",
    response_class=Response,
    responses={200: IMAGE_ANSWER, **_problems(404, 422)},
)
def image_file(services: Shared, entry: Known) -> Response:
    """Returns the file as it is on disk, or as a JPEG where it has a format that browsers do not show."""
    media_type = services.photographs.browser_type(entry.id)
    if media_type is None:
        return Response(services.photographs.jpeg(entry.id), media_type="image/jpeg")
    return FileResponse(
        services.photographs.path(entry.id),
        media_type=media_type,
        filename=PurePosixPath(entry.path).name,
        content_disposition_type="inline",
    )


@router.get(
    "/images/{id}/thumbnail",
    tags=["images"],
    summary="The photograph made small",
    response_class=Response,
    responses={200: IMAGE_ANSWER, 304: {"description": "The asker's copy is current."}, **_problems(404, 422)},
)
def image_thumbnail(
    services: Shared,
    entry: Known,
    size: Annotated[int, Query(ge=32, le=1024, description="Longest side in pixels, at most.")] = 320,
    if_none_match: Annotated[str, Header(description="ETag of the copy one has.")] = "",
) -> Response:
    """Returns an upright JPEG. Sending its ETag back saves the transfer while the file is the same."""
    thumbnail = services.photographs.thumbnail(entry.id, size, if_none_match)
    headers = {"ETag": thumbnail.etag}
    if thumbnail.jpeg is None:
        return Response(status_code=304, headers=headers)
    return Response(thumbnail.jpeg, media_type="image/jpeg", headers=headers)


@router.get("/info", tags=["service"], summary="What is being served")
def info(services: Shared) -> schemas.Info:
    """Returns the size of the index, the model behind it, and the limits on uploads."""
    limits = schemas.UploadLimits(bytes=services.limits.upload_bytes, pixels=services.limits.upload_pixels)
    return schemas.Info(
        images=len(services.index), model=services.model_name, dimension=services.index.dim, limits=limits
    )
