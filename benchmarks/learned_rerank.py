"""Learned re-ranking: does a small network that scores pairs of images help? It does not, see docs/lab/reranking.md.

    OMP_NUM_THREADS=1 python benchmarks/learned_rerank.py ../shared/landmarks    # benchmarks/results/learned_rerank.csv

A network (learned_scorers.py) scores the first 100 images of a list. Its score is added to the list's own score, so an
untrained network changes nothing.

Networks are trained on lists from train/ (samples of at most 14 images per landmark, the maximum in val/), of plain
search or after `superglobal`. Every fifth landmark is held out to select the best epoch, or the original order if no
epoch improves it. Tests are those of rerank.py. For the last rows, perceptrons are trained on val/ itself, in four
folds of landmarks and with half of the distractors. Each is tested with the landmarks of the fold that it did not see,
which shows whether images that the model was not trained on help more. Two rows are not trained: the cosine similarity
of the descriptors, and the mean of the best cosine similarities of local descriptors, rank the 100 images alone.
"""

import argparse
import copy
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from learned_scorers import DEPTH, KINDS, Column, Kind, Looks, Perceptron, Scorer, cached_looks
from numpy.typing import NDArray
from rerank import DRAWS, RESULTS, Landmarks, between, cached_descriptions, percent, write_rows
from torch import Tensor

import glam
from glam.datasets.readers import read_folder
from glam.eval.metrics import bootstrap_interval
from glam.index.rerank.base import Database, Query, Ranked, Step, reordered
from glam.index.rerank.chain import Chain, parse_chain
from glam.index.rerank.memory_database import MemoryDatabase
from glam.index.types import Descriptors

MOST = (14, 8, 4)
"""Maximum number of images per landmark in each sample, because folders differ."""

DEFAULT = parse_chain("superglobal")

HELD_OUT, FOLDS = 5, 4
"""One of this many landmarks of train/ is held out; number of folds of the landmarks of val/."""


@dataclass(frozen=True)
class RankedLists:
    """The first `DEPTH` images of m result lists.

    Attributes:
        queries: indices of the queries, (m,).
        images: indices of the images, best first, (m, `DEPTH`).
        scores: scores of the list, (m, `DEPTH`).
        right: whether an image shows the query's landmark, (m, `DEPTH`), bool.
        used: whether an image can be used for training, (m, `DEPTH`), bool.
    """

    queries: Tensor
    images: Tensor
    scores: Tensor
    right: Tensor
    used: Tensor

    def select(self, chosen: NDArray[np.bool_]) -> "RankedLists":
        some = torch.from_numpy(chosen)
        return RankedLists(*(values[some] for values in vars(self).values()))


def make_lists(
    descriptors: Descriptors, landmark_ids: NDArray[np.int64], draws: Sequence[NDArray[np.int64]], chain: Chain | None
) -> RankedLists:
    """Computes the lists of all images with a known landmark, among the images of each sample.

    Args:
        descriptors: descriptors of all images, (n, dim).
        landmark_ids: landmark of each image, (n,); negative if unknown.
        draws: indices of the images of each sample.
        chain: re-ranking steps; None for plain search.
    """
    queries, images, scores = [], [], []
    for draw in draws:
        full_database = MemoryDatabase([descriptors[draw]])
        for row in np.flatnonzero(landmark_ids[draw] >= 0):
            database, query = full_database.without(int(row)), Query(descriptors[draw[row]])
            if chain is None:
                found_scores, found = (values[0] for values in database.nearest(query.descriptor[None], DEPTH))
            else:
                ranked = chain.search(query, database, DEPTH)
                found_scores, found = ranked.scores, ranked.rows
            queries.append(draw[row])
            images.append(draw[found])
            scores.append(found_scores)
    query_indices, image_indices = np.array(queries), np.array(images)
    right = torch.from_numpy(landmark_ids[image_indices] == landmark_ids[query_indices][:, None])
    return RankedLists(
        torch.from_numpy(query_indices),
        torch.from_numpy(image_indices),
        torch.from_numpy(np.array(scores)),
        right,
        right | True,
    )


