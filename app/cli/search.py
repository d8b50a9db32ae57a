"""`glam search`: find the most similar images."""

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from glam.app.cli.options import AsJson, Device, IndexModel, IndexPath


def search(
    index: IndexPath,
    image: Annotated[Path, typer.Argument(help="The image to search with.")],
    bbox: Annotated[
        tuple[float, float, float, float] | None,
        typer.Option(metavar="X1 Y1 X2 Y2", help="Search with this part of it, in pixels of the upright image."),
    ] = None,
    top: Annotated[
        int | None, typer.Option(min=1, help="Most results; 10 by default, or all with --threshold.")
    ] = None,
    where: Annotated[
        str | None, typer.Option(help="Filter expression, as in \"city = 'Paris' and year > 2010\".")
    ] = None,
    threshold: Annotated[
        float | None, typer.Option(min=-1, max=1, help="Lowest score (cosine similarity) of a result.")
    ] = None,
    rerank: Annotated[
        str | None,
        typer.Option(metavar="CHAIN", help="Re-rank the results: default, or steps as in aqe,geometric:depth=50."),
    ] = None,
    model: IndexModel = None,
    device: Device = None,
    json: AsJson = False,
) -> None:
    """Find the images most similar to an image."""
    import glam
    from glam.app.cli import terminal
    from glam.errors import ImageError
    from glam.images import image_errors, read_image
    from glam.index import Index
    from glam.index.local_matching.rootsift import extract
    from glam.index.rerank.base import Query
    from glam.index.rerank.chain import parse_chain

    chain = None if rerank is None else parse_chain(rerank)
    with Index.open(index, device=device) as opened:
        loaded = glam.load(model or opened.model_name, device)
        opened.check_model(loaded)
        with image_errors(image):
            data = image.read_bytes()
        try:
            descriptor = loaded.describe([data], boxes=[bbox], size=opened.size, scales=opened.scales)[0]
        except ImageError as error:
            raise ImageError(str(image), error.reason) from error
        most = top or (10 if threshold is None else None)
        query = Query(descriptor, lambda: extract(read_image(data), box=bbox))
        (hits,) = opened.search(query, most, where=where, threshold=threshold, rerank=chain)
    if json:
        terminal.as_json(
            [{"rank": hit.rank, "score": hit.score, "confidence": hit.confidence, **asdict(hit.entry)} for hit in hits]
        )
    else:
        rows = [[str(hit.rank), f"{hit.score:.3f}", hit.landmark, hit.path] for hit in hits]
        terminal.table(["rank", "score", "landmark", "path"], rows)
