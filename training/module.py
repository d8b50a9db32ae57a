"""The Lightning module: a descriptor network trained with ArcFace, validated by retrieval on unseen landmarks."""

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

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
from glam.training.options import ModelOptions
from glam.training.pca_init import start_from_pca
from glam.training.rebase_progress import rebase_progress
from glam.training.retrieval_score import RetrievalScore
from glam.training.whitening import whiten_head


class LandmarkModule(L.LightningModule):
    """Trains descriptors of landmarks.

    Args:
        backbone: a timm model name.
        dim: length of the descriptor.
        options: keyword arguments of `ModelOptions`.

    Attributes:
        options: the options with their defaults.
        data: the landmarks that it is trained on; set by `connect`.
        teachers: trained networks that this one learns from instead of from landmarks (`glam.training.distillation`).
    """

    data: LandmarkData

    def __init__(self, backbone: str = "resnet101", dim: int = 512, **options: Any) -> None:
        super().__init__()
        chosen = self.options = ModelOptions(**options)
        architecture = Architecture(backbone, dim, chosen.glam, chosen.gem_p, chosen.dropout, stride=chosen.stride)
        self.network = DescriptorNetwork(architecture, pretrained=chosen.pretrained)
        self.teachers: Sequence[DescriptorNetwork] = ()
        if isinstance(self.network.glam, GLAM) and chosen.input_weight is not None:
            self.network.glam.start_near_identity(chosen.input_weight)
        if chosen.freeze_batch_norm:  # now, for several processes agree on what is trained before the optimizer is made
            for norm in _batch_norms(self.network.backbone):
                norm.requires_grad_(False)
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
        options = self.options
        if options.patched and not self.teachers:
            raise GlamError("patched images show two landmarks: only a run with teachers can learn from them")
        if self.teachers:
            backbone = self.network.backbone
            self.loss: ArcFace | Distillation = Distillation(self.teachers, backbone.mean, backbone.std)
            return
        if options.sharded and self.trainer.gradient_clip_val:
            raise GlamError("gradients are clipped by their norm in each process; set gradient_clip_val 0 with sharded")
        self.loss = ArcFace(
            len(self.data.train.landmarks),
            self.network.dim,
            margin=options.margin,
            scale=options.scale,
            sharded=options.sharded,
            batch_size=self.data.batch_size,
            seed=options.seed,
        )
        if options.sharded:
            self._ddp_params_and_buffers_to_ignore.append("loss.centers")  # of which each process has its own

    def _frozen_statistics(self) -> list[str]:
        """Names of the buffers of the backbone's batch norms, if those are frozen."""
        if not self.options.freeze_batch_norm:
            return []
        return [name for name, _ in self.network.backbone.named_buffers(prefix="network.backbone")]

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
        if self.options.start == "pca" and not self.resumed:
            self._start_from_pca()
        self.train()
        if self.options.compiled != "no":
            torch._dynamo.config.recompile_limit = 64  # of sizes; by default what comes after eight runs uncompiled
            torch._dynamo.config.optimize_ddp = False  # or several processes compile eight graphs for each of one
            self.network.backbone.compile(dynamic=False)  # but for the sides that `training_step` marks

    def _start_from_pca(self) -> None:
        descriptors, landmark_ids = start_from_pca(
            self.network,
            self.data.train,
            self._settings(),
            whitening=self.options.whitening,
            max_images=self.options.start_images,
            seed=self.options.seed,
        )
        if not isinstance(self.loss, Distillation):
            self.loss.start_at_means(descriptors, landmark_ids)

    def whiten(self, device: torch.device) -> None:
        """Whitens the trained network's descriptors by ``end_whitening``, on a device."""
        power, most, seed = self.options.end_whitening, self.options.start_images, self.options.seed
        if not power:
            return
        self.network.to_device(device)
        with torch.compiler.set_stance("force_eager"):  # as in validation
            whiten_head(self.network, self.data.train, self._settings(), power=power, max_images=most, seed=seed)

    def _settings(self) -> Settings:
        """How training images are described."""
        return Settings(size=self.data.val_size, batch_size=self.data.batch_size, workers=max(1, self.data.workers))

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Loss of a batch: (b, 3, h, w) images, (b,) landmark ids. Dropout and CutMix are drawn from seed, step, and
        batch, so that a resumed run draws what an unbroken one would, and the batches of one step draw different
        numbers."""
        images, landmark_ids, _ = batch
        torch.manual_seed(mixed_seed(self.options.seed, self.global_step, batch_idx, self.global_rank))
        images = images.contiguous(memory_format=self.network.layout(images.device))
        if self.options.patched and torch.rand(()) < self.options.patched:
            images = cutmix(images)
        if self.options.compiled != "no":  # batches of one size differ by an image
            torch._dynamo.maybe_mark_dynamic(images, (0, 2, 3) if self.options.compiled == "any_size" else 0)
        with _without_statistics(self.network.head) if len(images) == 1 else nullcontext():
            descriptors = self.network(images)
            loss: Tensor = self.loss(descriptors, images if isinstance(self.loss, Distillation) else landmark_ids)
        self.log("loss", loss, batch_size=len(images))  # the progress bar would wait for it at every step
        self.log("epoch_loss", loss, on_step=False, on_epoch=True, sync_dist=True, batch_size=len(images))
        return loss

    def train(self, mode: bool = True) -> "LandmarkModule":
        """As of any module, but that frozen batch norms stay as they came."""
        super().train(mode)
        if self.options.freeze_batch_norm:
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
            if self.options.optimizer == "adamw"
            else torch.optim.SGD(groups, momentum=0.9, fused=fused)
        )
        steps = int(self.trainer.estimated_stepping_batches)
        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: _rate(step, steps, self.options.warmup))
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
            for decayed, decay in ((True, self.options.weight_decay), (False, 0.0))
        ]

    def _parameter_index(self, parameter: nn.Parameter) -> int:
        """The index of a parameter among those of the optimizer."""
        parameters = [p for group in self._parameter_groups() for p in group["params"]]
        return next(i for i, p in enumerate(parameters) if p is parameter)

    def _trained_parameters(self) -> list[tuple[list[nn.Parameter], float]]:
        """The parameters that are trained, with their learning rates."""
        backbone = [p for p in self.network.backbone.parameters() if p.requires_grad]
        new = [*self.network.pool.parameters(), *self.network.head.parameters(), *self.loss.parameters()]
        lr, new_lr, glam_lr = self.options.lr, self.options.new_lr, self.options.glam_lr
        glam = list(self.network.glam.parameters())
        return [(backbone, lr), (glam, new_lr if glam_lr is None else glam_lr), (new, new_lr)]


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
