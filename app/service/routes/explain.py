"""The JSON API to explain a hit: matching points of two images, and attention maps of one."""

import base64
from collections.abc import Callable
from functools import partial
from typing import Annotated

import numpy as np
from fastapi import APIRouter, Depends, File, Form, HTTPException, UploadFile
from numpy.typing import NDArray
from PIL import Image
from pydantic import BaseModel, Field

from glam.app.service import schemas
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
from glam.app.service.uploads import read_upload
from glam.app.service.workers.search import check_box
from glam.attention_maps import AttentionMaps, attention_maps
from glam.errors import GlamError
from glam.images import Box
from glam.index.local_matching import extract, match_features

MAX_LINES = 200

ATTENTIONS = ("local_channel", "local_spatial", "global_channel", "global_spatial")

Line = tuple[float, float, float, float]


class MatchesAnswer(BaseModel):
    """Local features that match in two images."""

    inliers: int = Field(description="Matches that agree with one homography.")
    tried: int = Field(description="All matches of local features.")
    lines: list[Line] = Field(
        description="At most 200 of the inliers, the most similar ones first: x and y in pixels of the upright query, "
        "then x and y in pixels of the upright indexed image."
    )


MAP = "Base64 of height * width bytes, scaled from 0 (minimum) to 255 (maximum)."


class AttentionAnswer(BaseModel):
    """The four attention maps, one byte per value, rows from the top; null for one that the model lacks."""

    height: int = Field(description="Rows of a map.")
    width: int = Field(description="Columns of a map.")
    box: schemas.Pixels = Field(
        description="The part that the maps cover: x1, y1, x2, y2 in pixels of the upright image."
    )
    local_channel: str | None = Field(description=MAP)
    local_spatial: str | None = Field(description=MAP)
    global_channel: str | None = Field(description=MAP)
    global_spatial: str | None = Field(
        description="Base64 of (height * width) squared bytes: one map per position, of the positions that it attends "
        "to, each scaled separately."
    )
    ranges: dict[str, tuple[float, float]] = Field(description="Minimum and maximum of each map before scaling.")


router = APIRouter(prefix="/api", tags=["explain"])

Upload = Annotated[UploadFile, File(description=FORMATS)]


ImageReader = Callable[[], Image.Image]
"""Reads an upright image; to be called in a thread."""


def query_reader(
    services: ServicesDep,
    image: Annotated[UploadFile | None, File(description="The query, uploaded; alternatively give `query`.")] = None,
    query: Annotated[int | None, Form(description="The query, as the number of an image in the index.")] = None,
) -> ImageReader:
    """Dependency: a reader of the query, from an upload or from the index."""
    if image is not None and query is None:
        return partial(read_upload, image.file, services.limits)
    if image is None and query is not None:
        return partial(services.image_files.read, get_entry(query, services).image_id)
    raise HTTPException(422, "Give the query as image or as query: one of both.")


def other_reader(
    services: ServicesDep,
    image_id: Annotated[int, Form(alias="with", description="Number of the image in the index to compare with.")],
) -> ImageReader:
    """Dependency: a reader of the indexed image to compare with."""
    return partial(services.image_files.read, get_entry(image_id, services).image_id)


@router.post("/matches", summary="Matches of two images", responses=error_responses(404, 408, 413, 415, 422))
async def matches(
    services: ServicesDep,
    query: Annotated[ImageReader, Depends(query_reader)],
    other: Annotated[ImageReader, Depends(other_reader)],
    box: Annotated[Box | None, Depends(box_in_form)],
) -> MatchesAnswer:
    """Matches a query, or the part of it in a box, with an indexed image by their local features."""
    return await services.run_serially(lambda: match_images(query(), other(), box))


@router.get(
    "/images/{image_id}/attention", summary="Attention maps of an indexed image", responses=error_responses(404, 422)
)
async def attention_of_indexed(
    services: ServicesDep, entry: EntryDep, box: Annotated[Box | None, Depends(box_in_url)]
) -> AttentionAnswer:
    """Returns the four attention maps of an indexed image, or of the part of it in a box."""
    return await services.run_serially(lambda: _attention(services, services.image_files.read(entry.image_id), box))


@router.post("/attention", summary="Attention maps of an uploaded image", responses=error_responses(408, 413, 415, 422))
async def attention_of_upload(
    services: ServicesDep, image: Upload, box: Annotated[Box | None, Depends(box_in_form)]
) -> AttentionAnswer:
    """Returns the four attention maps of an uploaded image, or of the part of it in a box."""
    return await services.run_serially(lambda: _attention(services, read_upload(image.file, services.limits), box))


def match_images(query: Image.Image, other: Image.Image, box: Box | None) -> MatchesAnswer:
    """Matches of the query, or of the part of it in a box, with another image; both upright.

    Raises:
        BoxError: the box is empty or reaches outside the query.
    """
    if box is not None:
        check_box(box, *query.size)
    found = match_features(extract(query, box=box), extract(other))
    lines = np.hstack([found.points_a, found.points_b])[found.inliers][:MAX_LINES].astype(np.float64)
    return MatchesAnswer(inliers=found.count, tried=len(found), lines=lines.round(1).tolist())


def encode_maps(maps: AttentionMaps) -> AttentionAnswer:
    """The answer with these maps, scaled to bytes."""
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


def _attention(services: Services, image: Image.Image, box: Box | None) -> AttentionAnswer:
    if box is not None:
        check_box(box, *image.size)
    try:
        return encode_maps(attention_maps(services.model, image, box, services.index.size))
    except GlamError as error:
        raise HTTPException(422, f"{services.model_name} has no attention to show.") from error
