"""Evaluation: protocols, metrics, and reports.

    evaluate_folder, evaluate_benchmark     evaluate a model by exact ranking; open_benchmark finds a benchmark on disk
    score_folder, score_revisited           evaluate descriptors, from read_ground_truth and read_descriptors
    score_top_k, score_top_k_lists          evaluate descriptors or results by mAP@k (read_gldv2_retrieval, read_ilias)
    score_recognition                       evaluate predicted landmarks by microAP (read_gldv2_recognition)
    search_folder, search_benchmark         evaluate the results of an index (IndexSearcher)
    rank_folder, rank_benchmark             evaluate the descriptors of an index by exact ranking
    average_precision, precision_at         evaluate one query, from the ranks of its positives
    average_precision_at                    average precision at k
    micro_average_precision                 average precision of one list of the predictions for all queries

Names are imported on first use, so that `import glam.eval` stays light.
"""

from typing import TYPE_CHECKING

from glam.lazy_exports import lazy_exports

if TYPE_CHECKING:
    from glam.eval.benchmark import evaluate_benchmark, open_benchmark
    from glam.eval.descriptor_readers import read_descriptors
    from glam.eval.folder import evaluate_folder, score_folder
    from glam.eval.gldv2 import read_gldv2_recognition, read_gldv2_retrieval
    from glam.eval.ground_truth import read_ground_truth
    from glam.eval.ilias import read_ilias
    from glam.eval.metrics import average_precision, average_precision_at, micro_average_precision, precision_at
    from glam.eval.recognition import score_recognition
    from glam.eval.revisitop import score_revisited
    from glam.eval.search_evaluation import rank_benchmark, rank_folder, search_benchmark, search_folder
    from glam.eval.searcher import IndexSearcher
    from glam.eval.top_k import score_top_k, score_top_k_lists

__all__ = [
    "IndexSearcher",
    "average_precision",
    "average_precision_at",
    "evaluate_benchmark",
    "evaluate_folder",
    "micro_average_precision",
    "open_benchmark",
    "precision_at",
    "rank_benchmark",
    "rank_folder",
    "read_descriptors",
    "read_gldv2_recognition",
    "read_gldv2_retrieval",
    "read_ground_truth",
    "read_ilias",
    "score_folder",
    "score_recognition",
    "score_revisited",
    "score_top_k",
    "score_top_k_lists",
    "search_benchmark",
    "search_folder",
]

__getattr__ = lazy_exports(
    __name__,
    {
        "IndexSearcher": "searcher",
        "average_precision": "metrics",
        "average_precision_at": "metrics",
        "evaluate_benchmark": "benchmark",
        "evaluate_folder": "folder",
        "micro_average_precision": "metrics",
        "open_benchmark": "benchmark",
        "precision_at": "metrics",
        "rank_benchmark": "search_evaluation",
        "rank_folder": "search_evaluation",
        "read_descriptors": "descriptor_readers",
        "read_gldv2_recognition": "gldv2",
        "read_gldv2_retrieval": "gldv2",
        "read_ground_truth": "ground_truth",
        "read_ilias": "ilias",
        "score_folder": "folder",
        "score_recognition": "recognition",
        "score_revisited": "revisitop",
        "score_top_k": "top_k",
        "score_top_k_lists": "top_k",
        "search_benchmark": "search_evaluation",
        "search_folder": "search_evaluation",
    },
)
