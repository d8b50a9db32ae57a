"""What the segments of an index must prove before anything is read from them or built on them.

    Index.open, Writer --> check_segments --> take_snapshot --check_sizes--> segments

The check is cheap: exact sizes, and the digests of some batches. `verify` reads every byte.
"""

import stat
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from glam.errors import GlamError
from glam.index.limits import DEFAULT_LIMITS
from glam.index.storage.catalog import Catalog
from glam.index.storage.checksums import CHECKSUMS
from glam.index.storage.records import DescriptorBatch
from glam.index.storage.segments import FOLDER, digest_descriptors, missing, open_segment, segment_file, too_short


def check_segments(index: Path, catalog: Catalog, *, spot_bytes: int = DEFAULT_LIMITS.spot_bytes) -> None:
    """Checks the size of each segment, and the digests of some of its batches.

    A segment that was swapped with another or overwritten with zeros is found. A few wrong bytes in a large segment are
    found only by `verify`.

    Args:
        index: folder of the index.
        catalog: its catalog, in a transaction.
        spot_bytes: bytes of descriptors to read. The first and the last batch of each segment are always read.

    Raises:
        GlamError: a segment is missing, has the wrong size, or holds other descriptors than the catalog says.
    """
    config, counts = catalog.config, catalog.segments()
    if config.milvus is not None and not (index / FOLDER).is_dir():
        return  # a copy without descriptors
    # While a writer appends, and after it was killed, there are no checksums, and a segment may be longer. The sizes
    # are read before that is tested, because a writer deletes the checksums first.
    longer = check_sizes(index, counts, config.dim)
    if longer and (index / CHECKSUMS).exists() and check_sizes(index, counts, config.dim):
        raise GlamError(
            f"{segment_file(index, longer[0])} is longer than the catalog says: the index is damaged, or its catalog "
            "is older than its descriptors. Restore all files of a backup, or build the index again."
        )
    for batch in _spots(catalog.batches(), max(1, spot_bytes // (config.dim * 4))):
        file, end = segment_file(index, batch.segment), batch.first + len(batch.image_ids)
        rows = open_segment(file, end, config.dim)[batch.first :]
        if digest_descriptors(rows) != batch.digest or not np.isfinite(rows).all():
            raise GlamError(
                f"{file} is damaged between rows {batch.first} and {end - 1}: they are not the descriptors that the "
                f"catalog lists. Run `glam index verify {index}`; then restore a backup, or build the index again."
            )


def check_sizes(index: Path, counts: Mapping[int, int], dim: int) -> list[int]:
    """Checks that each segment exists and is not too short.

    Args:
        index: folder of the index.
        counts: number of rows of each segment, by its number.
        dim: length of a descriptor.

    Returns:
        The numbers of the segments that are longer than that.

    Raises:
        GlamError: a segment is missing or too short.
    """
    longer = []
    for number, count in counts.items():
        file, expected = segment_file(index, number), count * dim * 4
        try:
            facts = file.stat(follow_symlinks=False)
        except FileNotFoundError as error:
            raise missing(file) from error
        if not stat.S_ISREG(facts.st_mode) or facts.st_size < expected:
            raise too_short(file, count)
        if facts.st_size > expected:
            longer.append(number)
    return longer


def _spots(batches: Sequence[DescriptorBatch], rows: int) -> list[DescriptorBatch]:
    """All batches if they have at most ``rows`` rows; else the outer ones of each segment, and some between them."""
    total = sum(len(batch.image_ids) for batch in batches)
    if total <= rows:
        return list(batches)
    segments = [None, *(batch.segment for batch in batches), None]
    outer = [i for i in range(len(batches)) if len({*segments[i : i + 3]}) > 1]
    return [batches[i] for i in sorted({*outer, *range(0, len(batches), -(-total // rows))})]
