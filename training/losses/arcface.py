"""ArcFace: classification of landmarks on the unit sphere with an additive angular margin, in one or several processes.

    (b, dim) descriptors --all-gather--> (B, dim) of all processes --local centers--> (B, local landmarks) cosines
        --softmax over all processes--> mean loss of the B images

If the centers are sharded, each process stores, updates, and multiplies only the centers of its own landmarks. The
processes exchange descriptors and two numbers per image, but no centers. A single process is the case of one shard.
Checkpoints contain all centers, so training can resume on any number of processes.

Sources: J. Deng et al., "ArcFace: Additive angular margin loss for deep face recognition", CVPR 2019
(arXiv 1801.07698), with its "parallel acceleration"; X. An et al., "Partial FC" (arXiv 2010.05222), with all centers.
Margin and scale are computed by pytorch-metric-learning. The loss differs from the one of that library in three ways:
the margin is in radians, as in the papers, rather than in degrees; cosines and logits are float32 under any autocast;
and nothing waits for the device, whereas the library selects the target cosines by a boolean mask, which waits twice
per step.
"""

import math
from collections.abc import Callable
from typing import Any

import torch
import torch.distributed as dist
import torch.nn.functional as F
from pytorch_metric_learning import losses
from torch import Tensor, nn

from glam.datasets.image_dataset import mixed_seed
from glam.training.losses.base import LOSSES, Loss, LossContext

PREFIX = "loss."
"""Prefix of the loss in the names of the weights of a checkpoint."""

PADDING_ID = -1
"""Landmark id of the padding of a batch."""


