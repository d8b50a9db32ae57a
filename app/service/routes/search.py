"""The JSON API: what can be asked under ``/api``, and how each question is answered."""

from functools import partial
from pathlib import PurePosixPath
from typing import Annotated, Any

from fastapi import APIRouter, Depends, File, Form, Header, HTTPException, Path, Query, Response, UploadFile
from fastapi.responses import FileResponse
from starlette.concurrency import run_in_threadpool

from glam.app.service import schemas
from glam.app.service.dependencies import Services, services_of
from glam.app.service.uploads import read_header, read_upload, upload_bytes
from glam.app.service.workers.describe import DescribedUpload
from glam.app.service.workers.search import Clock, SearchOptions, check_box
from glam.errors import GlamError
from glam.images import Box
from glam.index import Entry
from glam.index.local_matching.rootsift import LocalFeatures, extract
from glam.index.rerank.base import Query as Asked
from glam.index.rerank.chain import Chain, parse_chain

__all__ = [
    "KnownImage",
    "Services",
    "Shared",
    "box_in_form",
    "box_in_url",
    "known_entry",
    "problems",
    "router",
    "services_of",
]

MOST_RESULTS = 200

MOST_SKIPPED = 10_000

LONGEST_CONDITION, LONGEST_CHAIN = 2_000, 500
"""Characters."""

Shared = Annotated[Services, Depends(services_of)]


def known_entry(id: Annotated[int, Path(description="Number of an image of the index.")], services: Shared) -> Entry:
    """The entry that the path names, or a 404."""
    try:
        return services.index.entry(id)
    except (KeyError, OverflowError) as error:  # OverflowError: more than the 64 bits of a number in SQLite
        raise HTTPException(404, f"There is no image {id} in this index.") from error


KnownImage = Annotated[Entry, Depends(known_entry)]