def balanced_draws(landmark_ids: NDArray[np.int64]) -> list[NDArray[np.int64]]:
    """Samples images: at most `MOST` of each landmark, and all images without a landmark."""
    found = []
    for seed, most in enumerate(MOST):
        generator = np.random.default_rng(seed)
        some = [
            generator.permutation(np.flatnonzero(landmark_ids == landmark_id))[:most]
            for landmark_id in np.unique(landmark_ids[landmark_ids >= 0])
        ]
        found.append(np.sort(np.concatenate([*some, np.flatnonzero(landmark_ids < 0)])))
    return found


def train(
    kind: Kind,
    looks: Looks,
    lists: RankedLists,
    held_out: RankedLists | None,
    inputs: Tensor,
    held: Tensor | None,
    seed: int,
) -> tuple[Scorer, float]:
    """Trains a scorer by maximizing `smooth_ap`.

    Args:
        kind: network and training settings.
        looks: features of all images.
        lists: lists to train on.
        held_out: lists that select the epoch; None to use the last epoch.
        inputs: inputs for ``lists``, (m, d, n).
        held: inputs for ``held_out``, (m', d, n); None without these.
        seed: seed of all random numbers.

    Returns:
        The scorer of the best epoch, and its gain in AP on ``held_out``.
    """
    torch.manual_seed(seed)
    scorer = Scorer(kind.network(looks, inputs))
    optimizer = torch.optim.AdamW(scorer.parameters(), lr=1e-3, weight_decay=0.05)
    best, gain = copy.deepcopy(scorer.state_dict()), 0.0
    before = 0.0 if held_out is None else mean_ap(held_out, held_out.scores)
    able = ((lists.right & lists.used).any(dim=1) & (~lists.right & lists.used).any(dim=1)).nonzero()[:, 0]
    for _ in range(kind.epochs):
        scorer.train()
        for batch in able[torch.randperm(len(able))].split(16):
            some = torch.rand(len(batch), DEPTH).argsort(dim=1)[:, : kind.pairs]
            take = batch[:, None], some
            total = scorer(inputs[take], lists.scores[take])
            right, wrong = lists.right[take] & lists.used[take], ~lists.right[take] & lists.used[take]
            loss = 1 - smooth_ap(total, right, wrong)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        scorer.eval()
        if held_out is None or held is None:
            continue
        now = mean_ap(held_out, scored(scorer, held, held_out.scores)) - before
        if now > gain:
            best, gain = copy.deepcopy(scorer.state_dict()), now
    if held_out is not None:
        scorer.load_state_dict(best)
    return scorer.eval(), gain


def smooth_ap(scores: Tensor, right: Tensor, wrong: Tensor) -> Tensor:
    """Computes smooth AP, which counts one image above another by the sigmoid of the difference of their scores.

    Source: A. Brown, W. Xie, V. Kalogeiton, A. Zisserman, "Smooth-AP: smoothing the path towards large-scale image
    retrieval", ECCV 2020 (arXiv 2007.12163).

    Args:
        scores: scores of the images in each list, (b, d).
        right: whether an image shows the query's landmark, (b, d), bool.
        wrong: whether an image shows something else, (b, d), bool; images that are neither are ignored.

    Returns:
        Mean over the lists, ().
    """
    above = torch.sigmoid(scores[:, None] - scores[:, :, None]) * (right | wrong)[:, None]
    above = above * (1 - torch.eye(scores.shape[1]))
    precision = (1 + (above * right[:, None]).sum(dim=2)) / (1 + above.sum(dim=2))
    return ((precision * right).sum(dim=1) / right.sum(dim=1).clamp(min=1)).mean()


@torch.inference_mode()
def scored(scorer: Scorer, inputs: Tensor, scores: Tensor) -> Tensor:
    """Computes the scores of lists, (m, d)."""
    return torch.cat([scorer(*part) for part in zip(inputs.split(16), scores.split(16), strict=True)])


def mean_ap(lists: RankedLists, scores: Tensor) -> float:
    """Computes the mean AP of lists in the order of new scores, (m, d), within the depth of the lists."""
    right = torch.gather(lists.right, 1, scores.argsort(dim=1, descending=True, stable=True)).float()
    right = right[right.any(dim=1)]
    precision = right.cumsum(dim=1) / torch.arange(1, DEPTH + 1)
    return float(((precision * right).sum(dim=1) / right.sum(dim=1)).mean())


