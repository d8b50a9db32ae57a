"""Writing a model as ONNX, for other runtimes: any number of images, any height and width."""

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


def export_onnx(model: "Model", path: Path) -> None:
    """Writes the network of a model as ONNX, wholly or not at all.

    The graph takes ``images``, (batch, 3, height, width) float32, normalized, and gives ``descriptors``, (batch, dim)
    float32 of unit length, at one scale. What an image has to go through before is in the metadata of the file
    (`preprocessing`).

    Args:
        model: to write.
        path: of the file; its folder is made.

    Raises:
        GlamError: the packages that write ONNX are not installed, the network has parts that ONNX has not, or the file
            cannot be written.
    """
    try:
        import onnx
        import onnxscript  # noqa: F401
    except ImportError as error:
        raise GlamError("ONNX files want the extra `onnx`: pip install 'glam-retrieval[onnx]'") from error
    multiple = model.network.backbone.multiple
    images = torch.zeros(2, 3, 4 * multiple, 6 * multiple, device=next(model.network.parameters()).device)
    # Sides as multiples of a number: what is halved five times stays simple.
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
    except Exception as error:  # exporters raise of all kinds
        raise GlamError(f"{model.name} cannot be written as ONNX: {str(error).strip().splitlines()[0]}") from error
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
    """What an image has to go through before the network, and which network it is; for the metadata of a file."""
    backbone = model.network.backbone
    return {
        "resize": f"longest side at most {model.size}, never enlarged, both sides to multiples of {backbone.multiple}, "
        "bilinear with antialiasing",
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
    """Calls the free dimensions by what they are, where the exporter numbers them."""
    batch, _, height, width = (dimension.dim_param for dimension in graph.input[0].type.tensor_type.shape.dim)
    names = {batch: "batch", height: "height", width: "width"}
    for value in (*graph.input, *graph.output, *graph.value_info):
        for dimension in value.type.tensor_type.shape.dim:
            if dimension.dim_param:
                dimension.dim_param = names.get(dimension.dim_param, dimension.dim_param)
