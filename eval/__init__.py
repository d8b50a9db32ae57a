"""Evaluation: protocols, metrics, and reports.

    evaluate_folder, evaluate_benchmark     evaluate a model by exact ranking; open_benchmark finds a benchmark on disk
    score_folder, score_revisited           evaluate descriptors, from read_ground_truth and read_descriptors
    search_folder, search_benchmark         evaluate the results of an index (IndexSearcher)
    rank_folder, rank_benchmark             evaluate the descriptors of an index by exact ranking
    average_precision, precision_at         evaluate one query, from the ranks of its positives

Names are imported on first use, so that `import glam.eval` stays light.
"""

from typing import TYPE_CHECKING

from glam.lazy_exports import lazy_exports

if TYPE_CHECKING:
    from glam.eval.benchmark import evaluate_benchmark, open_benchmark
    from glam.eval.descriptor_readers import read_descriptors
    from glam.eval.folder import evaluate_folder, score_folder
    from glam.eval.ground_truth import read_ground_truth
    from glam.eval.metrics import average_precision, precision_at
    from glam.eval.revisitop import score_revisited
    from glam.eval.search_evaluation import rank_benchmark, rank_folder, search_benchmark, search_folder
    from glam.eval.searcher import IndexSearcher

__all__ = [
    "IndexSearcher",
    "average_precision",
    "evaluate_benchmark",
    "evaluate_folder",
    "open_benchmark",
    "precision_at",
    "rank_benchmark",
    "rank_folder",
    "read_descriptors",
    "read_ground_truth",
    "score_folder",
    "score_revisited",
    "search_benchmark",
    "search_folder",
]

__getattr__ = lazy_exports(
    __name__,
    {
        "IndexSearcher": "searcher",
        "average_precision": "metrics",
        "evaluate_benchmark": "benchmark",
        "evaluate_folder": "folder",
        "open_benchmark": "benchmark",
        "precision_at": "metrics",
        "rank_benchmark": "search_evaluation",
        "rank_folder": "search_evaluation",
        "read_descriptors": "descriptor_readers",
        "read_ground_truth": "ground_truth",
        "score_folder": "folder",
        "score_revisited": "revisitop",
        "search_benchmark": "search_evaluation",
        "search_folder": "search_evaluation",
    },
)
