"""The JSON API to search the index and to read its images, under ``/api``."""

from functools import partial
from pathlib import PurePosixPath
from typing import Annotated, Any

from fastapi import APIRouter, Depends, File, Form, Header, HTTPException, Path, Query, Response, UploadFile
from fastapi.responses import FileResponse
from starlette.concurrency import run_in_threadpool

from glam.app.service import schemas
from glam.app.service.dependencies import Services, get_services
from glam.app.service.uploads import read_header, upload_bytes, upright_size
from glam.app.service.workers.describe import ImageDescriptor
from glam.app.service.workers.search import SearchOptions, Stopwatch, check_box
from glam.errors import GlamError
from glam.images import Box
from glam.index import Entry
from glam.index.local_matching.rootsift import LocalFeatures, extract
from glam.index.rerank.base import Query as SearchQuery
from glam.index.rerank.chain import Chain, parse_chain

__all__ = [
    "EntryDep",
    "Services",
    "ServicesDep",
    "box_in_form",
    "box_in_url",
    "error_responses",
    "get_entry",
    "get_services",
    "router",
]

MAX_RESULTS = 200

MAX_SKIP = 10_000

MAX_FILTER_LENGTH, MAX_CHAIN_LENGTH = 2_000, 500
"""Characters."""

ServicesDep = Annotated[Services, Depends(get_services)]


def get_entry(
    image_id: Annotated[int, Path(description="Number of an image in the index.")], services: ServicesDep
) -> Entry:
    """Dependency: the entry of the image in the path.

    Raises:
        HTTPException: 404, there is no such image.
    """
    try:
        return services.index.entry(image_id)
    except (KeyError, OverflowError) as error:  # OverflowError: more than the 64 bits of a number in SQLite
        raise HTTPException(404, f"There is no image {image_id} in this index.") from error


EntryDep = Annotated[Entry, Depends(get_entry)]

LEFT, TOP, RIGHT, BOTTOM = (
    f"{edge} edge of the part to search with, in pixels of the upright image."
    for edge in ("Left", "Top", "Right", "Bottom")
)
COUNT = "Most results to return."
SKIP = "Number of the best results to leave out, to get the next page."
WHERE = "Filter expression, as in `city = 'Paris' and year > 2010`; `/api/filters` lists the columns."
THRESHOLD = "Lowest score (cosine similarity) of a result."
RERANK = (
    "Re-ranking steps, as in `aqe,geometric:depth=50`, or `default`; scores remain cosine similarities, which need not "
    "decrease along the results. Slower than a plain search."
)


def box_in_url(
    x1: Annotated[float | None, Query(allow_inf_nan=False, description=LEFT)] = None,
    y1: Annotated[float | None, Query(allow_inf_nan=False, description=TOP)] = None,
    x2: Annotated[float | None, Query(allow_inf_nan=False, description=RIGHT)] = None,
    y2: Annotated[float | None, Query(allow_inf_nan=False, description=BOTTOM)] = None,
) -> Box | None:
    """The box in the query string, if any."""
    return _complete_box(x1, y1, x2, y2)


def box_in_form(
    x1: Annotated[float | None, Form(allow_inf_nan=False, description=LEFT)] = None,
    y1: Annotated[float | None, Form(allow_inf_nan=False, description=TOP)] = None,
    x2: Annotated[float | None, Form(allow_inf_nan=False, description=RIGHT)] = None,
    y2: Annotated[float | None, Form(allow_inf_nan=False, description=BOTTOM)] = None,
) -> Box | None:
    """The box in the form, if any."""
    return _complete_box(x1, y1, x2, y2)


def _complete_box(x1: float | None, y1: float | None, x2: float | None, y2: float | None) -> Box | None:
    if x1 is not None and y1 is not None and x2 is not None and y2 is not None:
        return (x1, y1, x2, y2)
    if x1 is None and y1 is None and x2 is None and y2 is None:
        return None
    raise HTTPException(422, "A box needs all four of x1, y1, x2 and y2.")


