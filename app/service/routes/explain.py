"""Routes that explain a hit: matching points of two images, and attention maps of one image."""

import base64
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Annotated

import numpy as np
from fastapi import APIRouter, Depends, File, Form, HTTPException, UploadFile
from numpy.typing import NDArray
from PIL import Image
from pydantic import BaseModel, Field

from glam.app.service import schemas
from glam.app.service.decode_cost import Decode
from glam.app.service.routes.search import (
    FORMATS,
    EntryDep,
    Services,
    ServicesDep,
    box_in_form,
    box_in_url,
    error_responses,
    get_entry,
)
from glam.app.service.uploads import read_upload, upload_cost
from glam.app.service.workers.search import check_box
from glam.attention_maps import AttentionMaps, attention_maps
from glam.errors import GlamError
from glam.images import Box
from glam.index.local_matching import extract, match_features

MAX_LINES = 200
"""Most lines in an answer; more would hide the images. Arbitrary."""

ATTENTIONS = ("local_channel", "local_spatial", "global_channel", "global_spatial")

Line = tuple[float, float, float, float]


class MatchesAnswer(BaseModel):
    """Matching points of two images."""

    inliers: int = Field(description="Number of matching points: pairs of local features that fit one homography.")
    tried: int = Field(description="Number of candidates: pairs of similar local features.")
    lines: list[Line] = Field(
        description="Positions of at most 200 matching points, most similar first: x and y in pixels of the upright "
        "query, then x and y in pixels of the upright indexed image."
    )


MAP = (
    "Attention map as Base64 of height times width bytes, row by row from the top, scaled from 0 (minimum) to 255 "
    "(maximum); null if the model lacks this attention."
)


class AttentionAnswer(BaseModel):
    """The four attention maps of an image."""

    height: int = Field(description="Number of rows of a map.")
    width: int = Field(description="Number of columns of a map.")
    box: schemas.Pixels = Field(
        description="Region that the maps cover: x1, y1, x2, y2 in pixels of the upright image."
    )
    local_channel: str | None = Field(description=MAP)
    local_spatial: str | None = Field(description=MAP)
    global_channel: str | None = Field(description=MAP)
    global_spatial: str | None = Field(
        description="Base64 of height times width maps of height times width bytes each: the map of a position shows "
        "which positions it attends to. Each map is scaled separately from 0 to 255. Null if the model lacks this "
        "attention."
    )
    ranges: dict[str, tuple[float, float]] = Field(
        description="Minimum and maximum of each attention before scaling, by name."
    )


router = APIRouter(prefix="/api", tags=["explain"])

Upload = Annotated[UploadFile, File(description=FORMATS)]


@dataclass(frozen=True)
class ImageReader:
    """Reads an image. Call its functions in a thread, because they take time.

    Attributes:
        cost: returns the estimated peak memory of ``read`` in bytes; see `glam.app.service.decode_cost`.
        read: returns the upright image.
    """

    cost: Callable[[], int]
    read: Callable[[], Image.Image]


def _upload_reader(services: Services, image: UploadFile) -> ImageReader:
    return ImageReader(
        partial(upload_cost, image.file, services.limits), partial(read_upload, image.file, services.limits)
    )


def _indexed_reader(services: Services, image_id: int) -> ImageReader:
    files = services.image_files
    return ImageReader(partial(files.cost, image_id), partial(files.read, image_id))


def query_reader(
    services: ServicesDep,
    image: Annotated[
        UploadFile | None, File(description="Query as an uploaded file. Send either image or query.")
    ] = None,
    query: Annotated[int | None, Form(description="Query as the image_id of an indexed image.")] = None,
) -> ImageReader:
    """Dependency: the reader of the query, which is an upload or an indexed image."""
    if image is not None and query is None:
        return _upload_reader(services, image)
    if image is None and query is not None:
        return _indexed_reader(services, get_entry(query, services).image_id)
    raise HTTPException(422, "Send exactly one of image (an uploaded file) and query (an image_id).")


