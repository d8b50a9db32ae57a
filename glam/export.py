"""ONNX export: a model for other runtimes, with any batch size, height, and width."""

import json
import logging
import warnings
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch.export import Dim

from glam.errors import GlamError
from glam.kernels import dispatch
from glam.output import OutputKind, write_output

if TYPE_CHECKING:
    import onnx

    from glam.model import Model

FORMATS = ("onnx",)
"""Formats that `glam export` supports."""


def export_onnx(model: "Model", path: Path) -> None:
    """Writes the network of a model as an ONNX file, atomically.

    The graph maps ``images``, (batch, 3, height, width), normalized float32, to ``descriptors``, (batch, dim), float32
    of unit length, at one scale. The metadata of the file says how to preprocess images (`preprocessing`).

    Args:
        model: model to write.
        path: file to write; its folder is created.

    Raises:
        GlamError: the packages that write ONNX are not installed, ONNX lacks an operation of the network, or the file
            cannot be written.
    """
    try:
        import onnx
        import onnxscript  # noqa: F401
    except ImportError as error:
        raise GlamError(
            "Writing ONNX files requires more packages. Install them: pip install 'glam-retrieval[onnx]'"
        ) from error
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
    except Exception as error:  # exporters raise many types
        reason = str(error).strip().splitlines()[0]
        raise GlamError(
            f"{model.name} cannot be written as ONNX: {reason}. Choose a model with another backbone."
        ) from error
    assert program is not None
    written = program.model_proto
    _name_dimensions(written.graph)
    onnx.helper.set_model_props(written, {"glam": json.dumps(preprocessing(model))})
    with write_output(path) as partial:
        onnx.save(written, str(partial))


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
