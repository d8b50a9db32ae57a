"""Looking at results again, by what they are to one another and to the query.

    ranked list --chain.Chain: one step after another--> a better one      what a step is: interface
    image --local_features.extract--> points and descriptors --geometry.compare--> pairs of points that agree

Nothing here needs a model or an index: a caller brings the images, or features that were kept, and a `Database`.
"""

from glam.index.local_matching.rootsift import LocalFeatures, extract
from glam.index.local_matching.verify import Matches, match_features

__all__ = ["LocalFeatures", "Matches", "extract", "match_features"]