def other_reader(
    services: ServicesDep,
    image_id: Annotated[int, Form(alias="with", description="image_id of the indexed image to compare with.")],
) -> ImageReader:
    """Dependency: the reader of the indexed image to compare with."""
    return _indexed_reader(services, get_entry(image_id, services).image_id)


@router.post(
    "/matches", summary="Find matching points of two images", responses=error_responses(404, 408, 413, 415, 422)
)
async def matches(
    services: ServicesDep,
    query: Annotated[ImageReader, Depends(query_reader)],
    other: Annotated[ImageReader, Depends(other_reader)],
    box: Annotated[Box | None, Depends(box_in_form)],
) -> MatchesAnswer:
    """Compares the local features of a query, or of a region of it, with those of an indexed image."""
    return await services.decode(
        lambda: Decode(query.cost() + other.cost(), lambda: match_images(query.read(), other.read(), box), serial=True)
    )


@router.get(
    "/images/{image_id}/attention",
    summary="Get the attention maps of an indexed image",
    responses=error_responses(404, 422),
)
async def attention_of_indexed(
    services: ServicesDep, entry: EntryDep, box: Annotated[Box | None, Depends(box_in_url)]
) -> AttentionAnswer:
    """Computes the attention maps of an indexed image, or of a region of it."""
    return await _attention(services, _indexed_reader(services, entry.image_id), box)


@router.post(
    "/attention", summary="Get the attention maps of an uploaded image", responses=error_responses(408, 413, 415, 422)
)
async def attention_of_upload(
    services: ServicesDep, image: Upload, box: Annotated[Box | None, Depends(box_in_form)]
) -> AttentionAnswer:
    """Computes the attention maps of an uploaded image, or of a region of it."""
    return await _attention(services, _upload_reader(services, image), box)


def match_images(query: Image.Image, other: Image.Image, box: Box | None) -> MatchesAnswer:
    """Match the local features of two images.

    Args:
        query: upright.
        other: upright.
        box: region of the query, (x1, y1, x2, y2) in pixels; None for the whole image.

    Raises:
        BoxError: the box is empty or extends beyond the query.
    """
    if box is not None:
        check_box(box, *query.size)
    found = match_features(extract(query, box=box), extract(other))
    lines = np.hstack([found.points_a, found.points_b])[found.inliers][:MAX_LINES].astype(np.float64)
    return MatchesAnswer(inliers=found.count, tried=len(found), lines=lines.round(1).tolist())


def encode_maps(maps: AttentionMaps) -> AttentionAnswer:
    """Encode attention maps for the answer, scaled to bytes."""
    encoded: dict[str, str | None] = {}
    ranges: dict[str, tuple[float, float]] = {}
    for name in ATTENTIONS:
        values = getattr(maps, name)
        encoded[name] = None
        if values is not None:
            rows = values if name == "global_spatial" else values.reshape(1, -1)
            encoded[name] = base64.b64encode(to_bytes(rows).tobytes()).decode("ascii")
            ranges[name] = float(values.min()), float(values.max())
    return AttentionAnswer(height=maps.height, width=maps.width, box=maps.box, ranges=ranges, **encoded)


def to_bytes(rows: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Scale each row of (n, m) from 0 (minimum) to 255 (maximum); a constant row becomes 0."""
    least, spread = rows.min(axis=1, keepdims=True), np.ptp(rows, axis=1, keepdims=True)
    scaled: NDArray[np.uint8] = np.round((rows - least) / np.where(spread > 0, spread, 1) * 255).astype(np.uint8)
    return scaled


async def _attention(services: Services, reader: ImageReader, box: Box | None) -> AttentionAnswer:
    def compute() -> AttentionAnswer:
        image = reader.read()
        if box is not None:
            check_box(box, *image.size)
        try:
            return encode_maps(attention_maps(services.model, image, box, services.index.size))
        except GlamError as error:
            raise HTTPException(
                422, f"The model {services.model_name} has no attention to show: it was trained without GLAM."
            ) from error

    return await services.decode(lambda: Decode(reader.cost(), compute, serial=True))
