"""Interrupts a small training at random moments, resumes it, and compares its end with that of the unbroken training.

    python -m tests.training.interruptions --count 30 --seed 0 --workers 2
    python -m tests.training.interruptions --first 17 --count 1 --keep /tmp/run      again, and keep the run

The same kind, number of interruptions, options, and share of the training follow from the seed and the number of the
trial. The step at which a signal arrives also depends on the speed of the machine.
"""

import argparse
import multiprocessing
import sys
import tempfile
import time
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path

from tests.intake.trees_command import load_commands, run_command
from tests.soak import add_trial_options
from tests.training.interruptions.small_run import draw_landmarks, read_ending, train_line
from tests.training.interruptions.trial import SECONDS, Unbroken, run_trial


def run_unbroken(folder: Path) -> Unbroken:
    """Draws the images and trains without an interruption.

    Args:
        folder: new folder for images and run.

    Raises:
        SystemExit: the training failed.
    """
    draw_landmarks(folder)
    result = run_command(train_line(folder, folder / "run", workers=0, save_every=1000), SECONDS)
    if result.code != 0:
        sys.exit(f"the unbroken run failed:\n{result.err}")
    return Unbroken(folder, read_ending(folder / "run"), result.seconds)


def main() -> int:
    """Runs the trials and prints a summary; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=30, help="number of trials")
    add_trial_options(parser, "trial")
    parser.add_argument("--keep", type=Path, help="folder for runs in which something is wrong")
    options = parser.parse_args()
    began = time.monotonic()
    load_commands()
    trials, interruptions, faulty = Counter[str](), Counter[str](), Counter[str]()
    with tempfile.TemporaryDirectory() as folder:
        run = partial(run_trial, seed=options.seed, unbroken=run_unbroken(Path(folder)), keep=options.keep)
        with ProcessPoolExecutor(options.workers, multiprocessing.get_context("fork")) as pool:
            for report in pool.map(run, range(options.first, options.first + options.count)):
                trials[report.kind] += 1
                interruptions[report.kind] += report.interruptions
                faulty[report.kind] += bool(report.faults)
                for fault in report.faults:
                    print(f"{fault}\n  ({'; '.join(report.moments)})", file=sys.stderr, flush=True)
    for kind, count in trials.items():
        print(f"{kind}: {count} trials, {interruptions[kind]} interruptions, {faulty[kind]} with faults")
    seconds = time.monotonic() - began
    print(f"{options.count} trials in {seconds:.0f} s with seed {options.seed}: {faulty.total()} with faults")
    return 1 if faulty.total() else 0


if __name__ == "__main__":
    sys.exit(main())
