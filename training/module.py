"""Lightning module: a descriptor network, trained with one of the losses, validated on unseen landmarks."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from functools import partial
from pathlib import Path
from typing import Any

import lightning as L
import torch
from lightning.pytorch.utilities.types import OptimizerLRSchedulerConfig
from torch import Tensor, nn

from glam.datasets.image_dataset import mixed_seed
from glam.inference.optimize import inference_form
from glam.inference.pipeline import Settings, describe_pixels
from glam.model_file import ModelHeader, save
from glam.network import Architecture, DescriptorNetwork, rename_former_keys
from glam.training.arguments import OptionError, as_argument
from glam.training.compute_once import compute_once
from glam.training.data import Batch, ImageFormat, LandmarkData
from glam.training.epoch_loss import EpochLoss
from glam.training.lora import add_lora, with_merged_lora
from glam.training.losses import LossContext
from glam.training.losses.distillation import cutmix
from glam.training.optimizer import build_optimizer, parameter_groups, parameter_index, warmup_and_cosine
from glam.training.options import COUNT, ModelOptions, check_range
from glam.training.pca_init import start_from_pca
from glam.training.rebase_progress import rebase_progress
from glam.training.resume import IDENTITY, apply_rates, check_weights, image_identity, settings_identity
from glam.training.retrieval_score import RetrievalScore
from glam.training.run_loss import loss_choice, run_loss, trial_loss
from glam.training.whitening import whiten_head

LOSS_SO_FAR = "loss_so_far"
"""Key of `EpochLoss.so_far` of an unfinished epoch, summed over all processes, in a checkpoint."""


def architecture_of(backbone: str, dim: int, options: ModelOptions) -> Architecture:
    """The settings of the network that options ask for.

    Args:
        backbone: name of a timm model.
        dim: dimension of the descriptors.
        options: the other options of the model.
    """
    assert isinstance(options.pooling, dict)
    assert not isinstance(options.attention, str)
    return Architecture(backbone, dim, options.attention, options.pooling, options.dropout, stride=options.stride)


class LandmarkModule(L.LightningModule):
    """Trains a descriptor network on landmarks.

    Args:
        backbone: Name of a timm model.
        dim: Dimension of the descriptors.
        options: keyword arguments of `ModelOptions`.

    Attributes:
        options: the options, including defaults.
        network: the network that is trained.
        data: the images that it is trained on, set by `connect`.
        teachers: trained networks to learn from instead of landmarks (`glam.training.losses.distillation`).
        loss: the loss, set by `configure_model`.
        resumed: whether the weights come from a checkpoint.
        val_images: number of images in the last validation, of all processes.
    """

    data: LandmarkData

    def __init__(self, backbone: str = "resnet101", dim: int = 512, **options: Any) -> None:
        super().__init__()
        chosen = self.options = ModelOptions(**options)
        check_range("model.dim", dim, COUNT)
        try:
            architecture = architecture_of(backbone, dim, chosen)
            self.network = DescriptorNetwork(architecture, pretrained=chosen.pretrained, drop_path=chosen.drop_path)
        except (TypeError, ValueError) as error:
            raise OptionError(
                f"--model.attention {as_argument(chosen.attention)} with --model.pooling {as_argument(chosen.pooling)} "
                f"cannot be made: {str(error).rstrip('.')}. Correct the options."
            ) from error
        trial_loss(chosen, dim, distilled=False)  # before images are read
        self.teachers: Sequence[DescriptorNetwork] = ()
        if chosen.input_weight is not None:
            self.network.attention.start_near_identity(chosen.input_weight)
        if chosen.freeze_batch_norm:  # now, because DistributedDataParallel fixes what is trained before the optimizer
            for norm in _batch_norms(self.network.backbone):
                norm.requires_grad_(False)
        self.retrieval = RetrievalScore()
        self.val_images = 0
        self.epoch_loss = EpochLoss()
        self.resumed = False

    def connect(self, data: LandmarkData) -> None:
        """Connects this module and the data module: one needs the landmarks, the other the network's input format.

        Call it before training.

        Args:
            data: the data module.

        Raises:
            OptionError: LoRA does not apply to the backbone.
        """
        backbone = self.network.backbone
        data.image_format = ImageFormat(int(backbone.multiple), tuple(backbone.mean), tuple(backbone.std))
        self.data = data
        if self.options.lora is not None:
            add_lora(self.network, self.options.lora, self.options.seed)

    def identity(self, *, distilled: bool) -> dict[str, Any]:
        """The facts that make a run the same run when it is resumed, see `glam.training.resume`.

        Args:
            distilled: whether the run learns from teachers.
        """
        settings = settings_identity(
            self.network.architecture,
            self.options,
            loss=loss_choice(self.options, distilled=distilled)["name"],
            seed=self.data.options.seed,
        )
        return settings | image_identity(*self.data.sources)

    def configure_model(self) -> None:
        """Adds the loss, and prepares the network for `DistributedDataParallel`.

        Before the processes are joined, the memory layout of the weights has to be set, and the buffers that stay
        constant have to be listed, so that they are not sent at every step.

        Raises:
            OptionError: the loss refuses an option.
        """
        if hasattr(self, "loss"):
            return
        self.network.to(memory_format=self.network.layout(self.trainer.strategy.root_device))
        self._ddp_params_and_buffers_to_ignore = self._frozen_statistics()  # PyTorch's way to name them
        options, backbone = self.options, self.network.backbone
        context = LossContext(
            landmarks=len(self.data.train.landmarks),
            dim=self.network.dim,
            batch_size=self.data.batch_size,
            seed=options.seed,
            teachers=self.teachers,
            mean=tuple(backbone.mean),
            std=tuple(backbone.std),
        )
        self.loss = run_loss(options, context, distilled=bool(self.teachers))
        self._ddp_params_and_buffers_to_ignore += [f"loss.{name}" for name in self.loss.local_parameters()]

    def _frozen_statistics(self) -> list[str]:
        """The names of the backbone's buffers if its batch norms are frozen, else an empty list."""
        if not self.options.freeze_batch_norm:
            return []
        return [name for name, _ in self.network.backbone.named_buffers(prefix="network.backbone")]

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Resumes from a checkpoint, possibly with another number of processes or another batch size."""
        self.resumed = True
        batch_counts = self.data.resume(checkpoint[LandmarkData.__qualname__])
        if batch_counts is not None:
            rebase_progress(checkpoint, *batch_counts, accumulated=self.trainer.accumulate_grad_batches)
        self.loss.load_checkpoint(checkpoint, partial(parameter_index, self._parameter_groups()))
        rename_former_keys(checkpoint["state_dict"], "network.")
        check_weights(checkpoint["state_dict"], self.state_dict())
        apply_rates(checkpoint, self._parameter_groups())
        if self.trainer.is_global_zero:  # those of earlier versions start with the rest of the epoch
            self.epoch_loss.restore(torch.tensor(checkpoint.get(LOSS_SO_FAR, (0.0, 0.0))))

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Gathers the centers of all processes into the checkpoint, and notes which run it belongs to."""
        checkpoint[IDENTITY] = self._identity
        loss = torch.zeros(2)
        if not self.trainer.is_last_batch:
            loss = self.trainer.strategy.reduce(self.epoch_loss.so_far().to(self.device), reduce_op="sum")
        checkpoint[LOSS_SO_FAR] = loss.tolist()
        self.loss.save_checkpoint(checkpoint, partial(parameter_index, self._parameter_groups()))

    def on_fit_start(self) -> None:
        """Initializes the new layers by PCA and compiles the backbone, if the options say so."""
        self._identity = self.identity(distilled=bool(self.teachers))  # a digest of all images
        self.loss.prepare(self.device)
        if self.options.start == "pca" and not self.resumed:
            self._start_from_pca()
        self.train()
        if self.options.compiled != "no":
            torch._dynamo.config.recompile_limit = 64  # sizes; by default, the ninth and later ones run uncompiled
            torch._dynamo.config.optimize_ddp = False  # otherwise DDP splits each graph into eight
            self.network.backbone.compile(dynamic=False)  # except for the dimensions that `training_step` marks

    def _start_from_pca(self) -> None:
        """Sets the head and the centers; the first process computes them."""
        head = self.network.head

        def compute() -> tuple[dict[str, Tensor], Tensor, Tensor]:
            descriptors, landmark_ids = start_from_pca(
                self.network,
                self.data.train,
                self._settings(),
                whitening=self.options.whitening,
                max_images=self.options.start_images,
                seed=self.options.seed,
            )
            state = {name: values.cpu() for name, values in head.state_dict().items()}
            return state, descriptors.cpu(), landmark_ids.cpu()

        state, descriptors, landmark_ids = compute_once(self.trainer, compute)
        head.load_state_dict(state)
        self.loss.start_at_means(descriptors.to(self.device), landmark_ids.to(self.device))

    def whiten(self, device: torch.device) -> None:
        """Whitens the descriptors of the trained network by the option ``end_whitening``.

        Args:
            device: device that computes the descriptors.

        Raises:
            GlamError: the network has no descriptor layer, or there are too few images.
        """
        power, max_images, seed = self.options.end_whitening, self.options.start_images, self.options.seed
        if not power:
            return
        self.network.to_device(device)
        with torch.compiler.set_stance("force_eager"):  # as in validation
            whiten_head(self.network, self.data.train, self._settings(), power=power, max_images=max_images, seed=seed)

    def _settings(self) -> Settings:
        """Settings for computing the descriptors of training images."""
        return Settings(size=self.data.val_size, batch_size=self.data.batch_size, workers=max(1, self.data.workers))

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Computes the loss of a batch.

        Dropout and CutMix are drawn from seed, step, and batch, so that a resumed run draws the same numbers as an
        uninterrupted one, and the accumulated batches of a step draw different numbers.

        Args:
            batch: (b, 3, h, w) images, (b,) landmark ids, and (b,) indices.
            batch_idx: index of the batch in the epoch.

        Returns:
            A scalar.
        """
        images, landmark_ids, _ = batch
        torch.manual_seed(mixed_seed(self.options.seed, self.global_step, batch_idx, self.global_rank))
        images = images.contiguous(memory_format=self.network.layout(images.device))
        if self.options.patched and torch.rand(()) < self.options.patched:
            images = cutmix(images)
        if self.options.compiled != "no":  # batches of one image size differ by one image
            torch._dynamo.maybe_mark_dynamic(images, (0, 2, 3) if self.options.compiled == "any_size" else 0)
        with _without_statistics(self.network.head) if len(images) == 1 else nullcontext():
            descriptors = self.network(images)
            loss: Tensor = self.loss(descriptors, landmark_ids, images)
        self.log("loss", loss, batch_size=len(images))  # not in the progress bar, which would wait for it at every step
        self.epoch_loss.update(loss, len(images))
        self.log("epoch_loss", self.epoch_loss, on_step=False, on_epoch=True, batch_size=len(images))
        return loss

    def train(self, mode: bool = True) -> "LandmarkModule":
        """Sets training or evaluation mode; frozen batch norms stay in evaluation mode."""
        super().train(mode)
        if self.options.freeze_batch_norm:
            for norm in _batch_norms(self.network):
                norm.eval()
        return self

    def on_validation_epoch_start(self) -> None:
        """Prepares the network as for computing descriptors, so that the score is that of `glam eval folder`.

        Adds a batch of no images, so that a process without any readable image takes part in the score, too.
        """
        self._describe = partial(describe_pixels, inference_form(with_merged_lora(self.network)), (1.0,))
        none = torch.empty(0, dtype=torch.long, device=self.device)
        self.retrieval.update(torch.empty(0, self.network.dim, device=self.device), none, none)

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        """Computes and collects the descriptors of a batch of validation images."""
        pixels, landmark_ids, indices = batch
        with torch.compiler.set_stance("force_eager"):  # validation images have many sizes
            self.retrieval.update(self._describe(pixels), landmark_ids, indices)

    def on_validation_epoch_end(self) -> None:
        """Scores the validation images, each of them as a query against all others."""
        self.data.gather_unreadable()
        self.log_dict(self.retrieval.compute(), prog_bar=True)
        self.val_images = len(self.retrieval.collected()[2])
        self.retrieval.reset()
        del self._describe  # the copy of the network

    def on_train_epoch_end(self) -> None:
        """Collects the unreadable images of all processes."""
        self.data.gather_unreadable()

    def configure_optimizers(self) -> OptimizerLRSchedulerConfig:
        """Builds the optimizer and a schedule per step with warm-up and cosine; vectors and scalars have no decay."""
        fused = self.trainer.strategy.root_device.type == "cuda"
        optimizer = build_optimizer(self._parameter_groups(), self.options, fused=fused)
        schedule = warmup_and_cosine(optimizer, int(self.trainer.estimated_stepping_batches), self.options.warmup)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def write_model(self, path: Path, training: dict[str, Any], *, half: bool = False) -> None:
        """Writes the network as a model file, for `glam.load`.

        Args:
            path: path of the .safetensors file.
            training: facts about the training for the header, by name.
            half: whether weights are stored as float16.

        Raises:
            GlamError: the file cannot be written.
        """
        header = ModelHeader(self.network.architecture, size=self.data.val_size, training=training)
        save(path, with_merged_lora(self.network), header, half=half)

    def _parameter_groups(self) -> list[dict[str, Any]]:
        return parameter_groups(self.network, self.loss, self.options)


@contextmanager
def _without_statistics(head: nn.Module) -> Iterator[None]:
    """Makes the batch norms of a head use their running statistics, because a batch of one image has no variance."""
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