class ArcFace(Loss):
    """ArcFace loss with one learned center per landmark.

    If the centers are sharded, each process computes their complete gradients, so they must be excluded from
    `DistributedDataParallel`.

    Args:
        landmarks: number of landmarks over all processes, at least one per process.
        dim: dimension of the descriptors.
        margin: angular margin in radians.
        scale: factor of the logits.
        sharded: whether each process of the running group holds only the centers of its own landmarks. The loss is then
            over the images of all processes.
        batch_size: maximum number of images per batch of one process; used only with several shards.
        seed: seed of the initial centers.

    Attributes:
        centers: (local landmarks, dim) centers of the landmarks of this process.
        first: landmark id of the first center.

    Raises:
        ValueError: margin or scale is out of its range.
    """

    def __init__(
        self,
        landmarks: int,
        dim: int,
        *,
        margin: float = 0.3,
        scale: float = 30.0,
        sharded: bool = False,
        batch_size: int = 0,
        seed: int = 0,
    ) -> None:
        super().__init__()
        if not 0 <= margin <= math.pi:
            raise ValueError(f"the margin must be an angle from 0 to pi, not {margin}")
        if not 0 < scale < math.inf:
            raise ValueError(f"the scale must be above 0, not {scale}")
        if not isinstance(sharded, bool):
            raise ValueError(f"sharded must be true or false, not {sharded!r}")
        several = sharded and dist.is_initialized()
        self.rank, self.ranks = (dist.get_rank(), dist.get_world_size()) if several else (0, 1)
        self.firsts = [landmarks * rank // self.ranks for rank in range(self.ranks + 1)]
        self.first, end = self.firsts[self.rank], self.firsts[self.rank + 1]
        self.batch_size = batch_size
        self.sharded = sharded
        self.margin = _Margin(margin, scale)
        generator = torch.Generator().manual_seed(mixed_seed(seed, self.rank))
        # Drawn on the CPU, so that they are the same on every device; Lightning makes the GPU the default device.
        drawn = torch.randn(end - self.first, dim, generator=generator, device="cpu")
        self.centers = nn.Parameter(drawn.to(torch.get_default_device()))
        self.register_load_state_dict_pre_hook(_load_centers)  # type: ignore[no-untyped-call]

    def forward(self, descriptors: Tensor, landmark_ids: Tensor, images: Tensor | None = None) -> Tensor:
        """Computes the mean loss without waiting for the device.

        Args:
            descriptors: (b, dim) descriptors of unit length of this process.
            landmark_ids: (b,) landmark ids of this process.
            images: not used.

        Returns:
            A float32 scalar, over the images of this process or, if sharded, of all processes.
        """
        with torch.autocast(descriptors.device.type, enabled=False):
            spare = self.batch_size - len(landmark_ids) if self.ranks > 1 else 0  # shards gather batches of one size
            all_descriptors = _Gather.apply(F.pad(descriptors.float(), (0, 0, 0, spare)), self.ranks)
            all_landmark_ids = all_gather(F.pad(landmark_ids, (0, spare), value=PADDING_ID), self.ranks)
            cosines = all_descriptors @ F.normalize(self.centers, dim=1).T
            local_id = all_landmark_ids - self.first
            is_local = (local_id >= 0) & (local_id < len(self.centers))
            column = local_id.clamp(0, len(self.centers) - 1)[:, None]
            target = cosines.gather(1, column)
            target = torch.where(is_local[:, None], self.margin.modify_cosine_of_target_classes(target), target)
            logits = self.margin.scale_logits(cosines.scatter(1, column, target))
            loss: Tensor = _SoftmaxLoss.apply(logits, column, is_local, all_landmark_ids != PADDING_ID, self.ranks)
            return loss

    @torch.no_grad()
    def start_at_means(self, descriptors: Tensor, landmark_ids: Tensor) -> None:
        """Sets the center of each landmark with images to the mean of their descriptors; other centers stay unchanged.

        Args:
            descriptors: (n, dim) descriptors of unit length, the same in every process.
            landmark_ids: (n,) landmark id of each descriptor, the same in every process.
        """
        is_local = (landmark_ids >= self.first) & (landmark_ids < self.first + len(self.centers))
        rows = landmark_ids[is_local] - self.first
        sums = torch.zeros_like(self.centers).index_add_(0, rows, descriptors[is_local])
        has_images = torch.bincount(rows, minlength=len(sums)) > 0
        self.centers[has_images] = F.normalize(sums[has_images], dim=1)

    def local_parameters(self) -> list[str]:
        """Returns the name of the centers if they are sharded."""
        return ["centers"] if self.sharded else []

    def save_checkpoint(self, checkpoint: dict[str, Any], index_of: Callable[[nn.Parameter], int]) -> None:
        """Gathers the centers of all processes into a checkpoint, see `Loss.save_checkpoint`."""
        change_centers(checkpoint, f"{PREFIX}centers", index_of(self.centers), self.gather)

    def load_checkpoint(self, checkpoint: dict[str, Any], index_of: Callable[[nn.Parameter], int]) -> None:
        """Selects the centers of this process in a checkpoint, see `Loss.load_checkpoint`."""
        index = index_of(self.centers)
        upgrade_centers(checkpoint, PREFIX, index)
        change_centers(checkpoint, f"{PREFIX}centers", index, self.shard)

    def gather(self, local_centers: Tensor) -> Tensor:
        """Gathers (local landmarks, dim) rows of all processes into (landmarks, dim). Every process must call it."""
        if self.ranks == 1:
            return local_centers.detach()
        sizes = [end - first for first, end in zip(self.firsts, self.firsts[1:], strict=False)]
        padded = all_gather(F.pad(local_centers.detach(), (0, 0, 0, max(sizes) - len(local_centers))), self.ranks)
        blocks = padded.view(self.ranks, max(sizes), -1)
        return torch.cat([block[:size] for block, size in zip(blocks, sizes, strict=True)])

    def shard(self, centers: Tensor) -> Tensor:
        """The (local landmarks, dim) rows of this process, out of the (landmarks, dim) rows of all processes."""
        return centers[self.first : self.first + len(self.centers)]


@LOSSES.register("arcface")
def arcface(context: LossContext, margin: float = 0.3, scale: float = 30.0, sharded: bool = False) -> ArcFace:
    """Returns ArcFace.

    Args:
        context: number of landmarks, dimension, batch size, and seed.
        margin: angular margin in radians.
        scale: factor of the logits.
        sharded: whether the centers are distributed over the processes.
    """
    return ArcFace(
        context.landmarks,
        context.dim,
        margin=margin,
        scale=scale,
        sharded=sharded,
        batch_size=context.batch_size,
        seed=context.seed,
    )


class _Margin(losses.ArcFaceLoss):  # type: ignore[misc]
    """Margin and scale of pytorch-metric-learning's loss, without its centers."""

    def __init__(self, margin: float, scale: float) -> None:
        super().__init__(num_classes=1, embedding_size=1, margin=math.degrees(margin), scale=scale)
        del self.W

    def get_angles(self, cosine_of_target_classes: Tensor) -> Tensor:
        """The angles, clipped away from 0: the slope of the arc cosine at 1 is infinite, and a center may equal its
        only image at the start."""
        return torch.acos(cosine_of_target_classes.clamp(-1 + 1e-6, 1 - 1e-6))


def upgrade_centers(checkpoint: dict[str, Any], prefix: str, parameter_index: int) -> None:
    """Converts the centers in a checkpoint of an earlier version to the current name and layout, in place.

    Args:
        checkpoint: a checkpoint of Lightning.
        prefix: prefix of the loss in the names of the weights, such as ``loss.``.
        parameter_index: index of the centers among the parameters of the optimizer.
    """
    checkpoint["state_dict"] = dict(checkpoint["state_dict"])
    if _upgrade_state(checkpoint["state_dict"], prefix):
        _change_optimizers(checkpoint, parameter_index, _transposed)


def change_centers(
    checkpoint: dict[str, Any], key: str, parameter_index: int, change: Callable[[Tensor], Tensor]
) -> None:
    """Changes the rows of the centers and of their optimizer state in a checkpoint.

    Args:
        checkpoint: a checkpoint of Lightning, changed in place. Tensors and dicts that it shares with others are
            replaced rather than changed.
        key: name of the centers among the weights.
        parameter_index: index of the centers among the parameters of the optimizer.
        change: maps (n, dim) rows of the checkpoint to the new rows.
    """
    checkpoint["state_dict"] = {**checkpoint["state_dict"], key: change(checkpoint["state_dict"][key])}
    _change_optimizers(checkpoint, parameter_index, change)


def _change_optimizers(checkpoint: dict[str, Any], parameter_index: int, change: Callable[[Tensor], Tensor]) -> None:
    for index, optimizer in enumerate(checkpoint.get("optimizer_states", [])):
        parameter_state = optimizer["state"].get(parameter_index, {})
        changed = {name: change(value) if _has_center_rows(value) else value for name, value in parameter_state.items()}
        state = {**optimizer["state"], parameter_index: changed} if changed else optimizer["state"]
        checkpoint["optimizer_states"][index] = {**optimizer, "state": state}


def all_gather(rows: Tensor, ranks: int) -> Tensor:
    """Gathers the rows of all processes.

    Args:
        rows: (n, ...) rows of this process, with the same n in all processes.
        ranks: number of processes.

    Returns:
        (ranks * n, ...) rows, in the order of the processes.
    """
    if ranks == 1:
        return rows
    parts = [torch.empty_like(rows) for _ in range(ranks)]
    dist.all_gather(parts, rows.contiguous())
    return torch.cat(parts)


class _Gather(torch.autograd.Function):
    """`all_gather` with gradients, scaled by the number of processes because `DistributedDataParallel` averages."""

    @staticmethod
    def forward(ctx: Any, rows: Tensor, ranks: int) -> Tensor:
        ctx.ranks = ranks
        return all_gather(rows, ranks)

    @staticmethod
    def backward(ctx: Any, d_all: Tensor) -> Any:
        if ctx.ranks == 1:
            return d_all, None
        total = d_all.contiguous()
        dist.all_reduce(total)
        return total.chunk(ctx.ranks)[dist.get_rank()] * ctx.ranks, None


class _SoftmaxLoss(torch.autograd.Function):
    """Mean cross-entropy of logits whose columns are distributed over the processes.

    The inputs are the (n, local landmarks) logits, the (n, 1) columns of the targets, (n,) whether the target is local,
    (n,) whether a row counts, and the number of processes.
    """

    @staticmethod
    def forward(ctx: Any, logits: Tensor, column: Tensor, is_local: Tensor, counted: Tensor, ranks: int) -> Tensor:
        highest = logits.amax(dim=1)
        if ranks > 1:
            dist.all_reduce(highest, dist.ReduceOp.MAX)
        powers = (logits - highest[:, None]).exp()
        target = logits.gather(1, column).squeeze(1).where(is_local, logits.new_zeros(()))
        sums = torch.stack([powers.sum(dim=1), target])
        if ranks > 1:
            dist.all_reduce(sums)
        weight = counted / counted.sum()
        ctx.save_for_backward(powers.div_(sums[0][:, None]), column, is_local, weight)
        return ((sums[0].log() + highest - sums[1]) * weight).sum()

    @staticmethod
    def backward(ctx: Any, d_loss: Tensor) -> Any:
        shares, column, is_local, weight = ctx.saved_tensors
        d_logits = shares.scatter_add(1, column, -is_local[:, None].to(shares.dtype))
        return d_logits.mul_((weight * d_loss)[:, None]), None, None, None, None


def _has_center_rows(value: object) -> bool:
    return isinstance(value, Tensor) and value.ndim == 2


def _load_centers(module: nn.Module, state: dict[str, Any], prefix: str, *_: object) -> None:
    """Replaces the centers of all landmarks in a state dict by those of this process, before they are loaded."""
    assert isinstance(module, ArcFace)
    _upgrade_state(state, prefix)
    centers = state.get(f"{prefix}centers")
    if centers is not None and len(centers) == module.firsts[-1]:
        state[f"{prefix}centers"] = module.shard(centers)


def _upgrade_state(state: dict[str, Any], prefix: str) -> bool:
    """Renames the centers of an earlier version in a state dict; returns whether they were transposed."""
    if f"{prefix}centres" in state:
        state[f"{prefix}centers"] = state.pop(f"{prefix}centres")
    if f"{prefix}loss.W" not in state:
        return False
    state[f"{prefix}centers"] = _transposed(state.pop(f"{prefix}loss.W"))
    return True


def _transposed(matrix: Tensor) -> Tensor:
    return matrix.T.contiguous()
