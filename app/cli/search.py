"""`glam search`: find the most similar images."""

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from glam.app.cli.options import AsJson, Device, IndexModel, IndexPath, not_nan

if TYPE_CHECKING:
    from glam.index import Index, Query

DEFAULT_TOP = 10


def search(
    index: IndexPath,
    image: Annotated[Path, typer.Argument(metavar="IMAGE", readable=False, help="The image to search with.")],
    bbox: Annotated[
        tuple[float, float, float, float] | None,
        typer.Option(metavar="X1 Y1 X2 Y2", help="Search with this region, in pixels of the upright image."),
    ] = None,
    top: Annotated[
        int | None,
        typer.Option(
            min=1,
            metavar="N",
            help="Maximum number of results.",
            show_default=f"{DEFAULT_TOP}, or all with --threshold",
        ),
    ] = None,
    where: Annotated[
        str | None, typer.Option(metavar="FILTER", help="Filter expression: \"city = 'Paris' and year > 2010\".")
    ] = None,
    threshold: Annotated[
        float | None,
        typer.Option(
            min=-1, max=1, callback=not_nan, metavar="SCORE", help="Minimum score (cosine similarity) of a result."
        ),
    ] = None,
    rerank: Annotated[
        str | None,
        typer.Option(metavar="STEPS", help='Re-rank the results: "default", or steps such as aqe,geometric:depth=50.'),
    ] = None,
    model: IndexModel = None,
    device: Device = None,
    json: AsJson = False,
) -> None:
    """Find the images of an index that are most similar to an image."""
    import glam
    from glam.app.cli import terminal
    from glam.errors import ImageError
    from glam.images import image_errors, read_image, read_regular_file
    from glam.index import Index, Query
    from glam.index.local_matching.rootsift import extract
    from glam.index.rerank.chain import parse_chain

    chain = None if rerank is None else parse_chain(rerank)
    with Index.open(index, device=device) as opened:
        loaded = glam.load(model or opened.model_name, device)
        opened.check_model(loaded)
        with image_errors(image):
            data = read_regular_file(image)
        try:
            descriptor = loaded.describe([data], boxes=[bbox], size=opened.size, scales=opened.scales)[0]
        except ImageError as error:
            raise ImageError(str(image), error.reason) from error
        most = top or (DEFAULT_TOP if threshold is None else None)
        query = Query(descriptor, lambda: extract(read_image(data), box=bbox))
        (hits,) = opened.search(query, most, where=where, threshold=threshold, rerank=chain)
        root = Path(opened.root)
        why_empty = "" if hits or json else _why_empty(opened, query, where, threshold)
    if json:
        terminal.as_json(
            [{"rank": hit.rank, "score": hit.score, "confidence": hit.confidence, **asdict(hit.entry)} for hit in hits]
        )
    elif why_empty:
        terminal.note(why_empty)
    else:
        rows = [
            [str(hit.rank), f"{hit.score:.3f}", hit.landmark, terminal.openable(root / hit.path)]
            for hit in hits
        ]  # fmt: skip
        terminal.table(["rank", "score", "landmark", "path"], rows, piped_header=False)


def _why_empty(index: "Index", query: "Query", where: str | None, threshold: float | None) -> str:
    """Why a search found nothing."""
    if not len(index):
        return "The index holds no images. Add some with `glam index sync`."
    (best,) = index.search(query, 1, where=where)
    if not best:
        return "No image meets the filter of --where."
    return f"No image scores at least {threshold:g}; the best scores {best[0].score:.2f}."
