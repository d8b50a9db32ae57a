"""The part of the JSON API that changes the index. `glam.app.service.middleware.auth` says who may."""

import asyncio
from functools import partial
from typing import Annotated

from fastapi import APIRouter, File, Form, HTTPException, UploadFile

from glam.app.service import schemas
from glam.app.service.routes.search import FORMATS, KnownImage, Shared, problems
from glam.app.service.uploads import UPLOAD_FORMATS, ImageHeader, read_header, upload_bytes
from glam.app.service.workers.write import NewFile, adding, checked_landmark, checked_metadata, removing
from glam.index.storage.checksums import digest

router = APIRouter(prefix="/api", tags=["images"])


@router.post("/images", status_code=201, summary="Add an image", responses=problems(403, 404, 408, 409, 413, 415, 422))
async def add_image(
    services: Shared,
    image: Annotated[UploadFile, File(description=FORMATS)],
    landmark: Annotated[str, Form(description="The landmark it shows, if known; also the name of its folder.")] = "",
    label: Annotated[str, Form(description="Deprecated name of `landmark`.", deprecated=True)] = "",
    metadata: Annotated[str, Form(description="What else is known of it: a JSON object of texts and numbers.")] = "{}",
) -> schemas.Image:
    """Writes an uploaded photograph into the folder of the index, describes it and adds it.

    The same file under the same landmark again keeps its number, and gets the new metadata."""
    folder, known_of_it = checked_landmark(landmark or label), checked_metadata(metadata)
    content = await asyncio.to_thread(upload_bytes, image.file, services.limits)
    header: ImageHeader = await asyncio.to_thread(read_header, content, services.limits)
    described = await services.describe(lambda: content, None, partial(read_header, limits=services.limits))
    name = digest(content) + UPLOAD_FORMATS[header.format]
    added = await services.change(
        adding(
            NewFile(
                content=content,
                path=f"{folder}/{name}" if folder else name,
                landmark=folder,
                metadata=known_of_it,
                width=described.width,
                height=described.height,
                descriptor=described.descriptor,
            )
        )
    )
    with services.shared.current.use() as serving:  # the index that has it; `services` is about the one before
        try:
            return schemas.Image.of(serving.index.entry(added))
        except KeyError as error:
            raise HTTPException(404, f"Image {added} was added, and removed by somebody else meanwhile.") from error


@router.delete("/images/{id}", status_code=204, summary="Remove an image", responses=problems(403, 404, 409, 422))
async def remove_image(services: Shared, entry: KnownImage) -> None:
    """Removes an image from the index. Its file stays where it is."""
    await services.change(removing(entry.image_id, entry.path))
