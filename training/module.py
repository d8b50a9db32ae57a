"""The Lightning module: a descriptor network trained with ArcFace, validated by retrieval on unseen landmarks."""

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any, Literal

import lightning as L
import torch
from lightning.pytorch.utilities.types import OptimizerLRSchedulerConfig
from torch import Tensor, nn

from glam.attention import GLAM
from glam.datasets.image_dataset import mixed_seed
from glam.errors import GlamError
from glam.inference.pipeline import Settings
from glam.model_file import ModelHeader, save
from glam.network import Architecture, DescriptorNetwork
from glam.training.arcface import ArcFace, change_centers, upgrade_centers
from glam.training.data import Batch, ImageFormat, LandmarkData
from glam.training.distillation import Distillation, cutmix
from glam.training.pca_init import start_from_pca
from glam.training.rebase_progress import rebase_progress
from glam.training.retrieval_score import RetrievalScore
from glam.training.whitening import whiten_head


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

    Attributes:
        data: the landmarks that it is trained on; set by `connect`.
        teachers: trained networks that this one learns from instead of from landmarks (`glam.training.distillation`).
    """

    data: LandmarkData

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
        sharded: bool = False,
        optimizer: Literal["adamw", "sgd"] = "adamw",
        lr: float = 1e-4,
        new_lr: float = 1e-3,
        weight_decay: float = 1e-5,
        warmup: float = 0.05,
        freeze_batch_norm: bool = True,
        compiled: Literal["no", "any_size", "each_size"] = "no",
        stride: int | None = None,
        glam_lr: float | None = None,
        patched: float = 0.0,
        end_whitening: float = 0.0,
        seed: int = 0,
    ) -> None:
        super().__init__()
        architecture = Architecture(backbone, dim, glam, gem_p, dropout, stride=stride)
        self.network = DescriptorNetwork(architecture, pretrained=pretrained)
        self.teachers: Sequence[DescriptorNetwork] = ()
        if isinstance(self.network.glam, GLAM) and input_weight is not None:
            self.network.glam.start_near_identity(input_weight)
        if freeze_batch_norm:  # now, for several processes agree on what is trained before the optimizer is made
            for norm in _batch_norms(self.network.backbone):
                norm.requires_grad_(False)
        self.start = start
        self.whitening = whitening
        self.start_images = start_images
        self.arcface: dict[str, Any] = {"margin": margin, "scale": scale, "sharded": sharded}
        self.sharded = sharded
        self.optimizer = optimizer
        self.lr = lr
        self.new_lr = new_lr
        self.glam_lr = new_lr if glam_lr is None else glam_lr
        self.weight_decay = weight_decay
        self.warmup = warmup
        self.freeze_batch_norm = freeze_batch_norm
        self.compiled = compiled
        self.patched = patched
        self.end_whitening = end_whitening
        self.seed = seed
        self.retrieval = RetrievalScore()
        self.resumed = False

    def connect(self, data: LandmarkData) -> None:
        """Gives the data module the network's image format, and this module its landmarks; to be called before
        training."""
        backbone = self.network.backbone
        data.image_format = ImageFormat(int(backbone.multiple), tuple(backbone.mean), tuple(backbone.std))
        self.data = data

    def configure_model(self) -> None:
        """Adds the loss, once the number of landmarks is known, and what several processes agree on before they are
        joined: the layout of the weights, and which buffers stay as they are and need not be sent at every step."""
        if hasattr(self, "loss"):
            return
        self.network.to(memory_format=self.network.layout(self.trainer.strategy.root_device))
        self._ddp_params_and_buffers_to_ignore = self._frozen_statistics()  # PyTorch's way to name them
        if self.patched and not self.teachers:
            raise GlamError("patched images show two landmarks: only a run with teachers can learn from them")
        if self.teachers:
            backbone = self.network.backbone
            self.loss: ArcFace | Distillation = Distillation(self.teachers, backbone.mean, backbone.std)
            return
        if self.sharded and self.trainer.gradient_clip_val:
            raise GlamError("gradients are clipped by their norm in each process; set gradient_clip_val 0 with sharded")
        landmarks, options = len(self.data.train.landmarks), {**self.arcface, "batch_size": self.data.batch_size}
        self.loss = ArcFace(landmarks, self.network.dim, **options, seed=self.seed)
        if self.sharded:
            self._ddp_params_and_buffers_to_ignore.append("loss.centers")  # of which each process has its own

    def _frozen_statistics(self) -> list[str]:
        """Names of the buffers of the backbone's batch norms, if those are frozen."""
        buffers = self.network.backbone.named_buffers(prefix="network.backbone") if self.freeze_batch_norm else ()
        return [name for name, _ in buffers]

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Remembers that the run goes on with weights of its own, perhaps on another number of processes."""
        self.resumed = True
        batch_counts = self.data.resume(checkpoint[LandmarkData.__qualname__])
        if batch_counts is not None:
            rebase_progress(checkpoint, *batch_counts, accumulated=self.trainer.accumulate_grad_batches)
        if isinstance(self.loss, ArcFace):
            index = self._parameter_index(self.loss.centers)
            upgrade_centers(checkpoint, "loss.", index)
            change_centers(checkpoint, "loss.centers", index, self.loss.shard)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Gathers the centers of all processes into a checkpoint."""
        if isinstance(self.loss, ArcFace):
            change_centers(checkpoint, "loss.centers", self._parameter_index(self.loss.centers), self.loss.gather)

    def on_fit_start(self) -> None:
        """Starts the new layers from what the backbone knows, unless a run is resumed; compiles the backbone."""
        if isinstance(self.loss, Distillation):
            self.loss.to_device(self.device)
        if self.start == "pca" and not self.resumed:
            self._start_from_pca()
        self.train()
        if self.compiled != "no":
            torch._dynamo.config.recompile_limit = 64  # of sizes; by default what comes after eight runs uncompiled
            torch._dynamo.config.optimize_ddp = False  # or several processes compile eight graphs for each of one
            self.network.backbone.compile(dynamic=False)  # but for the sides that `training_step` marks

    def _start_from_pca(self) -> None:
        descriptors, landmark_ids = start_from_pca(
            self.network,
            self.data.train,
            self._settings(),
            whitening=self.whitening,
            max_images=self.start_images,
            seed=self.seed,
        )
        if not isinstance(self.loss, Distillation):
            self.loss.start_at_means(descriptors, landmark_ids)

    def whiten(self, device: torch.device) -> None:
        """Whitens the trained network's descriptors by ``end_whitening``, on a device."""
        if not self.end_whitening:
            return
        self.network.to_device(device)
        data, power = self.data.train, self.end_whitening
        with torch.compiler.set_stance("force_eager"):  # as in validation
            whiten_head(self.network, data, self._settings(), power=power, max_images=self.start_images, seed=self.seed)

    def _settings(self) -> Settings:
        """How training images are described."""
        return Settings(size=self.data.val_size, batch_size=self.data.batch_size, workers=max(1, self.data.workers))

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Loss of a batch: (b, 3, h, w) images, (b,) landmark ids. Dropout and CutMix are drawn from seed, step, and
        batch, so that a resumed run draws what an unbroken one would, and the batches of one step draw different
        numbers."""
        images, landmark_ids, _ = batch
        torch.manual_seed(mixed_seed(self.seed, self.global_step, batch_idx, self.global_rank))
        images = images.contiguous(memory_format=self.network.layout(images.device))
        if self.patched and torch.rand(()) < self.patched:
            images = cutmix(images)
        if self.compiled != "no":  # batches of one size differ by an image
            torch._dynamo.maybe_mark_dynamic(images, (0, 2, 3) if self.compiled == "any_size" else 0)
        with _without_statistics(self.network.head) if len(images) == 1 else nullcontext():
            descriptors = self.network(images)
            loss: Tensor = self.loss(descriptors, images if isinstance(self.loss, Distillation) else landmark_ids)
        self.log("loss", loss, batch_size=len(images))  # the progress bar would wait for it at every step
        self.log("epoch_loss", loss, on_step=False, on_epoch=True, sync_dist=True, batch_size=len(images))
        return loss

    def train(self, mode: bool = True) -> "LandmarkModule":
        """As of any module, but that frozen batch norms stay as they came."""
        super().train(mode)
        if self.freeze_batch_norm:
            for norm in _batch_norms(self.network):
                norm.eval()
        return self

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        """Describes a batch of validation images."""
        images, landmark_ids, indices = batch
        with torch.compiler.set_stance("force_eager"):  # validation images come in many sizes
            self.retrieval.update(self.network(images), landmark_ids, indices)

    def on_validation_epoch_end(self) -> None:
        """Scores the validation images, each as a query against all others."""
        self.log_dict(self.retrieval.compute(), prog_bar=True)
        self.retrieval.reset()

    def configure_optimizers(self) -> OptimizerLRSchedulerConfig:
        """Two learning rates, no weight decay on vectors and scalars, warm-up and cosine a step."""
        groups = self._parameter_groups()
        fused = self.trainer.strategy.root_device.type == "cuda"
        optimizer: torch.optim.Optimizer = (
            torch.optim.AdamW(groups)
            if self.optimizer == "adamw"
            else torch.optim.SGD(groups, momentum=0.9, fused=fused)
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
        header = ModelHeader(self.network.architecture, size=self.data.val_size, training=training)
        save(path, self.network, header, half=half)

    def _parameter_groups(self) -> list[dict[str, Any]]:
        """The optimizer's groups of parameters."""
        return [
            {"params": [p for p in parameters if (p.ndim > 1) == decayed], "lr": lr, "weight_decay": decay}
            for parameters, lr in self._trained_parameters()
            for decayed, decay in ((True, self.weight_decay), (False, 0.0))
        ]

    def _parameter_index(self, parameter: nn.Parameter) -> int:
        """The index of a parameter among those of the optimizer."""
        parameters = [p for group in self._parameter_groups() for p in group["params"]]
        return next(i for i, p in enumerate(parameters) if p is parameter)

    def _trained_parameters(self) -> list[tuple[list[nn.Parameter], float]]:
        """The parameters that are trained, with their learning rates."""
        backbone = [p for p in self.network.backbone.parameters() if p.requires_grad]
        new = [*self.network.pool.parameters(), *self.network.head.parameters(), *self.loss.parameters()]
        return [(backbone, self.lr), (list(self.network.glam.parameters()), self.glam_lr), (new, self.new_lr)]


@contextmanager
def _without_statistics(head: nn.Module) -> Iterator[None]:
    """Has a head's batch norm use what it has learned so far: an image that is alone in its batch has no variance."""
    norms = [norm for norm in _batch_norms(head) if norm.training]
    for norm in norms:
        norm.eval()
    try:
        yield
    finally:
        for norm in norms:
            norm.train()


def _batch_norms(network: nn.Module) -> list[nn.Module]:
    return [module for module in network.modules() if isinstance(module, nn.modules.batchnorm._BatchNorm)]


def _rate(step: int, steps: int, warmup: float) -> float:
    """Learning rate as a share of its peak: a linear rise, then a cosine to 0."""
    rising = warmup * steps
    if step < rising:
        return (step + 1) / (rising + 1)
    return 0.5 * (1 + math.cos(math.pi * (step - rising) / max(1.0, steps - rising)))