def options_in_url(
    top: Annotated[int, Query(ge=1, le=MAX_RESULTS, description=COUNT)] = 50,
    skip: Annotated[int, Query(ge=0, le=MAX_SKIP, description=SKIP)] = 0,
    where: Annotated[str, Query(max_length=MAX_FILTER_LENGTH, description=WHERE)] = "",
    threshold: Annotated[float | None, Query(ge=-1, le=1, description=THRESHOLD)] = None,
    rerank: Annotated[str, Query(max_length=MAX_CHAIN_LENGTH, description=RERANK)] = "",
) -> SearchOptions:
    """Search options in the query string."""
    return SearchOptions(top, skip, where.strip() or None, threshold, _chain(rerank))


def options_in_form(
    top: Annotated[int, Form(ge=1, le=MAX_RESULTS, description=COUNT)] = 50,
    skip: Annotated[int, Form(ge=0, le=MAX_SKIP, description=SKIP)] = 0,
    where: Annotated[str, Form(max_length=MAX_FILTER_LENGTH, description=WHERE)] = "",
    threshold: Annotated[float | None, Form(ge=-1, le=1, description=THRESHOLD)] = None,
    rerank: Annotated[str, Form(max_length=MAX_CHAIN_LENGTH, description=RERANK)] = "",
) -> SearchOptions:
    """Search options in the form."""
    return SearchOptions(top, skip, where.strip() or None, threshold, _chain(rerank))


def _chain(rerank: str) -> Chain | None:
    try:
        return parse_chain(rerank) if rerank.strip() else None
    except GlamError as error:
        raise HTTPException(422, f"rerank: {error}") from error


def error_responses(*codes: int) -> dict[int | str, dict[str, Any]]:
    """Error answers of an endpoint, for its documentation; 400, 401 and 503 are added to all."""
    sentences = {
        403: "The index cannot be changed here.",
        404: "There is no such image, or its file is gone.",
        409: "Another writer is at work.",
        413: "The upload has too many bytes or pixels.",
        415: "The upload is not an image of a known format.",
        422: "A value is missing or out of range, or the image is damaged.",
        400: "The request is malformed, or addresses another host.",
        401: "A token is required.",
        408: "The request arrived too slowly.",
        503: "Too many requests wait, or the service is stopping; `Retry-After` says when to ask again.",
    }
    always = (400, 401, 503)
    return {code: {"model": schemas.ErrorAnswer, "description": sentences[code]} for code in (*codes, *always)}


IMAGE_ANSWER: dict[str, Any] = {"description": "The image.", "content": {"image/*": {}}}
FORMATS = "JPEG, PNG, WebP, GIF, BMP, TIFF or AVIF."

router = APIRouter(prefix="/api")


@router.post(
    "/search",
    tags=["search"],
    summary="Search with an uploaded image",
    responses=error_responses(403, 408, 413, 415, 422),
)
async def search_with_upload(
    services: ServicesDep,
    image: Annotated[UploadFile, File(description=FORMATS)],
    box: Annotated[Box | None, Depends(box_in_form)],
    options: Annotated[SearchOptions, Depends(options_in_form)],
) -> schemas.SearchAnswer:
    """Describes an uploaded image, or the part of it in a box, and returns the most similar images of the index.

    The descriptors of recent uploads are cached: another `skip`, `where` or `threshold` is fast."""
    stopwatch = Stopwatch()
    limits = services.limits

    def read() -> bytes:
        data = upload_bytes(image.file, limits)
        read_header(data, limits)
        if box is not None:
            check_box(box, *upright_size(data))
        return data

    described = await services.describe(read, box, local_features=options.needs_local_features)
    query_info = schemas.QueryInfo(image=None, width=described.width, height=described.height, box=box)
    return await services.search(query_info, _query(described), options, stopwatch.lap())


