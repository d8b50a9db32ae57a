"""The Lightning module: a descriptor network trained with ArcFace, validated by retrieval on unseen landmarks."""

import math
from pathlib import Path
from typing import Any, Literal

import lightning as L
import torch
from lightning.pytorch.utilities.types import OptimizerLRSchedulerConfig
from torch import Tensor, nn
from torchmetrics import Metric
from torchmetrics.utilities import dim_zero_cat

from glam.attention import GLAM
from glam.checkpoint import Header, save
from glam.datasets.photographs import mixed_seed
from glam.describe import Settings
from glam.eval.folder import score_folder
from glam.network import Architecture, DescriptorNetwork
from glam.training.data import LandmarkData
from glam.training.losses import ArcFace
from glam.training.start import start_from_pca

Batch = tuple[Tensor, Tensor, Tensor]


class LandmarkModule(L.LightningModule):
    """Trains descriptors of landmarks.

    Args:
        backbone: a timm model name.
        dim: length of the descriptor.
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
        optimizer: AdamW, or SGD with momentum 0.9.
        lr: learning rate of the backbone.
        new_lr: learning rate of GLAM, GeM, descriptor layer and landmark centres.
        weight_decay: of all but norms and biases.
        warmup: share of the steps in which the learning rate rises; it falls by a cosine to 0 over the rest.
        freeze_batch_norm: whether batch norms keep the statistics they start with, and the backbone's their gains too.
        seed: of dropout.
    """

    def __init__(
        self,
        backbone: str = "resnet101",
        dim: int = 512,
        glam: dict[str, Any] | None = None,
        gem_p: float = 3.0,
        dropout: float = 0.0,
        pretrained: bool = True,
        start: Literal["pca", "random"] = "pca",
        whitening: float = 0.5,
        start_images: int = 20_000,
        input_weight: float | None = 0.9,
        margin: float = 0.3,
        scale: float = 30.0,
        optimizer: Literal["adamw", "sgd"] = "adamw",
        lr: float = 1e-4,
        new_lr: float = 1e-3,
        weight_decay: float = 1e-5,
        warmup: float = 0.05,
        freeze_batch_norm: bool = True,
        seed: int = 0,
    ) -> None:
        super().__init__()
        self.network = DescriptorNetwork(Architecture(backbone, dim, glam, gem_p, dropout), pretrained=pretrained)
        if isinstance(self.network.glam, GLAM) and input_weight is not None:
            self.network.glam.start_near_identity(input_weight)
        self.start = start
        self.whitening = whitening
        self.start_images = start_images
        self.arcface = {"margin": margin, "scale": scale}
        self.optimizer = optimizer
        self.lr = lr
        self.new_lr = new_lr
        self.weight_decay = weight_decay
        self.warmup = warmup
        self.freeze_batch_norm = freeze_batch_norm
        self.seed = seed
        self.retrieval = RetrievalScore()
        self.resumed = False

    @property
    def data(self) -> LandmarkData:
        """The data module of the running trainer."""
        data = self.trainer.datamodule  # type: ignore[attr-defined]
        assert isinstance(data, LandmarkData)
        return data

    def configure_model(self) -> None:
        """Adds the loss, once the number of landmarks is known."""
        if not hasattr(self, "loss"):
            self.loss = ArcFace(len(self.data.train.landmarks), self.network.dim, **self.arcface)

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Remembers that the run goes on with weights of its own."""
        self.resumed = True

    def on_fit_start(self) -> None:
        """Starts the new layers from what the backbone knows, unless a run is resumed."""
        self.network.to_device(self.device)
        if self.start == "random" or self.resumed:
            return
        settings = Settings(size=self.data.val_size, batch_size=self.data.batch_size, workers=max(1, self.data.workers))
        descriptors, labels = start_from_pca(
            self.network,
            self.data.train,
            settings,
            whitening=self.whitening,
            most=self.start_images,
            seed=self.seed,
        )
        self.loss.start_at_means(descriptors, labels)

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Loss of a batch: (b, 3, h, w) images, (b,) labels. Dropout is drawn from seed and step, so that a resumed run
        draws what an unbroken one would."""
        images, labels, _ = batch
        torch.manual_seed(mixed_seed(self.seed, self.global_step, self.global_rank))
        loss: Tensor = self.loss(self.network(images), labels)
        self.log("loss", loss, prog_bar=True, batch_size=len(images))
        self.log("epoch_loss", loss, on_step=False, on_epoch=True, sync_dist=True, batch_size=len(images))
        return loss

    def on_train_epoch_start(self) -> None:
        """Keeps batch norms as they came; Lightning has put all of the network into training mode."""
        if self.freeze_batch_norm:
            for norm in _batch_norms(self.network):
                norm.eval()

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        """Describes a batch of validation images."""
        images, labels, numbers = batch
        self.retrieval.update(self.network(images), labels, numbers)

    def on_validation_epoch_end(self) -> None:
        """Scores the validation images, each as a query against all others."""
        self.log_dict(self.retrieval.compute(), prog_bar=True)
        self.retrieval.reset()

    def configure_optimizers(self) -> OptimizerLRSchedulerConfig:
        """Two learning rates, no weight decay on vectors and scalars, warm-up and cosine a step."""
        groups = [
            {"params": [p for p in parameters if (p.ndim > 1) == decayed], "lr": lr, "weight_decay": decay}
            for parameters, lr in self._trained()
            for decayed, decay in ((True, self.weight_decay), (False, 0.0))
        ]
        optimizer: torch.optim.Optimizer = (
            torch.optim.AdamW(groups) if self.optimizer == "adamw" else torch.optim.SGD(groups, momentum=0.9)
        )
        steps = int(self.trainer.estimated_stepping_batches)
        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: _rate(step, steps, self.warmup))
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def write_model(self, path: Path, training: dict[str, Any], *, half: bool = False) -> None:
        """Writes the network as a model file that `glam.load` opens.

        Args:
            path: of the .safetensors file.
            training: what to say of the training in its header.
            half: store weights as float16.
        """
        header = Header(self.network.architecture, size=self.data.val_size, training=training)
        save(path, self.network, header, half=half)

    def _trained(self) -> list[tuple[list[nn.Parameter], float]]:
        """The parameters that are trained, with their learning rates."""
        frozen: set[nn.Parameter] = set()
        if self.freeze_batch_norm:
            for norm in _batch_norms(self.network.backbone):
                frozen.update(norm.parameters())
        for parameter in frozen:
            parameter.requires_grad_(False)
        backbone = [p for p in self.network.backbone.parameters() if p not in frozen]
        new = [*self.network.glam.parameters(), *self.network.pool.parameters(), *self.network.head.parameters()]
        return [(backbone, self.lr), ([*new, *self.loss.parameters()], self.new_lr)]


