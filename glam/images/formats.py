"""Formats that are read, their suffixes, and the decoders of those that Pillow does not read itself.

Pillow reads more formats, some with other programs: a PostScript file of any name starts Ghostscript. So this list is
complete, and decoders that are not in it never run.
"""

from functools import cache
from importlib import import_module
from importlib.util import find_spec

from PIL import Image

FORMATS = {
    "JPEG": (".jpg", ".jpeg", ".jpe", ".jfif"),
    "PNG": (".png", ".apng"),
    "WEBP": (".webp",),
    "GIF": (".gif",),
    "BMP": (".bmp",),
    "TIFF": (".tif", ".tiff"),
    "AVIF": (".avif", ".avifs"),
    "HEIF": (".heic", ".heif", ".hif", ".heics", ".heifs"),
    "JPEG2000": (".jp2", ".j2k", ".j2c", ".jpc", ".jpf", ".jpx"),
    "PPM": (".ppm", ".pgm", ".pbm", ".pnm"),
}
"""Formats of a plain installation by Pillow's names, and their suffixes in lower case."""

EXTRA = "formats"
"""Optional dependencies with further decoders."""

EXTRA_FORMATS = {
    "JXL": ("pillow_jxl", (".jxl",)),
    "RAW": (
        "rawpy",
        (
            *(".dng", ".nef", ".nrw", ".cr2", ".cr3", ".crw", ".arw", ".srf", ".sr2", ".orf", ".rw2", ".raf", ".pef"),
            *(".srw", ".x3f", ".mrw", ".3fr", ".fff", ".iiq", ".erf", ".mef", ".mos", ".kdc", ".dcr", ".rwl"),
        ),
    ),
}
"""Formats of the optional dependencies: module that decodes them, and their suffixes. RAW files are read by the preview
that the camera stores in them."""

SAME_AS = {"MPO": "JPEG"}
"""MPO is Pillow's name for a JPEG with further pictures after the first, which some cameras write."""

INSTALLED = {name for name, (module, _) in EXTRA_FORMATS.items() if find_spec(module) is not None}

IMAGE_SUFFIXES = frozenset(
    suffix for suffixes in (*FORMATS.values(), *(EXTRA_FORMATS[name][1] for name in INSTALLED)) for suffix in suffixes
)
"""Suffixes, in lower case, of the files that a folder scan treats as images."""

NEEDS_EXTRA = frozenset(suffix for _, suffixes in EXTRA_FORMATS.values() for suffix in suffixes) - IMAGE_SUFFIXES
"""Suffixes of images that the optional dependencies would read, which are not installed."""

SUFFIX_OF = {
    **{name: suffixes[0] for name, suffixes in FORMATS.items()},
    **{name: suffixes[0] for name, (_, suffixes) in EXTRA_FORMATS.items()},
}
"""Suffix of a new file, by format."""

INSTALL = f"pip install 'glam-retrieval[{EXTRA}]'"
"""Command that installs the optional dependencies."""


@cache
def readable_formats() -> tuple[str, ...]:
    """The formats that this installation reads with Pillow, by Pillow's names.

    Some builds of Pillow lack AVIF, and Pillow refuses unknown names.
    """
    Image.init()
    pillow_heif = import_module("pillow_heif")
    pillow_heif.register_heif_opener()
    if "JXL" in INSTALLED:
        import_module("pillow_jxl")  # registers itself
    return tuple(name for name in (*FORMATS, "JXL") if name in Image.OPEN)
