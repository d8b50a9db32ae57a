"""Landmarks for training and validation, as a Lightning data module."""

import math
import os
from pathlib import Path
from typing import Any

import lightning as L
import numpy as np
from lightning.pytorch.loops.progress import _ProcessedTracker
from lightning.pytorch.trainer import Trainer
from torch.utils.data import DataLoader

from glam.backbone import Backbone
from glam.datasets.collection import Collection, read_names, without
from glam.datasets.photographs import Item, Photographs, readable, resize_to
from glam.datasets.readers import read_collection
from glam.datasets.sampler import SizeBatchSampler, group_sizes
from glam.datasets.transforms import Augment, to_tensor
from glam.errors import GlamError
from glam.network import DescriptorNetwork
from glam.sizes import fitted_size


class LandmarkData(L.LightningDataModule):
    """Training photographs in batches of one size, and validation photographs of landmarks never trained on.

    Args:
        train: a folder with one sub-folder a landmark, a CSV manifest, or another source of `read_collection`.
        val: the same with other landmarks; by default ``val_share`` of the training landmarks are held out.
        leave_out: a text file with landmarks or paths, one a line, that ``train`` is read without: those of the test.
        val_share: share of the landmarks held out where there is no ``val``.
        size: longest side of training images, in pixels.
        val_size: longest side of validation images, in pixels, and of the trained model; ``size`` by default.
        batch_size: images a step, for each device.
        per_landmark: most images of one landmark in an epoch; all of them by default.
        crop: smallest share of an image's area that a random crop keeps.
        perspective: how far corners move, as a share of the side.
        light: strength of changes of brightness, contrast and saturation.
        workers: processes that read images, for each device; one less than there are cores by default.
        seed: of order, held-out landmarks and augmentation.
    """

    trainer: Trainer  # set by Lightning before any hook runs

    def __init__(
        self,
        train: Path,
        val: Path | None = None,
        leave_out: Path | None = None,
        val_share: float = 0.1,
        size: int = 512,
        val_size: int | None = None,
        batch_size: int = 64,
        per_landmark: int | None = None,
        crop: float = 0.5,
        perspective: float = 0.3,
        light: float = 0.3,
        workers: int | None = None,
        seed: int = 0,
    ) -> None:
        super().__init__()
        self.val_size = val_size or size
        self.size = size
        self.batch_size = batch_size
        self.per_landmark = per_landmark
        self.crop = crop
        self.perspective = perspective
        self.light = light
        self.workers = min((os.cpu_count() or 2) - 1, 16) if workers is None else workers
        self.seed = seed
        self.resume_at = (0, 0)  # epoch, batches of it that are done
        everything = read_collection(train)
        if leave_out is not None:
            everything = without(everything, read_names(leave_out))
        if val is None:
            train_part, val_part = hold_out(everything, val_share, seed)
        else:
            train_part, val_part = everything, read_collection(val)
        self.train, self.train_shapes, unreadable = readable(train_part)
        self.val, self.val_shapes, val_unreadable = readable(val_part)
        self.unreadable = [*unreadable, *val_unreadable]
        if len(self.train.landmarks) < 2:
            raise GlamError(f"{train}: training wants at least two landmarks, each in a sub-folder of its own")

    def train_dataloader(self) -> DataLoader[Item]:
        """Augmented images in batches of one size, entered where the run stopped."""
        backbone = self._backbone()
        sampler = SizeBatchSampler(
            group_sizes(self.train_shapes, self.size, multiple=_multiple(backbone), smallest_group=self.batch_size),
            self.batch_size,
            labels=self.train.labels,
            per_label=self.per_landmark,
            seed=self.seed,
            rank=self.trainer.global_rank,
            ranks=self.trainer.world_size,
        )
        sampler.epoch, sampler.start = self.resume_at
        self.resume_at = (0, 0)
        transform = Augment((self.crop, 1.0), self.perspective, self.light, mean=backbone.mean, std=backbone.std)
        return self._loader(Photographs(self.train, transform, seed=self.seed), sampler)

    def val_dataloader(self) -> DataLoader[Item]:
        """Validation images at the sizes that they are described at."""
        backbone = self._backbone()
        sizes = [fitted_size(w, h, self.val_size, backbone.multiple) for w, h in self.val_shapes]
        transform = resize_to(to_tensor(backbone.mean, backbone.std))
        sampler = SizeBatchSampler(
            sizes, self.batch_size, shuffle=False, rank=self.trainer.global_rank, ranks=self.trainer.world_size
        )
        return self._loader(Photographs(self.val, transform), sampler)

    def state_dict(self) -> dict[str, Any]:
        """How far the epoch has come; Lightning puts it into every checkpoint."""
        progress = self.trainer.fit_loop.epoch_loop.batch_progress.current
        assert isinstance(progress, _ProcessedTracker)
        done, all_batches = progress.processed, self.trainer.num_training_batches
        epoch = self.trainer.current_epoch
        return {"epoch": epoch + 1, "batches": 0} if done >= all_batches else {"epoch": epoch, "batches": done}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Goes on where `state_dict` was taken."""
        self.resume_at = (state_dict["epoch"], state_dict["batches"])

    def _loader(self, dataset: Photographs, sampler: SizeBatchSampler) -> DataLoader[Item]:
        return DataLoader(
            dataset,
            batch_sampler=sampler,
            num_workers=self.workers,
            persistent_workers=self.workers > 0,
            pin_memory=self.trainer.strategy.root_device.type == "cuda",
        )

    def _backbone(self) -> Backbone:
        network = self.trainer.lightning_module.network
        assert isinstance(network, DescriptorNetwork)
        return network.backbone


def hold_out(collection: Collection, share: float, seed: int) -> tuple[Collection, Collection]:
    """Splits a collection by landmark: training, and validation with ``share`` of the landmarks (at least two)."""
    known = [landmark for landmark in collection.landmarks if landmark]
    count = max(2, round(share * len(known)))
    if len(known) < count + 2:
        raise GlamError(f"{collection.root}: too few landmarks ({len(known)}) to hold some out; name a --data.val")
    held = set(np.random.default_rng(seed).choice(known, size=count, replace=False))
    training = collection.only(lambda photo: photo.landmark not in held)
    return training, collection.only(lambda photo: photo.landmark in held)


def _multiple(backbone: Backbone) -> int:
    """Sides of training sizes: multiples of the backbone's own and of 32, so that groups stay few."""
    return math.lcm(32, backbone.multiple) if backbone.multiple in (8, 16, 32) else int(backbone.multiple)
