"""Options of the Lightning module and the data module, with the names that `glam train` and its configurations use.

    glam train --model.lr 1e-4 --data.size 320    ModelOptions.lr of LandmarkModule, DataOptions.size of LandmarkData

LightningCLI reads names, types, defaults, and help texts from these classes, because the initializers of both modules
pass their keyword arguments on to them.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from glam.datasets.collection import LandmarkFrom
from glam.registry import as_choice
from glam.training.arguments import OptionError

Range = tuple[float, float, str]
"""Smallest and largest value of an option, and the range in words."""

POSITIVE: Range = (math.ulp(0.0), 1e30, "a number above 0")
NOT_NEGATIVE: Range = (0.0, 1e30, "a number of at least 0")
COUNT: Range = (1, 1e9, "a whole number of at least 1")
SEED: Range = (0, 2**32 - 1, "a whole number from 0 to 4294967295")
SHARE: Range = (0.0, 1.0, "a number from 0 to 1")
BELOW_ONE: Range = (0.0, math.nextafter(1, 0), "a number from 0 to below 1")


CHOICES = {"attention": "glam", "pooling": "gem", "loss": "arcface"}
"""Options that name an entry of a registry (`glam.registry`), and the name that their options alone mean."""


def choice(name: str, value: dict[str, Any] | str | None) -> dict[str, Any] | None:
    """An option that names an entry of a registry in its full form: ``name``, and options by name.

    Args:
        name: one of `CHOICES`.
        value: value of the option.

    Raises:
        OptionError: there is no pooling.
    """
    full = as_choice(value, CHOICES[name])
    if full is None and name == "pooling":
        raise OptionError("--model.pooling is null. Give a name, such as gem.")
    return full


def check_range(name: str, value: float | None, allowed: Range) -> None:
    """Makes sure that an option is in its range; None always is.

    Args:
        name: name on the command line, such as ``data.size``.
        value: value of the option.
        allowed: range of the option.

    Raises:
        OptionError: the value is out of the range, or is NaN.
    """
    low, high, words = allowed
    if value is not None and not low <= value <= high:
        raise OptionError(f"--{name} is {value}. Give {words}.")


def check_ranges(group: str, options: object, ranges: Mapping[str, Range]) -> None:
    """Checks several options with `check_range`.

    Args:
        group: prefix of the options on the command line, such as ``data``.
        options: has an attribute per option.
        ranges: range by name of the option.

    Raises:
        OptionError: an option is out of its range, or is NaN.
    """
    for name, allowed in ranges.items():
        check_range(f"{group}.{name}", getattr(options, name), allowed)


@dataclass(frozen=True)
class ModelOptions:
    """Options of `glam.training.module.LandmarkModule`.

    Attributes:
        attention: Attention between backbone and pooling: glam, se, eca, cbam, non_local, or with options, such as
            {name: glam, reduction: 256}; null for none.
        pooling: Pooling: gem, signed_gem, mean, cls, cls+gem, or with options, such as {name: gem, p: 3.0}.
        loss: Loss: arcface, contrastive, triplet, distillation, a class of pytorch-metric-learning, or with options,
            such as {name: arcface, margin: 0.3, scale: 30, sharded: false}; null for arcface. Teachers replace
            arcface by distillation.
        dropout: Share of the descriptor's entries dropped in training, from 0 to below 1.
        pretrained: Start the backbone from ImageNet weights, or from a file with weights of timm (.safetensors, .pth).
        start: Initial descriptor layer and landmark centers: "pca" for a PCA of the backbone's features and the means
            of the landmarks, or "random".
        whitening: Strength of the whitening in the initial PCA, from 0 (none) to 1 (full PCA whitening).
        start_images: Maximum number of images that the PCA is fitted to.
        input_weight: Initial weight of GLAM's input in its fusion, between 0 and 1, with zero spatial attention; null
            for a random start of GLAM.
        optimizer: AdamW, or SGD with momentum 0.9.
        lr: Peak learning rate of the backbone.
        new_lr: Peak learning rate of attention, pooling, descriptor layer, and loss.
        attention_lr: Peak learning rate of the attention; null for the value of new_lr.
        layer_decay: Factor of the learning rate from each layer of the backbone to the one before it, above 0 to 1.
        weight_decay: Weight decay; norms, biases, and scalars have none.
        warmup: Share of the steps in which the learning rate rises, 0 to 1; then it falls to 0 along a cosine.
        freeze_batch_norm: Keep the statistics of all batch norms, and the gains and biases of the backbone's.
        compiled: Compile the backbone with torch.compile, which takes minutes and makes steps faster: "any_size" once
            for all image sizes, "each_size" once per size.
        stride: Pixels of the image per position of the feature map, 8 or 16; null for the backbone's own stride.
        drop_path: Share of the residual branches of the backbone that are skipped in training, from 0 to below 1.
        lora: Rank of trained low-rank updates of the backbone's attention projections, whose other weights are frozen
            (LoRA, for vision transformers); null to train all weights.
        ema: Decay per step of a moving average of the weights, which is validated and written; null for none.
        patched: Share of the batches to which CutMix is applied, 0 to 1; requires teachers.
        end_whitening: Strength of the whitening after training, from 0 (none) to 1 (full PCA whitening).
        seed: Seed of dropout, CutMix, and the landmark centers; `glam train` sets it to data.seed.
    """

    attention: dict[str, Any] | str | None = None
    pooling: dict[str, Any] | str = field(default_factory=lambda: {"name": "gem"})
    loss: dict[str, Any] | str | None = None
    dropout: float = 0.0
    pretrained: bool | Path = True
    start: Literal["pca", "random"] = "pca"
    whitening: float = 0.5
    start_images: int = 20_000
    input_weight: float | None = 0.9
    optimizer: Literal["adamw", "sgd"] = "adamw"
    lr: float = 1e-4
    new_lr: float = 1e-3
    attention_lr: float | None = None
    layer_decay: float = 1.0
    weight_decay: float = 1e-5
    warmup: float = 0.05
    freeze_batch_norm: bool = True
    compiled: Literal["no", "any_size", "each_size"] = "no"
    stride: int | None = None
    drop_path: float = 0.0
    lora: int | None = None
    ema: float | None = None
    patched: float = 0.0
    end_whitening: float = 0.0
    seed: int = 0

    def __post_init__(self) -> None:
        """Brings the choices into their full form, and checks the ranges."""
        for name in CHOICES:
            object.__setattr__(self, name, choice(name, getattr(self, name)))
        if self.stride not in (None, 8, 16):
            raise OptionError(f"--model.stride is {self.stride}. Give 8, 16, or null.")
        check_ranges(
            "model",
            self,
            {
                "dropout": BELOW_ONE,
                "whitening": SHARE,
                "start_images": COUNT,
                "input_weight": SHARE,
                "lr": NOT_NEGATIVE,
                "new_lr": NOT_NEGATIVE,
                "weight_decay": NOT_NEGATIVE,
                "warmup": SHARE,
                "attention_lr": NOT_NEGATIVE,
                "layer_decay": (math.ulp(0.0), 1.0, "a number above 0, up to 1"),
                "drop_path": BELOW_ONE,
                "lora": COUNT,
                "ema": BELOW_ONE,
                "patched": SHARE,
                "end_whitening": SHARE,
                "seed": SEED,
            },
        )


@dataclass(frozen=True)
class DataOptions:
    """Options of `glam.training.data.LandmarkData`.

    Attributes:
        val_share: Share of the landmarks held out for validation without data.val, 0 to 1; at least two landmarks.
        size: Longest side of training images in pixels.
        val_size: Longest side of validation images in pixels, also the model's default; null for the value of size.
        batch_size: Images per step and device.
        per_landmark: Maximum number of images per landmark and epoch; null for all images.
        images_per_landmark: Images of each landmark in a batch (K of PxK sampling), which losses over pairs need; null
            for batches of random images.
        crop: Smallest share of an image's area that a random crop covers, above 0 to 1.
        perspective: Largest move of a corner along each axis, as a share of half the side, from 0 (none) to below 1.
        light: Largest change of brightness, contrast, and saturation, as a share; 0 for none.
        augment_on: Where viewpoint and light are changed: in the "workers", or on the training "device", which relieves
            the workers.
        workers: Processes that read images, per device; null for one less than there are cores, at most 16.
        seed: Seed of image order, held-out landmarks, and augmentation.
        exclude: Patterns of paths to leave out, as in a .gitignore. On the command line, repeat the option per pattern.
        follow_links: Follow links to folders.
        landmark_from: What names the landmark of an image: the path of its "folder", the name of the folder alone
            ("parent"), the "manifest", or "none"; null for the manifest if there is one, else the folder.
        max_unreadable: Largest share of the training images that may be unreadable, 0 to 1; the run ends beyond it.
    """

    val_share: float = 0.1
    size: int = 512
    val_size: int | None = None
    batch_size: int = 64
    per_landmark: int | None = None
    images_per_landmark: int | None = None
    crop: float = 0.5
    perspective: float = 0.3
    light: float = 0.3
    augment_on: Literal["workers", "device"] = "workers"
    workers: int | None = None
    seed: int = 0
    exclude: list[str] = field(default_factory=list)
    follow_links: bool = False
    landmark_from: LandmarkFrom | None = None
    max_unreadable: float = 0.1  # a few bad files are usual; a tenth is a folder that is not mounted or not complete

    def __post_init__(self) -> None:
        """Checks the ranges."""
        check_ranges(
            "data",
            self,
            {
                "val_share": SHARE,
                "size": COUNT,
                "val_size": COUNT,
                "batch_size": COUNT,
                "per_landmark": COUNT,
                "images_per_landmark": (2, 1e9, "a whole number of at least 2"),
                "crop": (math.ulp(0.0), 1.0, "a number above 0, up to 1"),
                "perspective": BELOW_ONE,
                "light": NOT_NEGATIVE,
                "workers": NOT_NEGATIVE,
                "seed": SEED,
                "max_unreadable": SHARE,
            },
        )
        if self.images_per_landmark is not None and 2 * self.images_per_landmark > self.batch_size:
            raise OptionError(
                f"--data.images_per_landmark is {self.images_per_landmark}, so a batch of {self.batch_size} images has "
                "no room for two landmarks. Give a smaller number, or a larger --data.batch_size."
            )
