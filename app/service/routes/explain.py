"""The part of the JSON API that says why: places that match in two photographs, and where the model looks in one."""

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
from glam.app.service.routes.search import KnownImage, Services, Shared, box_in_form, box_in_url, known_entry, problems
from glam.app.service.uploads import read_upload
from glam.app.service.workers.search import check_box
from glam.attention_maps import AttentionMaps, attention_maps
from glam.errors import GlamError
from glam.images import Box
from glam.index.local_matching import extract, match_features

MOST_LINES = 200

ATTENTIONS = ("local_channel", "local_spatial", "global_channel", "global_spatial")

Line = tuple[float, float, float, float]


class MatchesAnswer(BaseModel):
    """Places in two photographs that look alike and lie alike."""

    inliers: int = Field(description="Pairs of like features that one perspective mapping brings together.")
    tried: int = Field(description="Pairs of like features, wherever they lie.")
    lines: list[Line] = Field(
        description="Of the inliers, those most alike first, at most 200: x and y in pixels of the upright query, "
        "then x and y in pixels of the upright indexed image."
    )


class AttentionAnswer(BaseModel):
    """The four attention maps, a byte a number, rows from the top; null for one that the model was trained without."""

    height: int = Field(description="Rows of a map.")
    width: int = Field(description="Columns of a map.")
    box: schemas.Pixels = Field(description="What the maps cover: x1, y1, x2, y2 in pixels of the upright image.")
    local_channel: str | None = Field(description="Base64 of height * width bytes, the least 0, the most 255.")
    local_spatial: str | None = Field(description="Likewise.")
    global_channel: str | None = Field(description="Likewise.")
    global_spatial: str | None = Field(
        description="Base64 of (height * width) squared bytes: for every place a map of where it looks, each scaled "
        "by itself."
    )
    ranges: dict[str, tuple[float, float]] = Field(
        description="For each map the least and the most number in it, before they became 0 and 255."
    )


router = APIRouter(prefix="/api", tags=["explain"])

Upload = Annotated[UploadFile, File(description="JPEG, PNG, WebP, GIF, BMP, TIFF or AVIF.")]


Read = Callable[[], Image.Image]
"""Reads an upright photograph; for a thread that may take its time."""


def query_reader(
    services: Shared,
    image: Annotated[UploadFile | None, File(description="The query, uploaded; or give `query`.")] = None,
    query: Annotated[int | None, Form(description="The query, as number of an image of the index.")] = None,
) -> Read:
    """What reads the query, from wherever it was said to be."""
    if image is not None and query is None:
        return partial(read_upload, image.file, services.limits)
    if image is None and query is not None:
        return partial(services.photographs.read, known_entry(query, services).image_id)
    raise HTTPException(422, "Give the query as image or as query: one of both.")


def other_reader(
    services: Shared,
    indexed: Annotated[int, Form(alias="with", description="Number of the image of the index to compare with.")],
) -> Read:
    """What reads the indexed image that is compared."""
    return partial(services.photographs.read, known_entry(indexed, services).image_id)


@router.post("/matches", summary="What matches in two photographs", responses=problems(404, 408, 413, 415, 422))
async def matches(
    services: Shared,
    query: Annotated[Read, Depends(query_reader)],
    other: Annotated[Read, Depends(other_reader)],
    box: Annotated[Box | None, Depends(box_in_form)],
) -> MatchesAnswer:
    """Compares a query, or the part of it in a box, with an indexed image by their local features."""
    return await services.in_model_turn(lambda: match_photographs(query(), other(), box))


@router.get("/images/{id}/attention", summary="Where the model looks in an indexed image", responses=problems(404, 422))
async def attention_of_indexed(
    services: Shared, entry: KnownImage, box: Annotated[Box | None, Depends(box_in_url)]
) -> AttentionAnswer:
    """Returns the four attention maps of an indexed image, or of the part of it in a box."""
    return await services.in_model_turn(lambda: _attend(services, services.photographs.read(entry.image_id), box))


@router.post("/attention", summary="Where the model looks in a photograph", responses=problems(408, 413, 415, 422))
async def attention_of_upload(
    services: Shared, image: Upload, box: Annotated[Box | None, Depends(box_in_form)]
) -> AttentionAnswer:
    """Returns the four attention maps of an uploaded photograph, or of the part of it in a box."""
    return await services.in_model_turn(lambda: _attend(services, read_upload(image.file, services.limits), box))


def match_photographs(query: Image.Image, other: Image.Image, box: Box | None) -> MatchesAnswer:
    """Places of the query, or of its box, in another photograph; both upright.

    Raises:
        BoxError: the box is empty or not within the query.
    """
    if box is not None:
        check_box(box, *query.size)
    found = match_features(extract(query, box=box), extract(other))
    lines = np.hstack([found.points_a, found.points_b])[found.inliers][:MOST_LINES].astype(np.float64)
    return MatchesAnswer(inliers=found.count, tried=len(found), lines=lines.round(1).tolist())


def encode_maps(maps: AttentionMaps) -> AttentionAnswer:
    """Attention maps as they are sent."""
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
    """(n, m), each row scaled so that its least is 0 and its most 255; a row of equal numbers is 0."""
    least, spread = rows.min(axis=1, keepdims=True), np.ptp(rows, axis=1, keepdims=True)
    scaled: NDArray[np.uint8] = np.round((rows - least) / np.where(spread > 0, spread, 1) * 255).astype(np.uint8)
    return scaled


def _attend(services: Services, photograph: Image.Image, box: Box | None) -> AttentionAnswer:
    if box is not None:
        check_box(box, *photograph.size)
    try:
        return encode_maps(attention_maps(services.model, photograph, box, services.index.size))
    except GlamError as error:
        raise HTTPException(422, f"{services.model_name} has no attention to show.") from error
