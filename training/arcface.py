"""ArcFace: classification of landmarks on the unit sphere with an additive angular margin, in one process or several.

    (b, dim) descriptors --all-gather--> (B, dim) of all processes --local centers--> (B, local landmarks) cosines
        --softmax over all processes--> mean loss of the B

Sharded, a process holds, updates and multiplies by the centers of its own landmarks only; between processes go the
descriptors and two numbers per image, never a center. One process is the case of a single shard. A checkpoint holds all
centers, so that it resumes on any number of processes.

Sources: J. Deng et al., "ArcFace: Additive angular margin loss for deep face recognition", CVPR 2019
(arXiv 1801.07698), with its "parallel acceleration"; X. An et al., "Partial FC" (arXiv 2010.05222), with all centers.
Margin and scale are pytorch-metric-learning's. What differs from its loss: the margin is given in radians, as in the
papers (the library takes degrees), cosines and logits stay in float32 whatever the autocast, and nothing waits for the
device (the library picks the target cosines by a boolean mask, whose entries are counted twice a step).
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

PADDING_ID = -1
"""Landmark id of the rows that pad a batch."""


class ArcFace(nn.Module):
    """ArcFace loss with one learned center per landmark.

    Sharded, the gradients of the centers are complete in each process, so they must be left out of
    `DistributedDataParallel`.

    Args:
        landmarks: number of classes over all processes, at least one per process.
        dim: length of a descriptor.
        margin: in radians.
        scale: of the logits.
        sharded: whether each process of the running group holds the centers of its own landmarks, and the loss is over
            the images of all processes.
        batch_size: most images in a batch of one process; only used with several shards.
        seed: of the centers.

    Attributes:
        centers: (local landmarks, dim), of the landmarks from ``first`` on.
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
        several = sharded and dist.is_initialized()
        self.rank, self.ranks = (dist.get_rank(), dist.get_world_size()) if several else (0, 1)
        self.firsts = [landmarks * rank // self.ranks for rank in range(self.ranks + 1)]
        self.first, end = self.firsts[self.rank], self.firsts[self.rank + 1]
        self.batch_size = batch_size
        self.margin = _Margin(margin, scale)
        generator = torch.Generator().manual_seed(mixed_seed(seed, self.rank))
        # Drawn on the CPU, so that they are the same on every device; Lightning makes a GPU the default one.
        drawn = torch.randn(end - self.first, dim, generator=generator, device="cpu")
        self.centers = nn.Parameter(drawn.to(torch.get_default_device()))
        self.register_load_state_dict_pre_hook(_load_centers)  # type: ignore[no-untyped-call]

    def forward(self, descriptors: Tensor, landmark_ids: Tensor) -> Tensor:
        """(b, dim) descriptors of unit length and (b,) landmark ids of this process to the mean loss, a float32 scalar;
        sharded, over the images of all processes. Nothing waits for the device."""
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
        """Puts the center of each landmark that has images at the mean of their descriptors.

        Args:
            descriptors: (n, dim), of unit length, the same in every process.
            landmark_ids: (n,) landmark of each descriptor, the same in every process.
        """
        is_local = (landmark_ids >= self.first) & (landmark_ids < self.first + len(self.centers))
        rows = landmark_ids[is_local] - self.first
        sums = torch.zeros_like(self.centers).index_add_(0, rows, descriptors[is_local])
        has_images = torch.bincount(rows, minlength=len(sums)) > 0
        self.centers[has_images] = F.normalize(sums[has_images], dim=1)

    def gather(self, local_centers: Tensor) -> Tensor:
        """Gathers (local landmarks, dim) rows of each process into (landmarks, dim); every process must call it."""
        if self.ranks == 1:
            return local_centers.detach()
        sizes = [end - first for first, end in zip(self.firsts, self.firsts[1:], strict=False)]
        padded = all_gather(F.pad(local_centers.detach(), (0, 0, 0, max(sizes) - len(local_centers))), self.ranks)
        blocks = padded.view(self.ranks, max(sizes), -1)
        return torch.cat([block[:size] for block, size in zip(blocks, sizes, strict=True)])

    def shard(self, centers: Tensor) -> Tensor:
        """The (local landmarks, dim) rows of this process, from the (landmarks, dim) rows of all."""
        return centers[self.first : self.first + len(self.centers)]


class _Margin(losses.ArcFaceLoss):  # type: ignore[misc]
    """The library's margin and scale, without its centers."""

    def __init__(self, margin: float, scale: float) -> None:
        super().__init__(num_classes=1, embedding_size=1, margin=math.degrees(margin), scale=scale)
        del self.W

    def get_angles(self, cosine_of_target_classes: Tensor) -> Tensor:
        """The angles, kept off 0: the arc cosine's slope at 1 is infinite, and a center may start on its image."""
        return torch.acos(cosine_of_target_classes.clamp(-1 + 1e-6, 1 - 1e-6))


def upgrade_centers(checkpoint: dict[str, Any], prefix: str, parameter_index: int) -> None:
    """Brings the centers in a checkpoint of an earlier version to the present name and layout, in place.

    Args:
        checkpoint: of Lightning.
        prefix: of the loss in the names of the weights.
        parameter_index: of the centers among the parameters of the optimizer.
    """
    checkpoint["state_dict"] = dict(checkpoint["state_dict"])
    if _upgrade_state(checkpoint["state_dict"], prefix):
        _change_optimizers(checkpoint, parameter_index, _transposed)


def change_centers(
    checkpoint: dict[str, Any], key: str, parameter_index: int, change: Callable[[Tensor], Tensor]
) -> None:
    """Changes the rows of the centers, and of their optimizer state, in a checkpoint of Lightning.

    Args:
        checkpoint: changed in place; tensors and dictionaries outside of it are not.
        key: of the centers in the weights.
        parameter_index: of the centers among the parameters of the optimizer.
        change: maps the rows in the checkpoint to the new rows.
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
    """Gathers (n, ...) rows of each process, the same n in all, into (ranks * n, ...), in the order of the ranks."""
    if ranks == 1:
        return rows
    parts = [torch.empty_like(rows) for _ in range(ranks)]
    dist.all_gather(parts, rows.contiguous())
    return torch.cat(parts)


class _Gather(torch.autograd.Function):
    """`all_gather`, with gradients: `DistributedDataParallel` will divide them by the number of processes."""

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
    """Mean cross-entropy of logits whose columns are spread over the processes.

    Takes (n, local landmarks) logits, (n, 1) columns of the targets, (n,) which are local, and (n,) which rows count.
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
    """Replaces the centers of all landmarks in a state dict by those of this process, before it is loaded."""
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
