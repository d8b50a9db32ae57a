"""Looking at results again: whether two photographs show the same thing in the same arrangement.

    image --local_features.extract--> points and descriptors --geometry.compare--> pairs of points that agree

Nothing here needs a model or an index: a caller brings the images, or features that were kept.
"""

from glam.index.rerank.geometry import Matches, compare
from glam.index.rerank.local_features import LocalFeatures, extract

__all__ = ["LocalFeatures", "Matches", "compare", "extract"]
