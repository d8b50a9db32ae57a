"""Local features of images, and geometric verification of image pairs.

    image --extract--> LocalFeatures --match_features, for two images--> matching points and a homography

This package needs neither a model nor an index.
"""

from glam.index.local_matching.rootsift import LocalFeatures, extract
from glam.index.local_matching.verify import Matches, match_features

__all__ = ["LocalFeatures", "Matches", "extract", "match_features"]
