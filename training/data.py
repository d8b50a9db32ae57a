"""Lightning data module: training images of landmarks, and validation images of other landmarks."""

import math
import os
from collections import Counter
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import lightning as L
import numpy as np
from lightning.pytorch.loops.progress import _ProcessedTracker
from lightning.pytorch.trainer import Trainer
from torch import Tensor

from glam.datasets.collection import Collection, ScanOptions, exclude, read_names
from glam.datasets.image_dataset import ImageDataset, split_readable
from glam.datasets.readers import read_collection
from glam.datasets.sampler import EpochPart, LandmarkSampling, SizeBatchSampler, group_sizes
from glam.datasets.views import Views, apply_changes, collate_views
from glam.errors import GlamError, ImageError
from glam.eval.folder import has_pair
from glam.plurals import count
from glam.sizes import fitted_size
from glam.training.options import DataOptions
from glam.training.unreadable import DataError, ReadableLoader, UnreadableLog

Batch = tuple[Tensor, Tensor, Tensor]
"""(b, 3, h, w) normalized images, their (b,) landmark ids, and their (b,) indices in the collection. In validation, the
images are (b, h, w, 3), uint8."""


@dataclass(frozen=True)
class ImageFormat:
    """Input format of a network.

    Attributes:
        multiple: the sides of its images are multiples of this, in pixels.
        mean: mean of each of the 3 channels, of images in [0, 1].
        std: standard deviation of each of the 3 channels, of images in [0, 1].
    """

    multiple: int
    mean: tuple[float, ...]
    std: tuple[float, ...]


