"""Routes that add and remove images. `glam.app.service.middleware.auth` checks the token."""

import asyncio
from typing import Annotated

from fastapi import APIRouter, File, Form, HTTPException, UploadFile

from glam.app.service import schemas
from glam.app.service.routes.search import FORMATS, EntryDep, ServicesDep, error_responses
from glam.app.service.uploads import ImageHeader, read_header, upload_bytes
from glam.app.service.workers.write import NewFile, addition, normalize_landmark, parse_metadata, removal
from glam.images import SUFFIX_OF
from glam.index.storage.checksums import digest

router = APIRouter(prefix="/api", tags=["images"])


@router.post(
    "/images", status_code=201, summary="Add an image", responses=error_responses(403, 404, 408, 409, 413, 415, 422)
)
async def add_image(
    services: ServicesDep,
    image: Annotated[UploadFile, File(description=FORMATS)],
    landmark: Annotated[
        str,
        Form(
            description="Landmark that the image shows: at most 100 characters, without slashes. It also names the "
            "folder of the file. Empty if unknown."
        ),
    ] = "",
    label: Annotated[str, Form(description="Deprecated name of landmark.", deprecated=True)] = "",
    metadata: Annotated[
        str,
        Form(
            description="Further metadata: a JSON object with at most 50 keys and 10,000 bytes. Its values are "
            "strings, numbers, true, false, or null."
        ),
    ] = "{}",
) -> schemas.Image:
    """Saves an uploaded image below the root of the index, and adds it to the index.

    If the index already has the same file with the same landmark, the image keeps its image_id, and its metadata is
    replaced."""
    landmark, values = normalize_landmark(landmark or label), parse_metadata(metadata)
    content = await asyncio.to_thread(upload_bytes, image.file, services.limits)
    header: ImageHeader = await asyncio.to_thread(read_header, content, services.limits)
    described = await services.describe(lambda: content, None)
    name = digest(content) + SUFFIX_OF[header.format]
    image_id = await services.change(
        addition(
            NewFile(
                content=content,
                path=f"{landmark}/{name}" if landmark else name,
                landmark=landmark,
                metadata=values,
                width=described.width,
                height=described.height,
                descriptor=described.descriptor,
            )
        )
    )
    with services.app_state.live_index.use() as served:  # the new snapshot; `services` has the previous one
        try:
            return schemas.Image.of(served.index.entry(image_id))
        except KeyError as error:
            raise HTTPException(404, f"Image {image_id} was added, but another client has removed it again.") from error


@router.delete(
    "/images/{image_id}", status_code=204, summary="Remove an image", responses=error_responses(403, 404, 409, 422)
)
async def remove_image(services: ServicesDep, entry: EntryDep) -> None:
    """Removes an image from the index. The file stays on disk."""
    await services.change(removal(entry.image_id, entry.path))
