"""Table and plot of an ablation, from the lines that `ablation.py` records: means, gains, and their intervals."""

import csv
import shlex
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from glam.training.charts import Axis, Chart

Line = dict[str, Any]
Bootstrap = tuple[float, float, float]
"""A mean, and the lower and upper end of its 95% interval."""


def summarize(lines: Sequence[Line], variants: Sequence[str]) -> list[Line]:
    """Summarizes each setting and variant: mAP and its gain over no attention in percentage points, with intervals.

    The gain is computed over the seeds that both variants have.

    Args:
        lines: recorded lines.
        variants: variants in the order of the rows; "none" is no attention.
    """
    runs = {(line["setting"], line["variant"], line["seed"]): line for line in lines if "ap" in line}
    costs = {(line["setting"], line["variant"]): line for line in lines if "step_ms" in line}
    rows = []
    for setting in dict.fromkeys(line["setting"] for line in lines):
        for variant in variants:
            seeds = sorted(seed for s, v, seed in runs if (s, v) == (setting, variant))
            if not seeds:
                continue
            mine = [runs[setting, variant, seed] for seed in seeds]
            ap, landmarks = ap_matrix(mine)
            row: Line = {"setting": setting, "variant": variant, "seeds": len(seeds)}
            row |= points("map", bootstrap(ap, landmarks))
            both = [seed for seed in seeds if (setting, "none", seed) in runs]
            if both:
                without, _ = ap_matrix([runs[setting, "none", seed] for seed in both])
                row |= points("gain", bootstrap(ap[[seeds.index(seed) for seed in both]] - without, landmarks))
            row["recall_at_1"] = round(100 * statistics.mean(line["recall_at_1"] for line in mine), 2)
            row |= {key: costs.get((setting, variant), {}).get(key) for key in ("step_ms", "step_mib", "weights")}
            row["train_seconds"] = round(statistics.mean(line["seconds"] for line in mine), 1)
            row["train_mib"] = mine[0]["mib"]
            row["options"] = shlex.join(mine[0]["options"])
            rows.append(row)
    return rows


def bootstrap(values: NDArray[np.float64], landmarks: NDArray[np.int64], resamples: int = 2000) -> Bootstrap:
    """Computes the mean and its percentile interval from bootstrap samples of both seeds and landmarks.

    Args:
        values: one value per seed and query, (seeds, queries).
        landmarks: landmark of each query, (queries,), numbered from 0 without gaps.
        resamples: number of bootstrap samples.
    """
    sums = np.stack([np.bincount(landmarks, row) for row in values])  # (seeds, landmarks)
    counts = np.bincount(landmarks)
    random = np.random.default_rng(0)
    seeds, drawn = (
        random.multinomial(length, np.full(length, 1 / length), resamples) for length in (len(sums), len(counts))
    )
    means = ((seeds @ sums) * drawn).sum(axis=1) / (len(sums) * (drawn @ counts))
    low, high = np.quantile(means, [0.025, 0.975])
    return float(values.mean()), float(low), float(high)


def write_table(rows: Sequence[Line], path: Path) -> None:
    """Writes the rows as CSV."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="", encoding="utf-8") as file:
        table = csv.DictWriter(file, list(dict.fromkeys(key for row in rows for key in row)), lineterminator="\n")
        table.writeheader()
        table.writerows(rows)


def draw(rows: Sequence[Line], path: Path) -> None:
    """Plots the gain of each variant over no attention with its interval, one panel per setting."""
    settings = list(dict.fromkeys(row["setting"] for row in rows))
    names = list(dict.fromkeys(row["variant"] for row in rows))
    left, panel, top, line = 160, 280, 66, 26
    bottom = top + line * len(names)
    chart = Chart(left + panel * max(2, len(settings)), bottom + 24)
    chart.text(
        20, 20, "Gain in mAP over no attention, in points, with the 95% interval over seeds and landmarks", "strong"
    )
    ends = [row[end] for row in rows for end in ("gain_low", "gain_high") if end in row]
    for i, setting in enumerate(settings):
        x = Axis([0.0, *ends], left + panel * i + 20, left + panel * (i + 1) - 80)
        chart.text(x.start, 46, setting)
        for pixel, label in x.ticks():
            chart.grid(pixel, top - 10, pixel, bottom - 6)
            chart.text(pixel, bottom + 12, label, "faint", anchor="middle")
        for row in (row for row in rows if row["setting"] == setting):
            y = top + 6 + line * names.index(row["variant"])
            chart.text(x.end + 12, y + 4, f"mAP {row['map']:.1f}", "faint")
            if "gain" in row:
                chart.curve([(x(row["gain_low"]), y), (x(row["gain_high"]), y)])
                chart.dot(x(row["gain"]), y)
    for i, name in enumerate(names):
        chart.text(left, top + 10 + line * i, name, anchor="end")
    chart.write(path)


def ap_matrix(runs: Sequence[Line]) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Returns AP, (seeds, queries), and landmarks, (queries,), of runs that were scored on the same images."""
    names = list(runs[0]["ap"])
    ap = np.array([[value for name in names for value in run["ap"][name]] for run in runs])
    return ap, np.repeat(np.arange(len(names)), [len(runs[0]["ap"][name]) for name in names])


def points(name: str, found: Bootstrap) -> dict[str, float]:
    """Converts a mean and its interval to percentage points."""
    return dict(zip((name, f"{name}_low", f"{name}_high"), (round(100 * value, 2) for value in found), strict=True))
