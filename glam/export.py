"""ONNX export: a model for other runtimes, with any batch size, height, and width."""

import json
import logging
import warnings
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from timm.models.mobilevit import MobileVitBlock, MobileVitV2Block
from timm.models.swin_transformer import SwinTransformerBlock
from timm.models.swin_transformer_v2 import SwinTransformerV2Block
from timm.models.twins import LocallyGroupedAttn
from torch.export import Dim

from glam.errors import GlamError
from glam.kernels import dispatch
from glam.output import OutputKind, write_output

if TYPE_CHECKING:
    import onnx

    from glam.model import Model
    from glam.network import DescriptorNetwork

FORMATS = ("onnx",)
"""Formats that `glam export` supports."""

NOT_EXPORTED = (MobileVitBlock, MobileVitV2Block, SwinTransformerBlock, SwinTransformerV2Block, LocallyGroupedAttn)
"""Modules that pad or resize maps to patches or windows, whose sides PyTorch's exporter does not simplify: it runs for
more than nine minutes (Swin), or makes a graph that fails at odd sides (MobileViT)."""

CHECKED_SHAPES = ((1, 1, 3), (3, 5, 2), (2, 4, 4))
"""Images per batch, and rows and columns in multiples of the network's, at which a graph is compared with its network:
odd and even, unlike those that it is traced at."""

TOLERANCE = 0.01
"""Largest difference of an entry of a descriptor; a GPU rounds to 0.001 (TF32), and a wrong graph differs by more."""


def export_onnx(model: "Model", path: Path) -> None:
    """Writes the network of a model as an ONNX file, atomically.

    The graph maps ``images``, (batch, 3, height, width), normalized float32, to ``descriptors``, (batch, dim), float32
    of unit length, at one scale. The metadata of the file says how to preprocess images (`preprocessing`).

    Args:
        model: model to write.
        path: file to write; its folder is created.

    Raises:
        GlamError: the packages that write ONNX are not installed, ONNX lacks an operation of the network, the graph
            gives other descriptors than the network, or the file cannot be written.
    """
    try:
        import onnx
        import onnxruntime  # noqa: F401
        import onnxscript  # noqa: F401
    except ImportError as error:
        raise GlamError(
            "Writing ONNX files requires more packages. Install them: pip install 'glam-retrieval[onnx]'"
        ) from error
    refused = next(
        (type(module).__name__ for module in model.network.modules() if isinstance(module, NOT_EXPORTED)), ""
    )
    if refused:
        raise _refusal(model, f"PyTorch does not trace {refused} for images of any size")
    multiple = model.network.backbone.multiple
    images = torch.zeros(2, 3, 4 * multiple, 6 * multiple, device=next(model.network.parameters()).device)
    # Declared as multiples of a number, the sides stay simple expressions after five strides of 2.
    sides = {2: multiple * Dim("rows", min=1, max=4096), 3: multiple * Dim("columns", min=1, max=4096)}
    shapes = {"images": {0: Dim("batch", min=1, max=1 << 20), **sides}}
    try:
        with dispatch.use_form("torch"), warnings.catch_warnings(), torch.no_grad():
            warnings.simplefilter("ignore")
            logging.getLogger("torch.onnx").setLevel(logging.ERROR)
            exported = torch.export.export(model.network, (images,), dynamic_shapes=shapes, strict=False)
            program = torch.onnx.export(
                exported, (), input_names=["images"], output_names=["descriptors"], dynamo=True, verbose=False
            )
            assert program is not None
            written = program.model_proto
            _check_graph(written, model.network)
    except Exception as error:  # exporters raise many types
        raise _refusal(model, (str(error).strip() or type(error).__name__).splitlines()[0]) from error
    _name_dimensions(written.graph)
    onnx.helper.set_model_props(written, {"glam": json.dumps(preprocessing(model))})
    with write_output(path) as partial:
        onnx.save(written, str(partial))


def _refusal(model: "Model", reason: str) -> GlamError:
    return GlamError(f"{model.name} cannot be written as ONNX: {reason}. Choose a model with another backbone.")


def _check_graph(graph: "onnx.ModelProto", network: "DescriptorNetwork") -> None:
    """Compares a graph with its network, because a network may do something else at the sizes of another image.

    Raises:
        Exception: of any type, if the graph gives other descriptors, or none.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4  # no errors: they are raised as well
    session = onnxruntime.InferenceSession(graph.SerializeToString(), options, providers=["CPUExecutionProvider"])
    device, multiple = next(network.parameters()).device, network.backbone.multiple
    for count, rows, columns in CHECKED_SHAPES:
        images = torch.randn(count, 3, rows * multiple, columns * multiple, generator=torch.Generator().manual_seed(0))
        expected = network(images.to(device)).cpu().numpy()
        difference = np.abs(session.run(None, {"images": images.numpy()})[0] - expected).max()
        if not difference < TOLERANCE:
            height, width = images.shape[2:]
            raise ValueError(f"at {height} x {width} pixels, descriptors would differ by {difference:.2g}")


def _is_export(path: Path) -> bool:
    import onnx

    return any(entry.key == "glam" for entry in onnx.load(path, load_external_data=False).metadata_props)


ONNX = OutputKind("an ONNX file that `glam export` wrote", _is_export)


def preprocessing(model: "Model") -> dict[str, object]:
    """Returns how to preprocess images for the network, and which model it is, for the metadata of an exported file.

    Args:
        model: model to describe.

    Returns:
        JSON values: the resizing and the normalization in words and numbers (sizes in pixels, mean and standard
        deviation per channel of images in [0, 1]), the scales, the dimension, and name and fingerprint of the model.
    """
    backbone = model.network.backbone
    return {
        "resize": f"reduce the longest side to {model.size}, never enlarge, round both sides to multiples of "
        f"{backbone.multiple}, bilinear with antialiasing",
        "size": model.size,
        "multiple": backbone.multiple,
        "colours": "RGB, divided by 255, minus mean, divided by std",
        "mean": list(backbone.mean),
        "std": list(backbone.std),
        "scales": list(model.scales),
        "dim": model.dim,
        "model": Path(model.name).name,
        "fingerprint": model.fingerprint,
    }


def _name_dimensions(graph: "onnx.GraphProto") -> None:
    """Names the free dimensions, which the exporter only numbers."""
    batch, _, height, width = (dimension.dim_param for dimension in graph.input[0].type.tensor_type.shape.dim)
    names = {batch: "batch", height: "height", width: "width"}
    for value in (*graph.input, *graph.output, *graph.value_info):
        for dimension in value.type.tensor_type.shape.dim:
            if dimension.dim_param:
                dimension.dim_param = names.get(dimension.dim_param, dimension.dim_param)