@router.get(
    "/images/{image_id}/search",
    tags=["search"],
    summary="Search with an indexed image",
    responses=error_responses(404, 422),
)
async def search_with_indexed(
    services: ServicesDep,
    entry: EntryDep,
    box: Annotated[Box | None, Depends(box_in_url)],
    options: Annotated[SearchOptions, Depends(options_in_url)],
) -> schemas.SearchAnswer:
    """Returns the images most similar to an indexed one, without that one. With a box, its crop is described first."""
    stopwatch = Stopwatch()
    if box is None:
        descriptor = await run_in_threadpool(services.index.descriptor, entry.image_id)

        def features() -> LocalFeatures:
            stored = services.index.local_features(entry.image_id)
            return extract(services.image_files.read(entry.image_id)) if stored is None else stored

        described, query = ImageDescriptor(descriptor, entry.width, entry.height), SearchQuery(descriptor, features)
    else:
        check_box(box, entry.width, entry.height)
        read = partial(services.image_files.content, entry.image_id)
        described = await services.describe(read, box, local_features=options.needs_local_features)
        query = _query(described)
    query_info = schemas.QueryInfo(
        image=schemas.Image.of(entry), width=described.width, height=described.height, box=box
    )
    return await services.search(query_info, query, options, stopwatch.lap(), exclude=entry.image_id)


def _query(described: ImageDescriptor) -> SearchQuery:
    """The query with the descriptor of an image, and with its local features if it has them."""
    features = described.local_features
    return SearchQuery(described.descriptor, None if features is None else lambda: features)


@router.get(
    "/images/{image_id}", tags=["images"], summary="Facts about an indexed image", responses=error_responses(404, 422)
)
def image(entry: EntryDep) -> schemas.Image:
    """Returns the path, the landmark, the size and the metadata of an indexed image."""
    return schemas.Image.of(entry)


@router.get(
    "/images/{image_id}/file",
    tags=["images"],
    summary="The image file",
    response_class=Response,
    responses={200: IMAGE_ANSWER, **error_responses(404, 422)},
)
def image_file(services: ServicesDep, entry: EntryDep) -> Response:
    """Returns the file as it is on disk, or as a JPEG if browsers do not show its format."""
    media_type = services.image_files.browser_type(entry.image_id)
    if media_type is None:
        return Response(services.image_files.jpeg(entry.image_id), media_type="image/jpeg")
    return FileResponse(
        services.image_files.path(entry.image_id),
        media_type=media_type,
        filename=PurePosixPath(entry.path).name,
        content_disposition_type="inline",
    )


@router.get(
    "/images/{image_id}/thumbnail",
    tags=["images"],
    summary="A thumbnail of an image",
    response_class=Response,
    responses={200: IMAGE_ANSWER, 304: {"description": "The client's copy is current."}, **error_responses(404, 422)},
)
def image_thumbnail(
    services: ServicesDep,
    entry: EntryDep,
    size: Annotated[int, Query(ge=32, le=1024, description="Longest side in pixels.")] = 320,
    if_none_match: Annotated[str, Header(description="ETag of the client's copy.")] = "",
) -> Response:
    """Returns an upright JPEG. Send its ETag back to skip the transfer while the file is unchanged."""
    thumbnail = services.image_files.thumbnail(entry.image_id, size, if_none_match)
    headers = {"ETag": thumbnail.etag}
    if thumbnail.jpeg is None:
        return Response(status_code=304, headers=headers)
    return Response(thumbnail.jpeg, media_type="image/jpeg", headers=headers)


@router.get("/filters", tags=["search"], summary="Columns to filter by", responses=error_responses())
def filters(services: ServicesDep) -> schemas.Filters:
    """Returns the columns that `where` can name: landmark, size and the keys of the metadata, with their values."""
    return schemas.Filters(columns=services.served.columns)


@router.get("/info", tags=["service"], summary="The index being served", responses=error_responses())
def info(services: ServicesDep) -> schemas.Info:
    """Returns the size of the index, its model, the limits on uploads, and what is allowed here."""
    limits = schemas.UploadLimits(bytes=services.limits.upload_bytes, pixels=services.limits.upload_pixels)
    access = services.app_state.access
    return schemas.Info(
        images=len(services.index),
        model=services.model_name,
        dimension=services.index.dim,
        limits=limits,
        writable=access.writable,
        needs_token=access.read_token is not None,
        explains=True,
    )
