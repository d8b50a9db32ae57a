"""How long GLAM with GeM takes: the forms side by side in one run, beside the floor that arithmetic and bytes set."""

import statistics
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from glam import GLAM, GeM
from glam.kernels import use_form
from glam.kernels.dispatch import triton_for
from glam.pooling_fusion import attend_and_pool


@dataclass(frozen=True)
class Case:
    """One size: batch, channels, reduction, height and width of the feature map."""

    batch: int
    channels: int
    reduction: int
    height: int
    width: int

    def __str__(self) -> str:
        return f"{self.batch}x{self.channels}x{self.height}x{self.width}, r {self.reduction}"


def cases_for(device: torch.device) -> list[Case]:
    """The last feature maps of a ResNet on a GPU; elsewhere one of a small network."""
    if device.type != "cuda":
        return [Case(2, 320, 64, 10, 8)]
    maps = ((16, 24, 32), (64, 16, 16))
    return [Case(batch, 2048, r, height, width) for batch, height, width in maps for r in (512, 256)]


@dataclass(frozen=True)
class FormTiming:
    """One form at one size.

    Attributes:
        form: which.
        forward, both: median milliseconds of the forward pass without gradients, and of forward and backward.
        peak: MiB that forward and backward hold at most beyond weights and input; 0 on the CPU.
    """

    case: str
    form: str
    forward: float
    both: float
    peak: float


class _Pooled(nn.Module):
    """GLAM and GeM, by the fused path or one after the other."""

    def __init__(self, case: Case, *, fused: bool) -> None:
        super().__init__()
        self.glam = GLAM(case.channels, case.reduction)
        self.pool = GeM()
        self.fused = fused

    def forward(self, features: Tensor) -> Tensor:
        if self.fused:
            return attend_and_pool(self.glam, self.pool, features)
        return self.pool(self.glam(features))  # type: ignore[no-any-return]


FORMS = (
    "plain",
    "compiled plain",
    "fast PyTorch",
    "kernels",
    "compiled kernels",
    "kernels in a graph",
    "kernels in a graph, channels-last",
)


def time_forms(case: Case, device: torch.device, dtype: torch.dtype, forms: Sequence[str] = FORMS) -> list[FormTiming]:
    """Times the forms at one size on random data.

    Args:
        case: the size.
        device: a GPU, or the CPU, where there are no kernels.
        dtype: of weights and features.
        forms: which of `FORMS`.
    """
    timings = []
    for form in forms:
        if "kernels" in form and not triton_for(torch.empty(0, device=device)):
            continue
        torch.manual_seed(0)
        torch.compiler.reset()
        network = _Pooled(case, fused="plain" not in form).to(device, dtype)
        features = torch.randn(case.batch, case.channels, case.height, case.width, device=device, dtype=dtype).relu_()
        if "channels-last" in form:
            features = features.to(memory_format=torch.channels_last)
        run: Callable[[Tensor], Tensor] = torch.compile(network) if "compiled" in form else network
        with _form(form):
            timings.append(FormTiming(str(case), form, *_time(run, network, features, graph="graph" in form)))
        del network, features, run
    return timings


def floor(case: Case, device: torch.device, dtype: torch.dtype) -> tuple[float, float]:
    """Milliseconds of the forward pass that no form is much below: by arithmetic, and by bytes.

    The arithmetic: query, key, value and output, 4 c r n multiply-adds, and 2 r n^2 of attention, at the rate of one
    large product measured here. The bytes: the feature map and the weights read once, at the rate of a large copy.
    """
    n = case.height * case.width
    operations = 2 * case.batch * (4 * case.channels * case.reduction * n + 2 * case.reduction * n * n)
    moved = (case.batch * n + 4 * case.reduction) * case.channels * dtype.itemsize
    size = 8192 if device.type == "cuda" else 1024
    a, b = (torch.randn(size, size, device=device, dtype=dtype) for _ in range(2))
    rate = 2 * size**3 / _median(lambda: a @ b, device)
    long = torch.empty(2**28 if device.type == "cuda" else 2**24, device=device, dtype=torch.uint8)
    bandwidth = 2 * long.numel() / _median(long.clone, device)
    return operations / rate, moved / bandwidth


def _form(form: str) -> AbstractContextManager[None]:
    return use_form("plain" if "plain" in form else "torch" if "PyTorch" in form else "auto")


def _time(
    run: Callable[[Tensor], Tensor], network: nn.Module, features: Tensor, *, graph: bool
) -> tuple[float, float, float]:
    device = features.device

    def forward() -> None:
        with torch.no_grad():
            run(features)

    leaf = features.detach().requires_grad_()
    gradient = torch.randn(features.shape[:2], device=device)

    def both() -> None:
        torch.autograd.grad(run(leaf), [leaf, *network.parameters()], gradient)

    forward_time, both_time = (_median(_captured(f) if graph else f, device) for f in (forward, both))
    if device.type != "cuda":
        return forward_time, both_time, 0.0
    torch.cuda.synchronize()
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    both()
    return forward_time, both_time, (torch.cuda.max_memory_allocated() - before) / 2**20


def _captured(run: Callable[[], None]) -> Callable[[], None]:
    """The same work as one CUDA graph: without the time that the processor takes to launch it."""
    stream = torch.cuda.Stream()  # type: ignore[no-untyped-call]
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(3):
            run()
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        run()
    return graph.replay


def _median(run: Callable[[], object], device: torch.device) -> float:
    """Median milliseconds of a call; on a GPU by events, with its cache emptied before each."""
    if device.type == "cuda":
        from triton.testing import do_bench

        for _ in range(3):
            run()
        return float(do_bench(run, warmup=50, rep=300, return_mode="median"))
    times = []
    for _ in range(7):
        start = time.perf_counter()
        run()
        times.append((time.perf_counter() - start) * 1000)
    return statistics.median(times[2:])
