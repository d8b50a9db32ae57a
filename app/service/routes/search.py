"""Routes that search the index and read its images."""

from functools import partial
from pathlib import PurePosixPath
from typing import Annotated, Any

from fastapi import APIRouter, Depends, File, Form, Header, HTTPException, Path, Query, Response, UploadFile
from fastapi.responses import FileResponse
from pydantic import BeforeValidator
from starlette.concurrency import run_in_threadpool

from glam.app.service import schemas
from glam.app.service.decode_cost import Decode
from glam.app.service.dependencies import Services, get_services
from glam.app.service.uploads import read_header, upload_bytes
from glam.app.service.workers.describe import ImageDescriptor
from glam.app.service.workers.search import SearchOptions, Stopwatch, check_box
from glam.errors import GlamError
from glam.images import Box, list_formats, read_upright_size
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
"""Results per request; arbitrary."""

MAX_SKIP = 10_000
"""Hits; arbitrary."""

MAX_FILTER_LENGTH, MAX_CHAIN_LENGTH = 2_000, 500
"""Characters; arbitrary."""

ServicesDep = Annotated[Services, Depends(get_services)]


def _check_digits(value: object) -> object:
    if isinstance(value, str) and not (value.isascii() and value.removeprefix("-").isdigit()):
        raise ValueError("Send the digits of an image_id")
    return value


def get_entry(
    image_id: Annotated[int, BeforeValidator(_check_digits), Path(description="image_id of an indexed image.")],
    services: ServicesDep,
) -> Entry:
    """Dependency: the entry of an indexed image.

    Raises:
        HTTPException: 404, the index has no such image.
    """
    try:
        return services.index.entry(image_id)
    except (KeyError, OverflowError) as error:  # OverflowError: more than the 64 bits of an integer in SQLite
        raise HTTPException(404, f"There is no image {image_id} in this index. It may have been removed.") from error


EntryDep = Annotated[Entry, Depends(get_entry)]

LEFT, TOP, RIGHT, BOTTOM = (
    f"{edge} edge of the region to use, in pixels of the upright image, 0 to its {side}. Send all four edges or none."
    for edge, side in (("Left", "width"), ("Top", "height"), ("Right", "width"), ("Bottom", "height"))
)
COUNT = f"Maximum number of results, 1 to {MAX_RESULTS}; 50 by default."
SKIP = f"Number of top results to skip, 0 to {MAX_SKIP}; 0 by default. Use it to request further pages."
WHERE = (
    "Filter expression in SQL syntax, such as: width > 1000 and landmark = 'petra'. /api/filters lists the columns. At "
    f"most {MAX_FILTER_LENGTH} characters; empty for all images."
)
THRESHOLD = "Minimum score (cosine similarity) of a result, -1 to 1; no minimum by default."
RERANK = (
    "Re-ranking steps, such as: aqe,geometric:depth=50. Send default for the recommended steps. At most "
    f"{MAX_CHAIN_LENGTH} characters; empty for a plain search, which is faster. Scores remain cosine similarities, so "
    "they may not decrease with the rank."
)


def box_in_url(
    x1: Annotated[float | None, Query(allow_inf_nan=False, description=LEFT)] = None,
    y1: Annotated[float | None, Query(allow_inf_nan=False, description=TOP)] = None,
    x2: Annotated[float | None, Query(allow_inf_nan=False, description=RIGHT)] = None,
    y2: Annotated[float | None, Query(allow_inf_nan=False, description=BOTTOM)] = None,
) -> Box | None:
    """Dependency: the box in the query string; None if there is none."""
    return _complete_box(x1, y1, x2, y2)


def box_in_form(
    x1: Annotated[float | None, Form(allow_inf_nan=False, description=LEFT)] = None,
    y1: Annotated[float | None, Form(allow_inf_nan=False, description=TOP)] = None,
    x2: Annotated[float | None, Form(allow_inf_nan=False, description=RIGHT)] = None,
    y2: Annotated[float | None, Form(allow_inf_nan=False, description=BOTTOM)] = None,
) -> Box | None:
    """Dependency: the box in the form; None if there is none."""
    return _complete_box(x1, y1, x2, y2)


