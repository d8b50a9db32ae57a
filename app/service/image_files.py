"""The files behind the index: found safely, passed on as they are, or made small."""

import hashlib
import io
from dataclasses import dataclass
from pathlib import Path

from PIL import Image, UnidentifiedImageError

from glam.app.service.lru_cache import LruCache
from glam.errors import ImageError
from glam.images import read_image
from glam.index import Index

# Formats that every current browser shows, by Pillow's names. A file of another format is sent as a JPEG.
SHOWN_BY_BROWSERS = {
    "JPEG": "image/jpeg",
    "MPO": "image/jpeg",  # a JPEG with further pictures after the first, as some cameras write
    "PNG": "image/png",
    "WEBP": "image/webp",
    "GIF": "image/gif",
    "AVIF": "image/avif",
}
JPEG_QUALITY = 88
THUMBNAIL_QUALITY = 82


class ImageFileGone(Exception):
    """An indexed image whose file cannot be served now. ``str(error)`` is one sentence that tells no absolute path."""


@dataclass(frozen=True)
class Thumbnail:
    """A small upright JPEG.

    Attributes:
        jpeg: the encoded bytes; ``None`` when the asker has this very version already.
        etag: names the version, quoted as HTTP wants it.
    """

    jpeg: bytes | None
    etag: str


class IndexedFiles:
    """Reads the files of an index by id, and no other file.

    Methods raise ``KeyError`` for an id that is not in the index and ``ImageFileGone`` for a file that is missing,
    unreadable, or outside the indexed folder. They may be called from several threads.
    """

    def __init__(self, index: Index, thumbnails: LruCache[str, bytes]) -> None:
        self._index = index
        self._root = index.root.resolve()
        self._thumbnails = thumbnails

    def path(self, id: int) -> Path:
        """The file of image ``id``, with symbolic links resolved, inside the root of the index."""
        name = self._index.entry(id).path
        path = self._index.file(id).resolve()
        # A catalog is a file that came from somewhere: a path in it with `..`, or a link put into the folder later,
        # must not open the rest of the disk.
        if not path.is_relative_to(self._root):
            raise ImageFileGone(f"Image {id} ({name}) lies outside the indexed folder and is not served.")
        if not path.is_file():
            raise ImageFileGone(f"The file of image {id} ({name}) is no longer where it was when it was indexed.")
        return path

    def read(self, id: int) -> Image.Image:
        """The whole image, upright and RGB."""
        try:
            return read_image(self.path(id))
        except ImageError as error:
            raise self._unreadable(id) from error

    def content(self, id: int) -> bytes:
        """The bytes of the file."""
        try:
            return self.path(id).read_bytes()
        except OSError as error:
            raise self._unreadable(id) from error

    def browser_type(self, id: int) -> str | None:
        """The media type of a file that browsers show as it is, else ``None``. The content decides, not the name."""
        try:
            with Image.open(self.path(id)) as image:
                return SHOWN_BY_BROWSERS.get(image.format or "")
        except (UnidentifiedImageError, OSError, Image.DecompressionBombError) as error:
            raise self._unreadable(id) from error

    def jpeg(self, id: int) -> bytes:
        """The whole image as an upright JPEG."""
        return _encode(self.read(id), JPEG_QUALITY)

    def thumbnail(self, id: int, size: int, known_etag: str = "") -> Thumbnail:
        """The image with its longest side at most ``size`` pixels.

        Args:
            id: number of the image.
            size: longest side in pixels; a smaller image keeps its size.
            known_etag: version the asker has; when it is the current one, nothing is decoded.
        """
        path = self.path(id)
        stat = path.stat()
        version = f"{path}\n{stat.st_mtime_ns}\n{stat.st_size}\n{size}"
        etag = f'"{hashlib.sha256(version.encode()).hexdigest()[:32]}"'
        if etag in known_etag:
            return Thumbnail(None, etag)
        jpeg = self._thumbnails.get(etag)
        if jpeg is None:
            image = self.read(id)
            image.thumbnail((size, size), Image.Resampling.LANCZOS)
            jpeg = _encode(image, THUMBNAIL_QUALITY)
            self._thumbnails.put(etag, jpeg)
        return Thumbnail(jpeg, etag)

    def _unreadable(self, id: int) -> ImageFileGone:
        return ImageFileGone(
            f"The file of image {id} ({self._index.entry(id).path}) can no longer be read as an image."
        )


def _encode(image: Image.Image, quality: int) -> bytes:
    out = io.BytesIO()
    image.save(out, "JPEG", quality=quality, optimize=True)
    return out.getvalue()
