"""Options of the Lightning module and data, under the names that `glam train` and its configurations give them.

    glam train --model.lr 1e-4 --data.size 320    ModelOptions.lr of LandmarkModule, DataOptions.size of LandmarkData

LightningCLI reads names, types, defaults, and help texts from these classes, because the initializers pass their
keyword arguments on to them.
"""

from dataclasses import dataclass
from typing import Any, Literal


@dataclass(frozen=True)
class ModelOptions:
    """Options of `glam.training.module.LandmarkModule`.

    Attributes:
        glam: options of `glam.GLAM` but the channels; null for no attention.
        gem_p: exponent of GeM at the start.
        dropout: share of the descriptor's entries dropped.
        pretrained: whether the backbone starts from ImageNet weights.
        start: "pca" to start the descriptor layer as PCA and the landmarks at their means; "random" as layers come.
        whitening: power of its spread that each dimension of the PCA is divided by at the start; 1 is PCA whitening.
        start_images: most images that the PCA looks at.
        input_weight: share of the fusion that GLAM's input has at the start, its spatial attentions being zero then;
            null to start GLAM as its layers come.
        margin: of ArcFace, in radians.
        scale: of ArcFace's logits.
        sharded: whether the landmark centers are split over the processes, for a million landmarks or more.
        optimizer: AdamW, or SGD with momentum 0.9.
        lr: learning rate of the backbone.
        new_lr: learning rate of GLAM, GeM, descriptor layer and landmark centers.
        weight_decay: of all but norms and biases.
        warmup: share of the steps in which the learning rate rises; it falls by a cosine to 0 over the rest.
        freeze_batch_norm: whether batch norms keep the statistics they start with, and the backbone's their gains too.
        compiled: whether ``torch.compile`` makes the backbone's training steps faster, which takes it minutes first:
            "any_size" compiles once for all image sizes, "each_size" once per size.
        stride: pixels of the image to a position of the feature map, 8 or 16; null for the backbone's own.
        glam_lr: learning rate of GLAM; ``new_lr`` by default.
        patched: share of the batches whose images are mixed in pairs by CutMix, for runs with teachers.
        end_whitening: power of their spread that the descriptor's principal components are divided by at the end; 0
            leaves them as they were trained (`glam.training.whitening`).
        seed: of dropout, CutMix and the landmark centers.
    """

    glam: dict[str, Any] | None = None
    gem_p: float = 3.0
    dropout: float = 0.0
    pretrained: bool = True
    start: Literal["pca", "random"] = "pca"
    whitening: float = 0.5
    start_images: int = 20_000
    input_weight: float | None = 0.9
    margin: float = 0.3
    scale: float = 30.0
    sharded: bool = False
    optimizer: Literal["adamw", "sgd"] = "adamw"
    lr: float = 1e-4
    new_lr: float = 1e-3
    weight_decay: float = 1e-5
    warmup: float = 0.05
    freeze_batch_norm: bool = True
    compiled: Literal["no", "any_size", "each_size"] = "no"
    stride: int | None = None
    glam_lr: float | None = None
    patched: float = 0.0
    end_whitening: float = 0.0
    seed: int = 0


@dataclass(frozen=True)
class DataOptions:
    """Options of `glam.training.data.LandmarkData`.

    Attributes:
        val_share: share of the landmarks held out where there is no ``val``.
        size: longest side of training images, in pixels.
        val_size: longest side of validation images, in pixels, and of the trained model; ``size`` by default.
        batch_size: images a step, for each device.
        per_landmark: most images of one landmark in an epoch; all of them by default.
        crop: smallest share of an image's area that a random crop keeps.
        perspective: largest move of a corner along each axis, as a share of half the side; 0 for none.
        light: largest change of brightness, contrast, and saturation, as a share; 0 for none.
        augment_on: where viewpoint and light change: in the "workers" or on the training "device". On the device,
            workers only decode and resize (`glam.datasets.views`).
        workers: processes that read images, for each device; one less than there are cores by default.
        seed: of order, held-out landmarks and augmentation.
    """

    val_share: float = 0.1
    size: int = 512
    val_size: int | None = None
    batch_size: int = 64
    per_landmark: int | None = None
    crop: float = 0.5
    perspective: float = 0.3
    light: float = 0.3
    augment_on: Literal["workers", "device"] = "workers"
    workers: int | None = None
    seed: int = 0
