"""`glam adapt`: adapt a model to the landmarks of a folder."""

from pathlib import Path
from typing import Annotated

import typer

from glam.app.cli.options import (
    Device,
    Exclude,
    FollowLinks,
    Force,
    NamesLandmarks,
    Scales,
    Size,
    scan_options,
    settings_of,
)


def adapt(
    model: Annotated[str, typer.Argument(metavar="MODEL", help="Model file, name of a bundled model, or timm:NAME.")],
    folder: Annotated[
        Path,
        typer.Argument(
            metavar="FOLDER", readable=False, help="Images in one sub-folder per landmark, or a CSV manifest."
        ),
    ],
    out: Annotated[Path, typer.Option(metavar="FILE", help="Model file to write, NAME.safetensors.")],
    seed: Annotated[int, typer.Option(min=0, metavar="N", help="Seed of the held-out landmarks.")] = 0,
    force: Force = False,
    size: Size = None,
    scales: Scales = None,
    device: Device = None,
    exclude: Exclude = None,
    follow_links: FollowLinks = False,
    landmark_from: NamesLandmarks = None,
) -> None:
    """Adapt a model to your landmarks in seconds, if that helps on held-out ones."""
    from dataclasses import asdict, replace

    import torch

    import glam
    from glam import model_file
    from glam.app.cli import terminal
    from glam.app.cli.fit_images import describe_images, refuse_test_images
    from glam.datasets.readers import read_collection
    from glam.eval.whitening import with_whitening, without_whitening
    from glam.model import Model, bundled_models
    from glam.output import check_output
    from glam.training.adapt import fit_if_better

    check_output(out, model_file.MODEL, [folder, bundled_models().get(model, Path(model))])
    collection = read_collection(folder, scan_options(exclude, follow_links, landmark_from))
    terminal.contents(collection)
    tested = refuse_test_images(collection, force)
    opened = glam.load(model, device)
    settings = settings_of(opened, size, scales)
    hardware = next(opened.network.parameters()).device
    bare = Model(model, without_whitening(opened.network).to_device(hardware), opened.header)
    rows, read, errors = describe_images(bare, collection, settings)
    with torch.inference_mode():
        before = opened.network.whitened(torch.from_numpy(rows[read]).to(hardware)).cpu().numpy()
    landmark_ids = collection.landmark_ids[read]
    found = fit_if_better(rows[read], before, landmark_ids, seed=seed)
    terminal.say(str(found.gain))
    if found.whitening is None:
        terminal.say(f"{out} is not written: {model} stays unchanged, because the interval of the gain is not above 0.")
    else:
        adapted = with_whitening(bare.network, found.whitening)
        images = int((landmark_ids >= 0).sum())
        facts = {
            "model": opened.fingerprint,
            "source": str(folder),
            "images": images,
            "benchmark_images": tested,
            "seed": seed,
            "held_out": asdict(found.gain),
        }
        header = replace(
            opened.header,
            architecture=adapted.architecture,
            size=settings.size,
            scales=settings.scales,
            training={**opened.header.training, "adapted": facts},
        )
        model_file.save(out, adapted, header)
        terminal.say(f"{out}: {model}, adapted to {terminal.count(images, 'image')}")
    terminal.exit_if_incomplete(collection, errors=errors)
