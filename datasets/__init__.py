"""Image collections: reading, downloading, sampling, and augmentation.

    read_collection, read_folder     read a `Collection` of `ImageFile` from a folder or a list
    exclude, read_names              exclude landmarks or images by name
    group_sizes, SizeBatchSampler    batches of images of equal size

Names are imported on first use, so that `import glam.datasets` stays light.
"""

from typing import TYPE_CHECKING

from glam.lazy_exports import lazy_exports

if TYPE_CHECKING:
    from glam.datasets.collection import Collection, ImageFile, exclude, read_names
    from glam.datasets.readers import read_collection, read_folder
    from glam.datasets.sampler import SizeBatchSampler, group_sizes

__all__ = [
    "Collection",
    "ImageFile",
    "SizeBatchSampler",
    "exclude",
    "group_sizes",
    "read_collection",
    "read_folder",
    "read_names",
]

__getattr__ = lazy_exports(
    __name__,
    {
        "Collection": "collection",
        "ImageFile": "collection",
        "SizeBatchSampler": "sampler",
        "exclude": "collection",
        "group_sizes": "sampler",
        "read_collection": "readers",
        "read_folder": "readers",
        "read_names": "collection",
    },
)
