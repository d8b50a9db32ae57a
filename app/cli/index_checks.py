"""`glam index verify`, `duplicates`, and `info`: check and inspect an index, and change nothing."""

from dataclasses import asdict
from typing import Annotated

import typer

from glam.app.cli.options import AsJson, Device, IndexModel, IndexPath, model_loader, not_nan


def index_verify(
    index: IndexPath,
    sample: Annotated[
        int, typer.Option(min=0, metavar="N", help="Number of images to describe again and compare.")
    ] = 16,
    model: IndexModel = None,
    device: Device = None,
    json: AsJson = False,
) -> None:
    """Check the files of an index and a sample of its descriptors; exit code 1 if anything is wrong."""
    from glam.app.cli import terminal
    from glam.index import verify

    found = verify(index, model_loader(index, model, device) if sample else None, sample=sample)
    if json:
        terminal.as_json({"index": str(index), **asdict(found)})
    else:
        for problem in found.problems:
            terminal.say(f"{index / problem.file}: {problem.what}")
        for note in found.notes:
            terminal.note(f"{index}: {note}")
        if not found.problems:
            checked = f"{terminal.count(found.images, 'image')}, {found.sampled:,} described again"
            terminal.say(f"{index}: no problems found ({checked})")
    if found.problems:
        raise typer.Exit(1)


def index_duplicates(
    index: IndexPath,
    threshold: Annotated[
        float,
        typer.Option(min=-1, max=1, callback=not_nan, metavar="SCORE", help="Minimum score of two near-duplicates."),
    ] = 0.95,
    json: AsJson = False,
) -> None:
    """List groups of near-duplicate images."""
    from glam.app.cli import terminal
    from glam.index import Index, near_duplicates

    with Index.open(index) as opened, terminal.progress("comparing") as report:
        groups = near_duplicates(opened, threshold, progress=report)
    if json:
        terminal.as_json([asdict(group) for group in groups])
        return
    for number, group in enumerate(groups, start=1):
        images = terminal.count(len(group.images), "image")
        terminal.say(f"group {number}: {images}, scores from {group.similarity:.3f}")
        for entry in group.images:
            terminal.say(f"  {entry.path}")
    total = terminal.count(sum(len(group.images) for group in groups), "image")
    terminal.say(f"{index}: {terminal.count(len(groups), 'group')} of near-duplicates, {total}")


def index_info(index: IndexPath, json: AsJson = False) -> None:
    """Show facts about an index."""
    from glam.app.cli import terminal
    from glam.app.cli.index_facts import facts_in_words
    from glam.index import info

    found = info(index)
    if json:
        terminal.as_json({"index": str(index), **asdict(found), "skipped": found.skipped.to_dict()})
        return
    terminal.table(
        [str(index), ""], [[name, text] for name, text in facts_in_words(index, found).items()], piped_header=False
    )
    terminal.skipped(found.skipped, len(found.unreadable))
    terminal.unreadable(list(found.unreadable.items()))
