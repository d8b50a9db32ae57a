"""Image files of the index: safe paths, original files, and thumbnails.

Methods that decode take the memory that `IndexedFiles.cost` estimates; call them in `DecodePool`.
"""

import hashlib
import io
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from glam.app.service.decode_cost import decode_cost
from glam.app.service.lru_cache import LruCache
from glam.errors import ImageError
from glam.images import image_errors, open_image, open_regular_file, read_image, read_regular_file
from glam.index import Index

# Formats that every current browser displays, by Pillow's names. A file in another format is sent as a JPEG.
SHOWN_BY_BROWSERS = {
    "JPEG": "image/jpeg",
    "MPO": "image/jpeg",  # a JPEG with further pictures after the first, as some cameras write
    "PNG": "image/png",
    "WEBP": "image/webp",
    "GIF": "image/gif",
    "AVIF": "image/avif",
}
JPEG_QUALITY = 88  # arbitrary: no visible artifacts at full size
THUMBNAIL_QUALITY = 82  # arbitrary: smaller files for the grid
THUMBNAIL_OVERSAMPLING = 2  # a JPEG is decoded at this many times the size at least, as Pillow's own thumbnail does


CURE = "Restore it or run glam index sync."
"""What to do about a missing file."""


class ImageFileGone(Exception):
    """The file of an indexed image cannot be served. ``str(error)`` is a message without absolute paths."""


@dataclass(frozen=True)
class Thumbnail:
    """A small upright JPEG.

    Attributes:
        jpeg: encoded bytes; None if the client's copy is current.
        etag: version of the thumbnail, in the quotes that HTTP requires.
    """

    jpeg: bytes | None
    etag: str


class IndexedFiles:
    """Reads the image files of an index, and no other files. Thread-safe.

    Methods raise ``KeyError`` for an image_id that is not in the index, and ``ImageFileGone`` for a file that is
    missing, unreadable, or outside the root of the index.
    """

    def __init__(self, index: Index, thumbnails: LruCache[str, bytes]) -> None:
        self._index = index
        self._root = index.root.resolve()
        self._thumbnails = thumbnails

    def path(self, image_id: int) -> Path:
        """Path of an image file, with symbolic links resolved. It is inside the root of the index."""
        name = self._index.entry(image_id).path
        path = self._index.file(image_id).resolve()
        # A catalog may come from a stranger. A path with `..` in it, or a link in the folder, must not lead to other
        # files of this machine.
        if not path.is_relative_to(self._root):
            raise ImageFileGone(
                f"The file of image {image_id} ({name}) is outside the indexed folder and is not served."
            )
        if not path.is_file():
            raise ImageFileGone(f"The file of image {image_id} ({name}) is missing. {CURE}")
        return path

    def cost(self, image_id: int, size: int | None = None) -> int:
        """Estimated peak memory of `read`, or of `thumbnail` with a size, in bytes."""
        try:
            return decode_cost(self.path(image_id), None if size is None else THUMBNAIL_OVERSAMPLING * size)
        except ImageError as error:
            raise self._unreadable(image_id) from error

    def read(self, image_id: int, reduce_to: int | None = None) -> Image.Image:
        """The decoded image, upright and RGB; ``reduce_to`` is that of `glam.images.read_image`."""
        try:
            return read_image(self.path(image_id), reduce_to=reduce_to)
        except ImageError as error:
            raise self._unreadable(image_id) from error

    def content(self, image_id: int) -> bytes:
        """The bytes of the file."""
        try:
            return read_regular_file(self.path(image_id))
        except OSError as error:
            raise self._unreadable(image_id) from error

    def browser_type(self, image_id: int) -> str | None:
        """Media type of a file, from its content; None if browsers cannot display the format."""
        try:
            path = self.path(image_id)
            with image_errors(path), open_regular_file(path) as file, open_image(file) as image:
                return SHOWN_BY_BROWSERS.get(image.format or "")
        except ImageError as error:
            raise self._unreadable(image_id) from error

    def jpeg(self, image_id: int) -> bytes:
        """The image as an upright JPEG."""
        return _encode(self.read(image_id), JPEG_QUALITY)

    def known_thumbnail(self, image_id: int, size: int, known_etag: str) -> Thumbnail | None:
        """A thumbnail that needs no decoding, because it is cached here or by the client; None if there is none.

        Args:
            image_id: image_id of an indexed image.
            size: longest side in pixels.
            known_etag: ETag of the client's copy, or "". If it is current, no JPEG is returned.
        """
        return self._known(self._etag(image_id, size), known_etag)

    def thumbnail(self, image_id: int, size: int, known_etag: str = "") -> Thumbnail:
        """A thumbnail of an image.

        Args:
            image_id: image_id of an indexed image.
            size: longest side in pixels. A smaller image is not enlarged.
            known_etag: see `known_thumbnail`, which may have an answer by now.
        """
        etag = self._etag(image_id, size)
        known = self._known(etag, known_etag)
        if known is not None:
            return known
        image = self.read(image_id, THUMBNAIL_OVERSAMPLING * size)
        image.thumbnail((size, size), Image.Resampling.LANCZOS)
        jpeg = _encode(image, THUMBNAIL_QUALITY)
        self._thumbnails.put(etag, jpeg)
        return Thumbnail(jpeg, etag)

    def _etag(self, image_id: int, size: int) -> str:
        path = self.path(image_id)
        try:
            stat = path.stat()
        except OSError as error:
            raise self._unreadable(image_id) from error
        version = f"{path}\n{stat.st_mtime_ns}\n{stat.st_size}\n{size}"
        return f'"{hashlib.sha256(version.encode()).hexdigest()[:32]}"'

    def _known(self, etag: str, known_etag: str) -> Thumbnail | None:
        if etag in known_etag:
            return Thumbnail(None, etag)
        jpeg = self._thumbnails.get(etag)
        return None if jpeg is None else Thumbnail(jpeg, etag)

    def _unreadable(self, image_id: int) -> ImageFileGone:
        name = self._index.entry(image_id).path
        return ImageFileGone(f"The file of image {image_id} ({name}) can no longer be read as an image. {CURE}")


def _encode(image: Image.Image, quality: int) -> bytes:
    out = io.BytesIO()
    image.save(out, "JPEG", quality=quality, optimize=True)
    return out.getvalue()
