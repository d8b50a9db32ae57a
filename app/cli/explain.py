"""`glam explain`: draw the attention maps of an image, and the matches of two images."""

from pathlib import Path
from typing import Annotated

import typer

from glam.app.cli.options import DEFAULT_MODEL, AsJson, Device, ModelName

PICTURES = {".png": "PNG", ".webp": "WEBP", ".jpg": "JPEG"}
"""Name of the format in Pillow, by suffix."""

SOFTWARE = 0x0131
"""EXIF tag that names the program that wrote a picture."""

PROGRAM = "glam explain"

JPEG_QUALITY = 88
"""Quality of JPEG and WebP pictures; arbitrary."""


def explain(
    image: Annotated[Path, typer.Argument(metavar="IMAGE", readable=False, help="Image to explain.")],
    other: Annotated[
        Path | None, typer.Argument(metavar="IMAGE2", readable=False, help="Image to match it with.")
    ] = None,
    *,
    out: Annotated[Path, typer.Option(metavar="FILE", help="Picture to write: NAME.png, NAME.webp, or NAME.jpg.")],
    model: ModelName = DEFAULT_MODEL,
    point: Annotated[
        tuple[float, float] | None,
        typer.Option(
            metavar="X Y", help="Point of IMAGE for global spatial attention, in pixels.", show_default="the center"
        ),
    ] = None,
    device: Device = None,
    json: AsJson = False,
) -> None:
    """Draw the attention maps of an image, and the matches of two images."""
    from glam.app.cli import terminal
    from glam.app.cli.explain_picture import Subject, explanation, summary
    from glam.errors import GlamError
    from glam.images import read_image
    from glam.index.local_matching import extract, match_features
    from glam.output import OutputKind, check_output, write_output

    if out.suffix.lower() not in PICTURES:
        raise GlamError(
            f"{out} is not the name of a picture. Choose a name with one of these suffixes: {', '.join(PICTURES)}."
        )
    files = [image] if other is None else [image, other]
    check_output(out, OutputKind("a picture that `glam explain` drew", _is_explanation), [*files, Path(model)])
    images = [read_image(file) for file in files]
    points = [(picture.width / 2, picture.height / 2) for picture in images]
    if point is not None:
        width, height = images[0].size
        if not (0 <= point[0] < width and 0 <= point[1] < height):
            raise GlamError(
                f"The point {point[0]:g} {point[1]:g} is outside {image}. Choose x below {width} and y below {height}."
            )
        points[0] = point

    # The arguments are checked first, since PyTorch takes seconds to import.
    import glam
    from glam.attention_maps import attention_maps

    loaded = glam.load(model, device)
    subjects = [
        Subject(file.name, picture, attention_maps(loaded, picture), at)
        for file, picture, at in zip(files, images, points, strict=True)
    ]
    found = None if other is None else match_features(*map(extract, images))
    picture = explanation(subjects, found)
    exif = picture.getexif()
    exif[SOFTWARE] = PROGRAM
    with write_output(out) as partial:
        picture.save(partial, PICTURES[out.suffix.lower()], quality=JPEG_QUALITY, exif=exif)
    if json:
        terminal.as_json({"out": str(out), **({} if found is None else {"inliers": found.count, "tried": len(found)})})
    else:
        terminal.say(f"{out}" if found is None else f"{out}: {summary(found)}")


def _is_explanation(path: Path) -> bool:
    from PIL import Image

    with Image.open(path) as picture:
        return bool(picture.getexif().get(SOFTWARE) == PROGRAM)
