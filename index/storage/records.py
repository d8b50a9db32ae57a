"""Records of the catalog: the configuration of an index, its images, their files, and the rows of their descriptors.

`glam.index.storage.catalog` stores them in SQLite.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from glam.errors import GlamError
from glam.index.storage.milvus_config import MilvusConfig
from glam.index.storage.source_config import SourceConfig
from glam.index.types import ImageIds

if TYPE_CHECKING:  # PyTorch takes seconds to load, and most operations on an index need no model
    from glam.model import Model


@dataclass(frozen=True)
class IndexConfig:
    """The configuration of an index.

    Attributes:
        model: name or path that the model was loaded by.
        fingerprint: fingerprint of the model; only descriptors of models with this fingerprint can be compared.
        dim: length of a descriptor.
        size: longest side in pixels at which images are described.
        scales: scales at which images are described, relative to ``size``; the descriptors are averaged.
        root: folder that the paths of the images are relative to.
        structure: chosen kind of search structure; '' to choose by the number of images.
        milvus: the Milvus collection that is searched; None if FAISS searches the index.
        keeps: kinds of data stored for re-ranking, from `glam.index.rerank_store.files.KINDS`.
        source: where the images come from; None if the index is of an earlier version, or the caller of `build` put the
            images together.
    """

    model: str
    fingerprint: str
    dim: int
    size: int
    scales: tuple[float, ...]
    root: str
    structure: str = ""
    milvus: MilvusConfig | None = None
    keeps: tuple[str, ...] = ()
    source: SourceConfig | None = None

    def check_model(self, index: Path, model: "Model") -> None:
        """Checks that the descriptors of a model can be compared with those in the index.

        Args:
            index: folder of the index, for the error message.
            model: model of the queries.

        Raises:
            GlamError: the index was built with another model.
        """
        if model.fingerprint != self.fingerprint:
            other = "another version of it" if model.name == self.model else model.name
            raise GlamError(
                f"{index} was built with {self.model}, and descriptors of {other} cannot be compared with it. "
                "Use the model of the index, or build a new index."
            )


@dataclass(frozen=True)
class Entry:
    """One image of an index.

    Attributes:
        image_id: id of the image; it is never reused for another image.
        path: path relative to the root of the index, with forward slashes.
        landmark: landmark that the image shows; empty if unknown.
        width: width of the upright image in pixels.
        height: height of the upright image in pixels.
        metadata: other values known of the image, by key.
    """

    image_id: int
    path: str
    landmark: str
    width: int
    height: int
    metadata: Mapping[str, Any] = field(default_factory=dict, hash=False)


class FileFacts(NamedTuple):
    """What the catalog records of an image's file.

    Attributes:
        path: path relative to the root of the index, with forward slashes.
        landmark: landmark that the image shows; empty if unknown.
        metadata: other values known of the image, a JSON object.
        hash: BLAKE2b-128 of the file in hexadecimal digits; '' if unknown.
        bytes: size of the file in bytes; -1 if unknown.
        modified: modification time of the file in nanoseconds.
    """

    path: str
    landmark: str
    metadata: str
    hash: str
    bytes: int
    modified: int


class StoredImage(NamedTuple):
    """An image as stored in the catalog.

    Attributes:
        image_id: id of the image.
        facts: facts of its file.
        present: False if the image was removed and its descriptor is still on disk.
    """

    image_id: int
    facts: FileFacts
    present: bool


class DescriptorBatch(NamedTuple):
    """Descriptors that were written together, in consecutive rows of a segment.

    Attributes:
        segment: number of the segment.
        first: first row in the segment.
        image_ids: (n,) int64, id of the image that each row belongs to.
        digest: digest of the rows, by `glam.index.storage.segments.digest_descriptors`.
    """

    segment: int
    first: int
    image_ids: ImageIds
    digest: str


class NewImage(NamedTuple):
    """An image to be added to the catalog.

    Attributes:
        facts: facts of its file.
        width: width of the upright image in pixels.
        height: height of the upright image in pixels.
    """

    facts: FileFacts
    width: int
    height: int
