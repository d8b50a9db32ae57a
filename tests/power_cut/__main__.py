"""Tries a power cut at every event: `python -m tests.power_cut [--samples 8] [--resume-every 1]`.

`--count` only counts the observed calls, to compare them with those that `strace` sees.
"""

import argparse
import sys
import tempfile
import time
from pathlib import Path

from tests.conftest import ContentModel

from .trial import counts, run_trials

MEMORY = Path("/dev/shm")


def main() -> int:
    """Prints an outcome per operation; returns 1 if there was a fault."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--every", type=int, default=1, help="try each n-th cut")
    parser.add_argument("--samples", type=int, default=8, help="random states per cut")
    parser.add_argument("--resume-every", type=int, default=1, help="run the operation again in each n-th state")
    parser.add_argument("--count", action="store_true", help="only count the observed calls")
    options = parser.parse_args()
    failed = False
    with tempfile.TemporaryDirectory(dir=MEMORY if MEMORY.is_dir() else None) as work:
        if options.count:
            print(dict(counts(Path(work), ContentModel())))
            return 0
        started = time.perf_counter()
        for outcome in run_trials(
            Path(work),
            ContentModel(),
            every=options.every,
            samples=options.samples,
            resume_every=options.resume_every,
        ):
            failed |= bool(outcome.faults)
            print(
                f"{outcome.operation}: {outcome.events} events, {outcome.states} states, {outcome.resumed} resumed, "
                f"{len(outcome.faults)} faults, {time.perf_counter() - started:.0f} s",
                *outcome.faults[:20],
                sep="\n  ",
                flush=True,
            )
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
