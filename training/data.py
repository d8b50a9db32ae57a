"""Landmarks for training and validation, as a Lightning data module."""

import math
import os
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import lightning as L
import numpy as np
from lightning.pytorch.loops.progress import _ProcessedTracker
from lightning.pytorch.trainer import Trainer
from torch import Tensor
from torch.utils.data import Dataset

from glam.datasets.collection import Collection, exclude, read_names
from glam.datasets.image_dataset import ImageDataset, Item, resize_to, split_readable
from glam.datasets.readers import read_collection
from glam.datasets.sampler import EpochPart, SizeBatchSampler, group_sizes
from glam.datasets.transforms import to_tensor
from glam.datasets.views import View, Views, apply_changes, collate_views
from glam.errors import GlamError
from glam.sizes import fitted_size
from glam.training.options import DataOptions
from glam.training.throughput import TimedLoader

Batch = tuple[Tensor, Tensor, Tensor]
"""(b, 3, h, w) normalized images, their (b,) landmark ids, their (b,) indices in the collection."""


@dataclass(frozen=True)
class ImageFormat:
    """What a network takes.

    Attributes:
        multiple: pixels that the sides of its images are a multiple of.
        mean: 3 numbers, of the channels of images in [0, 1].
        std: 3 numbers, of the channels of images in [0, 1].
    """

    multiple: int
    mean: tuple[float, ...]
    std: tuple[float, ...]


