"""The folders that `glam eval folder` reads, and what it skips in them."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from glam.app.cli import terminal
from glam.datasets.collection import Collection, ScanOptions
from glam.datasets.readers import read_collection
from glam.errors import GlamError
from glam.eval.folder import FolderReport


def read_folders(folder: Path, distractors: Path | None, scan: ScanOptions) -> tuple[Collection, Collection | None]:
    """Reads the images to evaluate and their distractors, and says how many images and landmarks there are.

    Args:
        folder: source of the images.
        distractors: source of the distractors, whose landmarks do not matter; None for none.
        scan: options for both.

    Returns:
        The images and the distractors; None for no distractors.
    """
    landmarks = read_collection(folder, scan)
    terminal.contents(landmarks)
    return landmarks, None if distractors is None else read_collection(distractors, replace(scan, landmark_from=None))


def report_skipped(landmarks: Collection, distractors: Collection | None, report: FolderReport) -> dict[str, Any]:
    """Says what was skipped and which images could not be read.

    Returns:
        What was skipped, as entries of the result.
    """
    terminal.skipped(landmarks.skipped, len(report.unreadable))
    terminal.unreadable([(error.source, error.reason) for error in report.unreadable])
    if distractors is None:
        return {"skipped": landmarks.skipped.to_dict()}
    terminal.skipped(distractors.skipped)
    return {"skipped": landmarks.skipped.to_dict(), "skipped_distractors": distractors.skipped.to_dict()}


@contextmanager
def skipped_before_error(*collections: Collection | None) -> Iterator[None]:
    """Says what was skipped if the block fails, because that is often the cause."""
    try:
        yield
    except GlamError:
        for collection in filter(None, collections):
            terminal.skipped(collection.skipped)
        raise