class LandmarkData(L.LightningDataModule):
    """Training images in batches of one size, and validation images of landmarks that are not trained on.

    Args:
        train: Training images: a folder with one sub-folder per landmark, or a list of images (docs/datasets.md).
        val: Validation images of other landmarks; null to hold out a share of the training landmarks.
        leave_out: Text file with landmarks or paths to exclude from training, one per line.
        options: keyword arguments of `DataOptions`.

    Attributes:
        options: the options, including defaults.
        image_format: input format of the network, set by `LandmarkModule.connect` before training.
        val_size: longest side of validation images in pixels.
        batch_size: images per step and device.
        workers: number of processes that read images, per device.
        sources: all training images with a landmark and all validation images, readable or not.
        collections: the images of ``train`` and of ``val``, as they were read.
        without_landmark: number of training images that are excluded because they have no landmark.

    Raises:
        DataError: a source cannot be read, there are too few landmarks, or too many images are unreadable.
    """

    trainer: Trainer  # set by Lightning before any hook runs
    image_format: ImageFormat

    def __init__(self, train: Path, val: Path | None = None, leave_out: Path | None = None, **options: Any) -> None:
        super().__init__()
        chosen = self.options = DataOptions(**options)
        self.val_size = chosen.val_size or chosen.size
        self.batch_size = chosen.batch_size
        self.workers = min((os.cpu_count() or 2) - 1, 16) if chosen.workers is None else chosen.workers
        self.resume_at: tuple[int, tuple[EpochPart, ...]] = (0, ())  # epoch, its finished parts
        self.entered: tuple[int, tuple[EpochPart, ...], int] = (0, (), 0)  # epoch, its finished parts, their batches
        scan = ScanOptions(tuple(chosen.exclude), chosen.follow_links, landmark_from=chosen.landmark_from)
        self.collections: list[Collection] = []
        self._logs: tuple[UnreadableLog, ...] = ()
        try:
            self._read(train, val, leave_out, scan)
        except GlamError as error:
            raise DataError(str(error), self.collections, self.unreadable) from error

    def _read(self, train: Path, val: Path | None, leave_out: Path | None, scan: ScanOptions) -> None:
        """Reads and splits the sources.

        Raises:
            GlamError: a source cannot be read, there are too few landmarks, or too many images are unreadable.
        """
        chosen = self.options
        everything = read_collection(train, scan)
        self.collections.append(everything)
        if leave_out is not None:
            everything = exclude(everything, read_names(leave_out))
        if val is None:
            train_part, val_part = hold_out(everything, chosen.val_share, chosen.seed)
        else:
            train_part, val_part = everything, read_collection(val, scan)
            self.collections.append(val_part)
        labelled = train_part.filter(lambda image: bool(image.landmark))
        self.sources = labelled, val_part
        self.without_landmark = len(train_part) - len(labelled)
        self.train, self.train_shapes, unreadable = split_readable(labelled)
        self.val, self.val_shapes, val_unreadable = split_readable(val_part)
        self._logs = UnreadableLog(len(labelled), chosen.max_unreadable), UnreadableLog(len(val_part))
        for log, errors in zip(self._logs, (unreadable, val_unreadable), strict=True):
            log.note((error.source, error.reason) for error in errors)
        if len(self.train.landmarks) < 2:
            raise GlamError(
                f"{train} has fewer than two landmarks to train on. Put the images of each landmark into a sub-folder."
            )
        _check_pairs(self.val)

    @property
    def unreadable(self) -> list[ImageError]:
        """Errors of the images that this process could not read so far, and of all processes at the end of an epoch."""
        return [ImageError(*reason) for log in self._logs for reason in log.reasons.items()]

    def gather_unreadable(self) -> None:
        """Collects `unreadable` from all processes. Every process has to call it.

        Raises:
            GlamError: too many training images are unreadable.
        """
        for log in self._logs:
            log.gather()

    def train_dataloader(self) -> ReadableLoader:
        """Loads augmented training images in batches of one size, from the batch at which an earlier run stopped."""
        sampler = self.train_sampler()
        self.entered, self.resume_at = (sampler.epoch, sampler.earlier, sampler.skipped), (0, ())
        options = self.options
        changes = (options.crop, 1.0), options.perspective, options.light
        views = Views(self.train, *changes, seed=options.seed)
        collate = partial(collate_views, mean=self.image_format.mean, std=self.image_format.std)
        return ReadableLoader(
            self.train,
            views,
            sampler,
            self._logs[0],
            collate=None if options.augment_on == "device" else collate,
            substituted=True,
            seed=options.seed,
            **self._loader_options(),
        )

    def train_sizes(self) -> list[tuple[int, int]]:
        """The (height, width) in pixels at which each training image is trained on."""
        multiple = _multiple(self.image_format.multiple)
        return group_sizes(self.train_shapes, self.options.size, multiple=multiple, smallest_group=self.batch_size)

    def train_sampler(self) -> SizeBatchSampler:
        """The sampler of this process's training batches, from the batch at which an earlier run stopped."""
        sampler = SizeBatchSampler(
            self.train_sizes(),
            self.batch_size,
            sampling=LandmarkSampling(
                self.train.landmark_ids, self.options.per_landmark, self.options.images_per_landmark
            ),
            seed=self.options.seed,
            rank=self.trainer.global_rank,
            ranks=self.trainer.world_size,
        )
        sampler.epoch, sampler.earlier = self.resume_at
        if sampler.earlier and sampler.earlier[-1][:2] == (sampler.ranks, sampler.batch_size):
            *earlier, current = sampler.earlier
            sampler.earlier, sampler.start = tuple(earlier), current.batches
        return sampler

    def on_after_batch_transfer(self, batch: Any, dataloader_idx: int) -> Batch:
        """Applies the changes of viewpoint and light on the device, unless the workers have done so."""
        if len(batch) == 3:
            images, landmark_ids, indices = batch
            return images, landmark_ids, indices
        pixels, landmark_ids, indices, changes = batch
        return apply_changes(pixels, changes, self.image_format.mean, self.image_format.std), landmark_ids, indices

    def val_dataloader(self) -> ReadableLoader:
        """Loads validation images at the sizes at which descriptors are computed. Unreadable images are left out."""
        multiple = self.image_format.multiple
        sizes = [fitted_size(w, h, self.val_size, multiple) for w, h in self.val_shapes]
        sampler = SizeBatchSampler(
            sizes, self.batch_size, shuffle=False, rank=self.trainer.global_rank, ranks=self.trainer.world_size
        )
        images = ImageDataset(self.val, self.val_size, multiple)
        return ReadableLoader(
            self.val, images, sampler, self._logs[1], substituted=False, seed=0, **self._loader_options()
        )

    def state_dict(self) -> dict[str, Any]:
        """The progress within the epoch and the number of processes; Lightning stores it in each checkpoint."""
        progress = self.trainer.fit_loop.epoch_loop.batch_progress.current
        assert isinstance(progress, _ProcessedTracker)
        epoch, ranks = self.trainer.current_epoch, self.trainer.world_size
        state = {
            "epoch": epoch,
            "ranks": ranks,
            "batch_size": self.batch_size,
            "unreadable": [log.reasons for log in self._logs],
        }
        if progress.processed >= self.trainer.num_training_batches:
            return {**state, "epoch": epoch + 1, "parts": []}
        entered, earlier, skipped = self.entered
        if epoch != entered:
            earlier, skipped = (), 0
        parts = [*earlier, EpochPart(ranks, self.batch_size, progress.processed - skipped)]
        return {**state, "parts": [list(part) for part in parts]}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Makes the next epoch start where ``state_dict`` was taken, with any number of processes."""
        self.resume_at = (state_dict["epoch"], tuple(EpochPart(*part) for part in state_dict["parts"]))
        for log, reasons in zip(self._logs, state_dict.get("unreadable", ()), strict=False):
            log.note(reasons.items())

    def resume(self, state_dict: dict[str, Any]) -> tuple[int, int] | None:
        """Resumes from a `state_dict` and converts its progress if the number of processes or the batch size differs.

        Args:
            state_dict: state from a checkpoint.

        Returns:
            The number of batches of the interrupted epoch that count as done and the number of batches in a complete
            epoch, both per process; None if the number of processes and the batch size are unchanged.
        """
        self.load_state_dict(state_dict)
        sampler = self.train_sampler()
        if (state_dict["ranks"], state_dict["batch_size"]) == (sampler.ranks, sampler.batch_size):
            return None
        return (sampler.skipped if sampler.earlier else len(sampler)), len(sampler)

    def _loader_options(self) -> dict[str, Any]:
        return {
            "num_workers": self.workers,
            "persistent_workers": self.workers > 0,
            "pin_memory": self.trainer.strategy.root_device.type == "cuda",
        }


def hold_out(collection: Collection, share: float, seed: int) -> tuple[Collection, Collection]:
    """Splits a collection into training and validation landmarks.

    Args:
        collection: the images.
        share: share of the landmarks to hold out for validation, 0 to 1; at least two are held out.
        seed: seed of the choice.

    Returns:
        The training images and the validation images.

    Raises:
        GlamError: fewer than two landmarks would remain for training.
    """
    known = collection.landmarks
    held_count = max(2, round(share * len(known)))
    if len(known) < held_count + 2:
        raise GlamError(
            f"{collection.root} has {count(len(known), 'landmark')}, too few to hold {held_count} out for validation. "
            "Add landmarks, or name a folder with others: --data.val."
        )
    images = Counter(image.landmark for image in collection.images)
    pairs = [landmark for landmark in known if images[landmark] > 1]  # only these can be scored
    source = pairs if len(pairs) >= held_count else known
    held = set(np.random.default_rng(seed).choice(source, size=held_count, replace=False))
    training = collection.filter(lambda image: image.landmark not in held)
    return training, collection.filter(lambda image: image.landmark in held)


def _check_pairs(collection: Collection) -> None:
    """Makes sure that a score can be computed.

    Raises:
        GlamError: no landmark has two images.
    """
    if not has_pair(collection.landmark_ids):
        raise GlamError(
            f"{collection.root} cannot be used for validation, because no landmark has two readable images in it. "
            "Add images, or name another folder: --data.val."
        )


def _multiple(multiple: int) -> int:
    """The multiple for the sides of training images, in pixels: at least 32 for the usual strides, for few sizes."""
    return math.lcm(32, multiple) if multiple in (8, 16, 32) else multiple
