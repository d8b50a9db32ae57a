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

NAMES = {
    **{"JPEG": "JPEG", "PNG": "PNG", "WEBP": "WebP", "HEIF": "HEIC", "AVIF": "AVIF", "GIF": "GIF", "BMP": "BMP"},
    **{"TIFF": "TIFF", "JPEG2000": "JPEG 2000", "PPM": "PPM", "JXL": "JPEG XL", "RAW": "RAW"},
}
"""Names of the formats in messages, the most common ones first."""

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


def list_formats() -> str:
    """The names of the formats that this installation reads, for messages: "JPEG, PNG, ..., or PPM"."""
    *names, last = (name for format, name in NAMES.items() if format in FORMATS or format in INSTALLED)
    return f"{', '.join(names)}, or {last}"


@cache
def readable_formats() -> tuple[str, ...]:
    """The formats of `FORMATS` that Pillow reads here. Some builds lack AVIF, and Pillow refuses unknown names."""
    Image.init()
    import_module("pillow_heif").register_heif_opener()
    return tuple(name for name in FORMATS if name in Image.OPEN)