def inputs_of(kind: Kind, looks: Looks, lists: RankedLists) -> Tensor:
    """Computes the inputs of a kind of network for lists, (m, d, n)."""
    rows = zip(lists.queries, lists.images, lists.scores, strict=True)
    return torch.stack([kind.inputs(looks, *row) for row in rows])


@dataclass(frozen=True)
class Learned(Step):
    """A re-ranking step. Database and query return the index of an image instead of its local features.

    Attributes:
        kind: kind of the scorers.
        looks: features of all images.
        scorers: scorer for each query.
        depth: number of images to re-rank.
    """

    kind: Kind
    looks: Looks
    scorers: Sequence[Scorer | Column]
    depth: int = DEPTH

    @torch.inference_mode()
    def __call__(self, query: Query, ranked: Ranked, database: Database) -> Ranked:
        index = cast(int, query.local_features())
        indices = torch.tensor(
            [cast(int, database.local_features_in_row(int(row))) for row in ranked.rows[: self.depth]]
        )
        scores = torch.from_numpy(ranked.scores[: self.depth])
        inputs = self.kind.inputs(self.looks, torch.tensor(index), indices, scores)
        return reordered(ranked, self.scorers[index](inputs, scores).numpy())


class Trial:
    """Features of train/, val/, and the distractors, and the networks trained and tested on their lists.

    Args:
        folder: folder with train/, val/, and distractors/.
        model_name: name or path of the model.
        cache: folder that caches features; None for no cache.
    """

    def __init__(self, folder: Path, model_name: str, cache: Path | None) -> None:
        described, model = cached_descriptions(model_name, cache), glam.load(model_name)
        self.landmarks = Landmarks(folder, described)
        self.landmarks.features = cast(Any, lambda index: index)
        self.looks = cached_looks(model, "landmarks", self.landmarks.files, self.landmarks.descriptors, cache)
        unknown = np.full(len(self.landmarks.files) - len(self.landmarks.landmark_ids), -1)
        self.landmark_ids = np.concatenate([self.landmarks.landmark_ids, unknown])
        train_collection = read_folder(folder / "train")
        files = [train_collection.file(i) for i in range(len(train_collection))]
        self.train_descriptors, self.train_landmark_ids = described("train", files), train_collection.landmark_ids
        self.train_looks = cached_looks(model, "train", files, self.train_descriptors, cache)
        self.known: dict[str, RankedLists] = {}
        everything = np.arange(len(self.landmarks.files))
        self.sets = [everything, *(self.landmarks.draw(seed) for seed in range(DRAWS))]
        self.plain, self.default = self.aps(None), self.aps(DEFAULT)

    def aps(self, chain: Chain | None) -> list[NDArray[np.float64]]:
        """Computes the AP of the queries, with all images and in each sample of four images per landmark."""
        return [self.landmarks.ap(images, chain) for images in self.sets]

    def learned(
        self, before: Chain | None, kind: Kind, scorers: Sequence[Scorer | Column]
    ) -> list[NDArray[np.float64]]:
        """Computes the AP of a scorer after a chain of re-ranking steps, or after plain search without a chain."""
        steps = () if before is None else before.steps
        return self.aps(Chain((*steps, Learned(kind, self.looks, scorers))))

    def row(self, name: str, runs: list[list[NDArray[np.float64]]], held_out: float | None) -> dict[str, Any]:
        """Returns a row of the table, for the mean over runs with different seeds."""
        aps = [np.mean(parts, axis=0) for parts in zip(*runs, strict=True)]
        landmark_ids = self.landmarks.landmark_ids
        groups = [landmark_ids == landmark_id for landmark_id in np.unique(landmark_ids)]
        figures: dict[str, Any] = {"chain": name, "runs": len(runs), "map": percent(aps[0].mean())}
        for over, were in (("plain", self.plain), ("superglobal", self.default)):
            gains = aps[0] - were[0]
            figures[f"over_{over}"] = percent(gains.mean())
            figures[f"over_{over}_low_high"] = between(bootstrap_interval([gains[group] for group in groups]))
            few = [np.nanmean(ap) - np.nanmean(was) for ap, was in zip(aps[1:], were[1:], strict=True)]
            figures[f"over_{over}_of_four"] = percent(float(np.mean(few)))
        return {**figures, "held_out_of_train": "" if held_out is None else percent(held_out)}

    def rows(self, names: Sequence[str]) -> Iterator[dict[str, Any]]:
        """Yields the rows of the table."""
        yield self.row("plain", [self.plain], None)
        yield self.row("superglobal", [self.default], None)
        for name, column in (("cosine", 0), ("local cosines", 2)):
            alone = [Column(column)] * len(self.landmark_ids)
            yield self.row(f"superglobal,{name}", [self.learned(DEFAULT, KINDS["statistics"], alone)], None)
        for name in names:
            yield self.from_train("superglobal", name)
            if KINDS[name].network is Perceptron:  # the transformer is too slow for both
                yield self.from_train("", name)
        for name in names:
            if KINDS[name].network is Perceptron:
                yield self.from_folds("superglobal", name)

    def lists_of_train(self, text: str) -> RankedLists:
        """Returns the lists of train/ for a chain, cached; landmarks that are held out are not used for training."""
        if text not in self.known:
            chain = parse_chain(text) if text else None
            lists = make_lists(
                self.train_descriptors, self.train_landmark_ids, balanced_draws(self.train_landmark_ids), chain
            )
            lists.used[torch.from_numpy(self.train_landmark_ids % HELD_OUT == 0)[lists.images]] = False
            self.known[text] = lists
        return self.known[text]

    def from_train(self, text: str, name: str) -> dict[str, Any]:
        """Trains on train/ and tests."""
        before, kind = parse_chain(text) if text else None, KINDS[name]
        lists = self.lists_of_train(text)
        held = self.train_landmark_ids[lists.queries.numpy()] % HELD_OUT == 0
        inputs = inputs_of(kind, self.train_looks, lists)
        runs, gains = [], []
        for seed in range(kind.seeds):
            some = torch.from_numpy(held)
            parts = inputs[~some], inputs[some]
            scorer, gain = train(kind, self.train_looks, lists.select(~held), lists.select(held), *parts, seed)
            gains.append(gain)
            runs.append(self.learned(before, kind, [scorer.on(self.looks)] * len(self.landmark_ids)))
        return self.row(",".join(filter(None, [text, f"learned:{name}"])), runs, float(np.mean(gains)))

    def from_folds(self, text: str, name: str) -> dict[str, Any]:
        """Trains on val/ in folds, and tests each scorer with landmarks that it did not see."""
        before, kind = parse_chain(text), KINDS[name]
        lists = make_lists(self.landmarks.descriptors, self.landmark_ids, balanced_draws(self.landmark_ids), before)
        inputs = inputs_of(kind, self.looks, lists)
        indices = np.arange(len(self.landmark_ids))
        runs = []
        for seed in range(kind.seeds):
            scorers = []
            for fold in range(FOLDS):
                known = np.where(self.landmark_ids < 0, indices % 2 == 0, self.landmark_ids % FOLDS != fold)
                asking = known[lists.queries.numpy()]
                some = lists.select(asking)
                some.used[~torch.from_numpy(known)[some.images]] = False
                scorers.append(train(kind, self.looks, some, None, inputs[torch.from_numpy(asking)], None, seed)[0])
            runs.append(self.learned(before, kind, [scorers[landmark_id % FOLDS] for landmark_id in self.landmark_ids]))
        return self.row(f"{text},learned:{name} by folds of val", runs, None)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("landmarks", type=Path)
    parser.add_argument("--model", default="glam-lite0")
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=list(KINDS))
    parser.add_argument("--cache", type=Path, help="folder to cache descriptors in")
    parser.add_argument("--out", type=Path, default=RESULTS / "learned_rerank.csv")
    options = parser.parse_args()
    write_rows(options.out, Trial(options.landmarks, options.model, options.cache).rows(options.kinds))


if __name__ == "__main__":
    main()
