"""Local features of images, and geometric verification of image pairs.

    image --extract--> points and descriptors --match_features, for two images--> pairs of points that agree

Nothing here needs a model or an index: a caller brings the images, or features that are stored.
"""

from glam.index.local_matching.rootsift import LocalFeatures, extract
from glam.index.local_matching.verify import Matches, match_features

__all__ = ["LocalFeatures", "Matches", "extract", "match_features"]