def _complete_box(x1: float | None, y1: float | None, x2: float | None, y2: float | None) -> Box | None:
    if x1 is not None and y1 is not None and x2 is not None and y2 is not None:
        return (x1, y1, x2, y2)
    if x1 is None and y1 is None and x2 is None and y2 is None:
        return None
    raise HTTPException(422, "The box is incomplete. Send x1, y1, x2, and y2, or none of them.")


def options_in_url(
    top: Annotated[int, Query(ge=1, le=MAX_RESULTS, description=COUNT)] = 50,
    skip: Annotated[int, Query(ge=0, le=MAX_SKIP, description=SKIP)] = 0,
    where: Annotated[str, Query(max_length=MAX_FILTER_LENGTH, description=WHERE)] = "",
    threshold: Annotated[float | None, Query(ge=-1, le=1, description=THRESHOLD)] = None,
    rerank: Annotated[str, Query(max_length=MAX_CHAIN_LENGTH, description=RERANK)] = "",
) -> SearchOptions:
    """Dependency: the search options in the query string."""
    return SearchOptions(top, skip, where.strip() or None, threshold, _chain(rerank))


def options_in_form(
    top: Annotated[int, Form(ge=1, le=MAX_RESULTS, description=COUNT)] = 50,
    skip: Annotated[int, Form(ge=0, le=MAX_SKIP, description=SKIP)] = 0,
    where: Annotated[str, Form(max_length=MAX_FILTER_LENGTH, description=WHERE)] = "",
    threshold: Annotated[float | None, Form(ge=-1, le=1, description=THRESHOLD)] = None,
    rerank: Annotated[str, Form(max_length=MAX_CHAIN_LENGTH, description=RERANK)] = "",
) -> SearchOptions:
    """Dependency: the search options in the form."""
    return SearchOptions(top, skip, where.strip() or None, threshold, _chain(rerank))


def _chain(rerank: str) -> Chain | None:
    try:
        return parse_chain(rerank) if rerank.strip() else None
    except GlamError as error:
        raise HTTPException(422, f"rerank: {str(error).removesuffix('.')}.") from error


def error_responses(*codes: int) -> dict[int | str, dict[str, Any]]:
    """Documentation of the error responses of an endpoint, including 400, 401, and 503, which every endpoint has."""
    descriptions = {
        403: "The service is read-only, or the request comes from a page of another site.",
        404: "The index has no such image, or its file is missing.",
        409: "Another program is writing to the index. Try again after the seconds in the Retry-After header.",
        413: "The upload has too many bytes or pixels. /api/info has the limits.",
        415: "The upload is not an image in a supported format.",
        422: "A value is missing or out of range, or the image is damaged.",
        400: "The request is malformed, or its Host header names another machine.",
        401: "A token is required. Send it in the Authorization header.",
        408: "The request arrived too slowly. Try again.",
        503: "The service is busy or shutting down. Try again after the seconds in the Retry-After header.",
    }
    always = (400, 401, 503)
    return {code: {"model": schemas.ErrorAnswer, "description": descriptions[code]} for code in (*codes, *always)}