LEFT, TOP, RIGHT, BOTTOM = (
    f"{edge} edge of the part to search with, in pixels of the upright image."
    for edge in ("Left", "Top", "Right", "Bottom")
)
COUNT = "How many results, at most."
SKIP = "How many of the best results to leave out: those that were shown already."
WHERE = "Condition on the images, as in `city = 'Paris' and year > 2010`; `/api/filters` lists what it can name."
THRESHOLD = "Least cosine of a result."
RERANK = (
    "Steps that put the first results in a better order, as in `aqe,geometric:depth=50`, or `default`; scores stay "
    "cosines, so that they need not fall along the results any more. It takes longer than a plain search."
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


def wanted_in_url(
    top: Annotated[int, Query(ge=1, le=MOST_RESULTS, description=COUNT)] = 50,
    skip: Annotated[int, Query(ge=0, le=MOST_SKIPPED, description=SKIP)] = 0,
    where: Annotated[str, Query(max_length=LONGEST_CONDITION, description=WHERE)] = "",
    threshold: Annotated[float | None, Query(ge=-1, le=1, description=THRESHOLD)] = None,
    rerank: Annotated[str, Query(max_length=LONGEST_CHAIN, description=RERANK)] = "",
) -> SearchOptions:
    """Which results are wanted, by the query string."""
    return SearchOptions(top, skip, where.strip() or None, threshold, _chain(rerank))


def wanted_in_form(
    top: Annotated[int, Form(ge=1, le=MOST_RESULTS, description=COUNT)] = 50,
    skip: Annotated[int, Form(ge=0, le=MOST_SKIPPED, description=SKIP)] = 0,
    where: Annotated[str, Form(max_length=LONGEST_CONDITION, description=WHERE)] = "",
    threshold: Annotated[float | None, Form(ge=-1, le=1, description=THRESHOLD)] = None,
    rerank: Annotated[str, Form(max_length=LONGEST_CHAIN, description=RERANK)] = "",
) -> SearchOptions:
    """Which results are wanted, by the fields of a form."""
    return SearchOptions(top, skip, where.strip() or None, threshold, _chain(rerank))


def _chain(rerank: str) -> Chain | None:
    try:
        return parse_chain(rerank) if rerank.strip() else None
    except GlamError as error:
        raise HTTPException(422, f"rerank: {error}.") from error


def problems(*codes: int) -> dict[int | str, dict[str, Any]]:
    """The error answers of an endpoint, for its documentation; the last are those that any endpoint may give."""
    sentences = {
        403: "Nothing can be changed here.",
        404: "There is no such image, or its file is gone.",
        409: "Another writer is at work.",
        413: "The upload has too many bytes or pixels.",
        415: "The upload is not an image of a known format.",
        422: "A value is missing or out of range, or the image is damaged.",
        400: "The request cannot be understood, or asks for another host.",
        401: "A token is wanted.",
        408: "The request came too slowly.",
        503: "Too many requests wait, or the service is stopping; `Retry-After` says when to ask again.",
    }
    always = (400, 401, 503)
    return {code: {"model": schemas.ErrorAnswer, "description": sentences[code]} for code in (*codes, *always)}


IMAGE_ANSWER: dict[str, Any] = {"description": "The picture.", "content": {"image/*": {}}}
FORMATS = "JPEG, PNG, WebP, GIF, BMP, TIFF or AVIF."

router = APIRouter(prefix="/api")


@router.post(
    "/search", tags=["search"], summary="Search with a photograph", responses=problems(403, 408, 413, 415, 422)
)
async def search_with_upload(
    services: Shared,
    image: Annotated[UploadFile, File(description=FORMATS)],
    box: Annotated[Box | None, Depends(box_in_form)],
    wanted: Annotated[SearchOptions, Depends(wanted_in_form)],
) -> schemas.SearchAnswer:
    """Describes an uploaded photograph, or the part of it in a box, and returns the indexed images most like it.

    The descriptors of the last uploads are kept: asking again with another `skip`, `where` or `threshold` is quick."""
    clock = Clock()
    limits = services.limits

    def check(data: bytes) -> None:
        header = read_header(data, limits)
        if box is not None:
            check_box(box, header.width, header.height)

    known = await services.describe(partial(upload_bytes, image.file, limits), box, check)
    told = schemas.QueryInfo(image=None, width=known.width, height=known.height, box=box)

    def features() -> LocalFeatures:
        image.file.seek(0)
        return extract(read_upload(image.file, limits), box=box)

    return await services.search(told, Asked(known.descriptor, features), wanted, clock.lap())


@router.get(
    "/images/{id}/search", tags=["search"], summary="Search with an indexed image", responses=problems(404, 422)
)
async def search_with_indexed(
    services: Shared,
    entry: KnownImage,
    box: Annotated[Box | None, Depends(box_in_url)],
    wanted: Annotated[SearchOptions, Depends(wanted_in_url)],
) -> schemas.SearchAnswer:
    """Returns the images most like an indexed one, without that one. With a box, its crop is described afresh."""
    clock = Clock()
    if box is None:
        known = DescribedUpload(
            await run_in_threadpool(services.index.descriptor, entry.image_id), entry.width, entry.height
        )
    else:
        check_box(box, entry.width, entry.height)
        known = await services.describe(partial(services.photographs.content, entry.image_id), box)
    told = schemas.QueryInfo(image=schemas.Image.of(entry), width=known.width, height=known.height, box=box)

    def features() -> LocalFeatures:
        known = services.index.local_features(entry.image_id) if box is None else None
        return extract(services.photographs.read(entry.image_id), box=box) if known is None else known

    return await services.search(told, Asked(known.descriptor, features), wanted, clock.lap(), itself=entry)


@router.get("/images/{id}", tags=["images"], summary="Facts about an indexed image", responses=problems(404, 422))
def image(entry: KnownImage) -> schemas.Image:
    """Returns where an indexed image lies, what it shows, its size, and what else is known of it."""
    return schemas.Image.of(entry)


@router.get(
    "/images/{id}/file",
    tags=["images"],
    summary="The photograph itself",
    response_class=Response,
    responses={200: IMAGE_ANSWER, **problems(404, 422)},
)
def image_file(services: Shared, entry: KnownImage) -> Response:
    """Returns the file as it is on disk, or as a JPEG where it has a format that browsers do not show."""
    media_type = services.photographs.browser_type(entry.image_id)
    if media_type is None:
        return Response(services.photographs.jpeg(entry.image_id), media_type="image/jpeg")
    return FileResponse(
        services.photographs.path(entry.image_id),
        media_type=media_type,
        filename=PurePosixPath(entry.path).name,
        content_disposition_type="inline",
    )


@router.get(
    "/images/{id}/thumbnail",
    tags=["images"],
    summary="The photograph made small",
    response_class=Response,
    responses={200: IMAGE_ANSWER, 304: {"description": "The asker's copy is current."}, **problems(404, 422)},
)
def image_thumbnail(
    services: Shared,
    entry: KnownImage,
    size: Annotated[int, Query(ge=32, le=1024, description="Longest side in pixels, at most.")] = 320,
    if_none_match: Annotated[str, Header(description="ETag of the copy one has.")] = "",
) -> Response:
    """Returns an upright JPEG. Sending its ETag back saves the transfer while the file is the same."""
    thumbnail = services.photographs.thumbnail(entry.image_id, size, if_none_match)
    headers = {"ETag": thumbnail.etag}
    if thumbnail.jpeg is None:
        return Response(status_code=304, headers=headers)
    return Response(thumbnail.jpeg, media_type="image/jpeg", headers=headers)


@router.get("/filters", tags=["search"], summary="What can be filtered by", responses=problems())
def filters(services: Shared) -> schemas.Filters:
    """Returns what a condition can name: landmark, size and whatever else is known of images, with the usual values."""
    return schemas.Filters(columns=services.serving.columns)


@router.get("/info", tags=["service"], summary="What is being served", responses=problems())
def info(services: Shared) -> schemas.Info:
    """Returns the size of the index, the model behind it, the limits on uploads, and what is allowed here."""
    limits = schemas.UploadLimits(bytes=services.limits.upload_bytes, pixels=services.limits.upload_pixels)
    access = services.shared.access
    return schemas.Info(
        images=len(services.index),
        model=services.model_name,
        dimension=services.index.dim,
        limits=limits,
        writable=access.writable,
        needs_token=access.read_token is not None,
        explains=True,
    )
