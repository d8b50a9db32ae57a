"""Folders of images of generated landmarks, for the demo, for tests, and for trying out training.

Each landmark has a sub-folder, as in ``landmark_00012/0003.jpg``. Landmark n of a seed does not depend on the other
landmarks that are generated, so disjoint sets differ only in ``first_landmark``.
"""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from glam.datasets.synthetic.scenes import build_scene
from glam.datasets.synthetic.studio import Studio
from glam.errors import GlamError
from glam.progress import Progress

SMALLEST, LARGEST = 64, 1024


@dataclass(frozen=True)
class _RenderJob:
    """Arguments to render one landmark."""

    folder: Path
    landmark: int
    images: int
    size: int
    seed: int

    def files(self) -> list[Path]:
        return [self.folder / f"{number:04}.jpg" for number in range(self.images)]


def generate(
    folder: Path,
    *,
    landmarks: int,
    images_per_landmark: int,
    size: int = 320,
    seed: int = 0,
    first_landmark: int = 0,
    workers: int | None = None,
    progress: Progress | None = None,
) -> list[Path]:
    """Writes images of generated landmarks. The same arguments give the same bytes, with any number of workers.

    Args:
        folder: target folder, created if missing. It may contain files of an earlier or interrupted run with the same
            arguments, but no others.
        landmarks: number of landmarks, at least 1.
        images_per_landmark: number of images of each landmark, at least 1.
        size: longest side of each image in pixels, 64 to 1024.
        seed: seed of the set, at least 0. Different seeds give different landmarks.
        first_landmark: number of the first landmark, at least 0. Use it to split one seed into disjoint sets.
        workers: number of processes; by default one per core. With 1, the current process does the work.
        progress: called with images done and total images after each landmark.

    Returns:
        The paths of the images, ordered by landmark.

    Raises:
        GlamError: a number is out of range, or the folder contains other files or cannot be written.
    """
    _check(landmarks, images_per_landmark, size, seed, first_landmark, workers)
    folder = Path(folder)
    numbers = range(first_landmark, first_landmark + landmarks)
    jobs = [_RenderJob(folder / f"landmark_{number:05}", number, images_per_landmark, size, seed) for number in numbers]
    files = [file for job in jobs for file in job.files()]
    _check_folder(folder, files)
    try:
        for done, _ in enumerate(_results(jobs, min(workers or os.cpu_count() or 1, landmarks)), start=1):
            if progress is not None:
                progress(done * images_per_landmark, len(files))
    except OSError as error:
        raise GlamError(
            f"{folder}: cannot write the generated images ({error.strerror or error}). "
            "Free disk space or choose another folder."
        ) from error
    return files


def _results(jobs: list[_RenderJob], workers: int) -> Iterator[None]:
    """Runs the jobs, in this process or in ``workers`` others, and yields after each one."""
    if workers == 1:
        yield from map(_render_landmark, jobs)
        return
    # Do not fork this process: PyTorch's threads may be running in it, and they do not survive a fork.
    method = "forkserver" if "forkserver" in multiprocessing.get_all_start_methods() else "spawn"
    context = multiprocessing.get_context(method)
    context.set_forkserver_preload([__name__])
    with ProcessPoolExecutor(workers, context, _one_thread) as pool:
        results: Iterable[None] = pool.map(_render_landmark, jobs)
        yield from results


def _one_thread() -> None:
    cv2.setNumThreads(1)


def _render_landmark(job: _RenderJob) -> None:
    """Builds the scene of one landmark and renders its images."""
    studio = Studio(build_scene((job.seed, job.landmark)))
    job.folder.mkdir(parents=True, exist_ok=True)
    for number, file in enumerate(job.files()):
        file.write_bytes(studio.render_jpeg(np.random.default_rng((job.seed, job.landmark, number)), job.size))


def _check(landmarks: int, images: int, size: int, seed: int, first_landmark: int, workers: int | None) -> None:
    if landmarks < 1:
        raise GlamError(f"{landmarks} landmarks cannot be generated. Choose at least 1.")
    if images < 1:
        raise GlamError(f"{images} images per landmark cannot be generated. Choose at least 1.")
    if not SMALLEST <= size <= LARGEST:
        raise GlamError(f"The size {size} is out of range. Choose {SMALLEST} to {LARGEST} pixels.")
    if seed < 0 or first_landmark < 0:
        raise GlamError("The seed or the number of the first landmark is negative. Choose 0 or more.")
    if workers is not None and workers < 1:
        raise GlamError(f"{workers} workers cannot generate images. Choose at least 1.")


def _check_folder(folder: Path, files: list[Path]) -> None:
    """Refuses a folder that contains files other than those that this run writes."""
    if folder.exists() and not folder.is_dir():
        raise GlamError(f"{folder} is a file. Choose a folder for the generated images.")
    ours = set(files)
    other = next((path for path in folder.rglob("*") if not path.is_dir() and path not in ours), None)
    if other is not None:
        raise GlamError(
            f"{folder} contains other files, such as {other.relative_to(folder)}. Choose a new or empty folder."
        )