def _batch_norms(network: nn.Module) -> list[nn.Module]:
    return [module for module in network.modules() if isinstance(module, nn.modules.batchnorm._BatchNorm)]


def _rate(step: int, steps: int, warmup: float) -> float:
    """Learning rate as a share of its peak: a linear rise, then a cosine to 0."""
    rising = warmup * steps
    if step < rising:
        return (step + 1) / (rising + 1)
    return 0.5 * (1 + math.cos(math.pi * (step - rising) / max(1.0, steps - rising)))


class RetrievalScore(Metric):
    """Retrieval on the validation images of all processes: each image queries all others."""

    full_state_update = False
    descriptors: list[Tensor]
    labels: list[Tensor]
    numbers: list[Tensor]

    def __init__(self) -> None:
        super().__init__()
        for name in ("descriptors", "labels", "numbers"):
            self.add_state(name, default=[], dist_reduce_fx="cat")

    def update(self, descriptors: Tensor, labels: Tensor, numbers: Tensor) -> None:
        """Takes (b, dim) descriptors with their (b,) labels and (b,) numbers in the collection."""
        self.descriptors.append(descriptors.float())
        self.labels.append(labels)
        self.numbers.append(numbers)

    def compute(self) -> dict[str, Tensor]:
        """Scores of all images taken, in the order of their numbers, whatever process had them."""
        order = dim_zero_cat(self.numbers).argsort()
        descriptors = dim_zero_cat(self.descriptors)[order].cpu().numpy()
        scores = score_folder(descriptors, dim_zero_cat(self.labels)[order].cpu().numpy())
        return {"val_map": torch.tensor(scores.mean_ap), "val_recall_at_1": torch.tensor(scores.recall_at_1)}
