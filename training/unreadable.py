"""Unreadable images of a run: each is noted once, and too many of them end the run.

Readable in a worker --batch, reasons--> ReadableLoader --reasons--> UnreadableLog --> OUT/unreadable.csv
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch.distributed
from torch.utils.data import Dataset, default_collate

from glam.datasets.collection import Collection, printable_path
from glam.datasets.manifest import write_rows
from glam.datasets.prepare import UNREADABLE, UNREADABLE_COLUMNS
from glam.datasets.sampler import SizeBatchSampler
from glam.datasets.substitutes import Readable, Reason, collate_readable
from glam.datasets.tables import csv_rows, open_text
from glam.errors import GlamError, ImageError
from glam.output import write_errors
from glam.plurals import count
from glam.training.throughput import TimedLoader


class DataError(GlamError):
    """The images of a run cannot be used.

    Args:
        message: what is wrong, and what to do.
        collections: the images that had been read.
        unreadable: the errors of images that had been found.
    """

    def __init__(
        self, message: str, collections: Sequence[Collection] = (), unreadable: Sequence[ImageError] = ()
    ) -> None:
        super().__init__(message)
        self.collections, self.unreadable = collections, unreadable


class UnreadableLog:
    """The unreadable images of a collection, each noted once.

    Args:
        count: number of images in the collection, readable or not.
        max_share: largest share of them that may be unreadable, 0 to 1.

    Attributes:
        reasons: reason by path, in the order in which the images were noted.
    """

    def __init__(self, count: int, max_share: float = 1.0) -> None:
        self.count = count
        self.max_share = max_share
        self.reasons: dict[str, str] = {}

    def note(self, reasons: Iterable[Reason]) -> None:
        """Notes unreadable images.

        Args:
            reasons: path and reason of each image, new or noted before.

        Raises:
            DataError: more images are unreadable than `max_share`, and this is the only process. Several processes
                check together, in `gather`, because an error in one of them would leave the others waiting.
        """
        for path, reason in reasons:
            self.reasons.setdefault(path, reason)
        if not _distributed():
            self.check()

    def gather(self) -> None:
        """Notes the unreadable images of all processes. Every process has to call it.

        Raises:
            DataError: more images are unreadable than `max_share`.
        """
        if _distributed():
            found: list[Any] = [None] * torch.distributed.get_world_size()
            torch.distributed.all_gather_object(found, list(self.reasons.items()))
            for path, reason in (reason for reasons in found for reason in reasons):
                self.reasons.setdefault(path, reason)
        self.check()

    def check(self) -> None:
        """Makes sure that not too many images are unreadable.

        Raises:
            DataError: more images are unreadable than `max_share`.
        """
        if len(self.reasons) > self.max_share * self.count:
            path, reason = next(iter(self.reasons.items()))
            images = count(self.count, "training image")
            raise DataError(
                f"More than {self.max_share:.0%} of the {images} cannot be read; first: {path}: {reason}. "
                f"Restore the files, or set a larger --data.max_unreadable."
            )


class ReadableLoader(TimedLoader):
    """A data loader that leaves out unreadable images, and notes them.

    Args:
        collection: the images.
        dataset: its item at a `Draw` raises `ImageError` if the image cannot be read.
        sampler: draws the batches.
        log: notes the unreadable images.
        collate: collates items of the dataset; None for PyTorch's way.
        substituted: whether a readable image takes the place of an unreadable one, so that no batch is missing.
        seed: seed of the choice of substitutes.
        options: keyword arguments of `torch.utils.data.DataLoader`.
    """

    def __init__(
        self,
        collection: Collection,
        dataset: Dataset[Any],
        sampler: SizeBatchSampler,
        log: UnreadableLog,
        *,
        collate: Callable[[list[Any]], Any] | None = None,
        substituted: bool,
        seed: int,
        **options: Any,
    ) -> None:
        super().__init__(
            Readable(collection, dataset, substituted=substituted, seed=seed),
            batch_sampler=sampler,
            collate_fn=partial(collate_readable, collate=collate or default_collate),
            **options,
        )
        self._log = log
        self._substituted = substituted

    def __iter__(self) -> Iterator[Any]:  # type: ignore[override]
        for batch, reasons in super().__iter__():
            self._log.note(reasons)
            if batch is not None:
                yield batch
            elif self._substituted:
                raise DataError(
                    f"No image of a batch can be read any more; first: {': '.join(reasons[0])}. "
                    "Restore the files, and run the command again with --resume."
                )


def write_unreadable(folder: Path, errors: Iterable[ImageError]) -> None:
    """Writes the list of unreadable images of a run, ``unreadable.csv``, atomically.

    Args:
        folder: folder of the run.
        errors: the error of each image.

    Raises:
        GlamError: the file cannot be written.
    """
    file = folder / UNREADABLE
    with write_errors(file):
        write_rows(file, UNREADABLE_COLUMNS, ([printable_path(error.source), error.reason] for error in errors))


def read_unreadable(folder: Path) -> list[Reason]:
    """Reads the list that `write_unreadable` wrote.

    Args:
        folder: folder of the run.

    Returns:
        Path and reason of each image.

    Raises:
        GlamError: the list cannot be read.
    """
    with open_text(folder / UNREADABLE) as text:
        return [(path, reason) for _, (path, reason) in csv_rows(text, folder / UNREADABLE)][1:]


def _distributed() -> bool:
    return torch.distributed.is_available() and torch.distributed.is_initialized()