class LandmarkData(L.LightningDataModule):
    """Training images in batches of one size, and validation images of landmarks never trained on.

    Args:
        train: a folder with one sub-folder per landmark, a CSV manifest, or another source of `read_collection`.
        val: a source with other landmarks; by default ``val_share`` of the training landmarks are held out.
        leave_out: a text file with landmarks or paths, one a line, that ``train`` is read without: those of the test.
        options: keyword arguments of `DataOptions`.

    Attributes:
        options: the options with their defaults.
        image_format: what the network takes; set before training, by `LandmarkModule.connect`.
        val_size, batch_size, workers: those of ``options``; by default ``size``, and one less than there are cores.
    """

    trainer: Trainer  # set by Lightning before any hook runs
    image_format: ImageFormat

    def __init__(self, train: Path, val: Path | None = None, leave_out: Path | None = None, **options: Any) -> None:
        super().__init__()
        chosen = self.options = DataOptions(**options)
        self.val_size = chosen.val_size or chosen.size
        self.batch_size = chosen.batch_size
        self.workers = min((os.cpu_count() or 2) - 1, 16) if chosen.workers is None else chosen.workers
        self.resume_at: tuple[int, tuple[EpochPart, ...]] = (0, ())  # epoch, parts of it that are done
        self.entered: tuple[int, tuple[EpochPart, ...], int] = (0, (), 0)  # epoch, parts before, batches they stand for
        everything = read_collection(train)
        if leave_out is not None:
            everything = exclude(everything, read_names(leave_out))
        if val is None:
            train_part, val_part = hold_out(everything, chosen.val_share, chosen.seed)
        else:
            train_part, val_part = everything, read_collection(val)
        self.train, self.train_shapes, unreadable = split_readable(train_part)
        self.val, self.val_shapes, val_unreadable = split_readable(val_part)
        self.unreadable = [*unreadable, *val_unreadable]
        if len(self.train.landmarks) < 2:
            raise GlamError(f"{train}: training wants at least two landmarks, each in a sub-folder of its own")

    def train_dataloader(self) -> TimedLoader:
        """Augmented images in batches of one size, from where the run stopped."""
        sampler = self.train_sampler()
        self.entered, self.resume_at = (sampler.epoch, sampler.earlier, sampler.skipped), (0, ())
        options = self.options
        changes = (options.crop, 1.0), options.perspective, options.light
        views = Views(self.train, *changes, seed=options.seed)
        if options.augment_on == "device":
            return self._loader(views, sampler)
        collate = partial(collate_views, mean=self.image_format.mean, std=self.image_format.std)
        return self._loader(views, sampler, collate)

    def train_sampler(self) -> SizeBatchSampler:
        """This process's batches, from where the run stopped."""
        multiple = _multiple(self.image_format.multiple)
        sampler = SizeBatchSampler(
            group_sizes(self.train_shapes, self.options.size, multiple=multiple, smallest_group=self.batch_size),
            self.batch_size,
            landmark_ids=self.train.landmark_ids,
            per_landmark=self.options.per_landmark,
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
        """Applies the changes of the views on the device, unless the workers did."""
        if len(batch) == 3:
            images, landmark_ids, indices = batch
            return images, landmark_ids, indices
        pixels, landmark_ids, indices, changes = batch
        return apply_changes(pixels, changes, self.image_format.mean, self.image_format.std), landmark_ids, indices

    def val_dataloader(self) -> TimedLoader:
        """Validation images at the sizes that they are described at."""
        sizes = [fitted_size(w, h, self.val_size, self.image_format.multiple) for w, h in self.val_shapes]
        transform = resize_to(to_tensor(self.image_format.mean, self.image_format.std))
        sampler = SizeBatchSampler(
            sizes, self.batch_size, shuffle=False, rank=self.trainer.global_rank, ranks=self.trainer.world_size
        )
        return self._loader(ImageDataset(self.val, transform), sampler)

    def state_dict(self) -> dict[str, Any]:
        """How far the epoch has come, and by how many processes; Lightning puts it into every checkpoint."""
        progress = self.trainer.fit_loop.epoch_loop.batch_progress.current
        assert isinstance(progress, _ProcessedTracker)
        epoch, ranks = self.trainer.current_epoch, self.trainer.world_size
        state = {"epoch": epoch, "ranks": ranks, "batch_size": self.batch_size}
        if progress.processed >= self.trainer.num_training_batches:
            return {**state, "epoch": epoch + 1, "parts": []}
        entered, earlier, skipped = self.entered
        if epoch != entered:
            earlier, skipped = (), 0
        parts = [*earlier, EpochPart(ranks, self.batch_size, progress.processed - skipped)]
        return {**state, "parts": [list(part) for part in parts]}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Goes on where `state_dict` was taken, by as many processes or by others."""
        self.resume_at = (state_dict["epoch"], tuple(EpochPart(*part) for part in state_dict["parts"]))

    def resume(self, state_dict: dict[str, Any]) -> tuple[int, int] | None:
        """Resumes from a `state_dict`.

        Args:
            state_dict: see `state_dict`.

        Returns:
            Batches of the interrupted epoch that count as done and batches in a whole epoch, both per process; None if
            the number of processes and the batch size are as before.
        """
        self.load_state_dict(state_dict)
        sampler = self.train_sampler()
        if (state_dict["ranks"], state_dict["batch_size"]) == (sampler.ranks, sampler.batch_size):
            return None
        return (sampler.skipped if sampler.earlier else len(sampler)), len(sampler)

    def _loader(
        self,
        dataset: Dataset[Item] | Dataset[View],
        sampler: SizeBatchSampler,
        collate: Callable[[list[View]], Batch] | None = None,
    ) -> TimedLoader:
        return TimedLoader(
            dataset,
            batch_sampler=sampler,
            collate_fn=collate,
            num_workers=self.workers,
            persistent_workers=self.workers > 0,
            pin_memory=self.trainer.strategy.root_device.type == "cuda",
        )


def hold_out(collection: Collection, share: float, seed: int) -> tuple[Collection, Collection]:
    """Splits a collection by landmark: training, and validation with ``share`` of the landmarks (at least two)."""
    known = [landmark for landmark in collection.landmarks if landmark]
    count = max(2, round(share * len(known)))
    if len(known) < count + 2:
        raise GlamError(f"{collection.root}: too few landmarks ({len(known)}) to hold some out; name a --data.val")
    held = set(np.random.default_rng(seed).choice(known, size=count, replace=False))
    training = collection.filter(lambda image: image.landmark not in held)
    return training, collection.filter(lambda image: image.landmark in held)


def _multiple(multiple: int) -> int:
    """Sides of training sizes: multiples of the network's own and of 32, so that groups stay few."""
    return math.lcm(32, multiple) if multiple in (8, 16, 32) else multiple
