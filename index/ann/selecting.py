"""Masks for FAISS and the order of results."""

import faiss
import numpy as np

from glam.index.types import Mask, Rows, Scores


def bitmap(allowed: Mask) -> faiss.IDSelectorBitmap:
    """A FAISS selector of the positions where ``allowed`` is true."""
    return faiss.IDSelectorBitmap(np.packbits(allowed, bitorder="little"))  # type: ignore[call-arg, arg-type]


def best_first(scores: Scores, positions: Rows) -> tuple[Scores, Rows]:
    """Results of one query by falling score, equal ones by position."""
    order = np.lexsort((positions, -scores))
    return scores[order], positions[order]