IMAGE_ANSWER: dict[str, Any] = {"description": "The image.", "content": {"image/*": {}}}
FORMATS = f"Image file: {list_formats()}. /api/info has the limits on its size."

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
    """Finds the indexed images that are most similar to an uploaded image, or to a region of it.

    The service caches the descriptors of recent uploads, so the next page or another filter is fast."""
    stopwatch = Stopwatch()
    limits = services.limits

    def read() -> bytes:
        data = upload_bytes(image.file, limits)
        read_header(data, limits)
        if box is not None:
            check_box(box, *read_upright_size(data))
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
    response: Response,
) -> schemas.SearchAnswer:
    """Finds the images that are most similar to an indexed image, or to a region of it. The results leave it out."""
    response.headers["Cache-Control"] = "no-store"  # the durations differ each time
    stopwatch = Stopwatch()
    if box is None:
        descriptor = await run_in_threadpool(services.index.descriptor, entry.image_id)

        def features() -> LocalFeatures:
            stored = services.index.local_features(entry.image_id)
            if stored is not None:
                return stored
            with services.app_state.decoders.budget.reserve(services.image_files.cost(entry.image_id)):
                return extract(services.image_files.read(entry.image_id))

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
    """The query of a described image, with its local features if it has them."""
    features = described.local_features
    return SearchQuery(described.descriptor, None if features is None else lambda: features)


@router.get(
    "/images/{image_id}",
    tags=["images"],
    summary="Get the entry of an indexed image",
    responses=error_responses(404, 422),
)
def image(entry: EntryDep) -> schemas.Image:
    """Returns the path, landmark, size, and metadata of an indexed image."""
    return schemas.Image.of(entry)


@router.get(
    "/images/{image_id}/file",
    tags=["images"],
    summary="Get the file of an indexed image",
    response_class=Response,
    responses={200: IMAGE_ANSWER, **error_responses(404, 422)},
)
async def image_file(services: ServicesDep, entry: EntryDep) -> Response:
    """Returns the unchanged file, or a JPEG if browsers cannot display its format."""
    files, image_id = services.image_files, entry.image_id
    media_type = await run_in_threadpool(files.browser_type, image_id)
    if media_type is None:
        jpeg = await services.decode(lambda: Decode(files.cost(image_id), lambda: files.jpeg(image_id)))
        return Response(jpeg, media_type="image/jpeg")
    return FileResponse(
        await run_in_threadpool(files.path, image_id),
        media_type=media_type,
        filename=PurePosixPath(entry.path).name,
        content_disposition_type="inline",
    )


@router.get(
    "/images/{image_id}/thumbnail",
    tags=["images"],
    summary="Get a thumbnail of an indexed image",
    response_class=Response,
    responses={
        200: IMAGE_ANSWER,
        304: {"description": "The thumbnail has not changed since the ETag in If-None-Match."},
        **error_responses(404, 422),
    },
)
async def image_thumbnail(
    services: ServicesDep,
    entry: EntryDep,
    size: Annotated[
        int, Query(ge=32, le=1024, description="Longest side of the thumbnail in pixels, 32 to 1024.")
    ] = 320,
    if_none_match: Annotated[str, Header(description="ETag of an earlier response, for status 304 if unchanged.")] = "",
) -> Response:
    """Returns an upright JPEG. An image smaller than the requested size is not enlarged."""
    files, image_id = services.image_files, entry.image_id
    thumbnail = await run_in_threadpool(files.known_thumbnail, image_id, size, if_none_match)
    if thumbnail is None:
        thumbnail = await services.decode(
            lambda: Decode(files.cost(image_id, size), lambda: files.thumbnail(image_id, size))
        )
    headers = {"ETag": thumbnail.etag}
    if thumbnail.jpeg is None:
        return Response(status_code=304, headers=headers)
    return Response(thumbnail.jpeg, media_type="image/jpeg", headers=headers)


@router.get("/filters", tags=["search"], summary="List the columns for filters", responses=error_responses())
async def filters(services: ServicesDep) -> schemas.Filters:
    """Returns the columns that filter expressions can use, with their values: landmark, width, metadata, and others."""
    return schemas.Filters(columns=await services.served.columns())


@router.get("/info", tags=["service"], summary="Get facts about the index and the service", responses=error_responses())
def info(services: ServicesDep) -> schemas.Info:
    """Returns the size of the index, its model, the limits on uploads, and the required tokens."""
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
