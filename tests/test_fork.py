"""A forked process computes, whatever its parent computed before."""

import multiprocessing
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

PROGRAM = """
import multiprocessing
from pathlib import Path
import cv2
import numpy as np
import glam
from glam.datasets.readers import read_folder
from glam.images import read_image
from glam.index.local_matching.rootsift import extract

model = glam.load("glam-lite0", "cpu")
folder = read_folder(Path("photos"))
glam.index.build("i.glam", folder, model)
files = [folder.root / image.path for image in folder.images]
descriptors = model.describe(files)
queries = np.repeat(descriptors, 60, axis=0)
index = glam.index.open("i.glam")
cv2.setNumThreads(2)
cv2.GaussianBlur(np.zeros((2000, 2000), np.float32), (31, 31), 5)  # begins the threads of OpenCV
tasks = {
    "describe": lambda: model.describe(files[:1]).shape,
    "search": lambda: len(index.search(queries, k=3)),
    "rerank": lambda: len(index.search(descriptors[:2], k=3, rerank="aqe")),
    "local features": lambda: len(extract(read_image(files[0])).points),
}
context = multiprocessing.get_context("fork")
for name, task in tasks.items():
    expected = task()
    answers = context.SimpleQueue()
    child = context.Process(target=lambda: answers.put(task()), daemon=True)
    child.start()
    child.join(30)
    print(name, "hangs" if child.is_alive() else answers.get() == expected, flush=True)
    child.kill()
"""


@pytest.mark.skipif("fork" not in multiprocessing.get_all_start_methods(), reason="processes do not fork here")
def test_a_forked_process_does_what_its_parent_did(tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    rng = np.random.default_rng(0)
    for i in range(8):
        pixels = rng.integers(0, 255, (48, 64, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / "photos" / f"{i}.png")
    environment = {**os.environ, "OMP_NUM_THREADS": "2"}  # with one there is no pool to wait for
    ran = subprocess.run(
        [sys.executable, "-c", PROGRAM], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=300
    )
    assert ran.stdout.splitlines() == ["describe True", "search True", "rerank True", "local features True"], ran.stderr
