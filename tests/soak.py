"""What the long tests share: options that choose trials, and a folder that is kept if something is wrong in it."""

import argparse
import shutil
from pathlib import Path


def add_trial_options(parser: argparse.ArgumentParser, what: str) -> None:
    """Adds the options that choose trials and the number of processes.

    Args:
        parser: parser of the command line.
        what: what is tried, such as "mutant".
    """
    parser.add_argument("--first", type=int, default=0, help=f"number of the first {what}")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--workers", type=int, default=2)


def keep_or_remove(folder: Path, kept_as: Path | None) -> None:
    """Moves a folder to where it is looked at later, or deletes it.

    Args:
        folder: the folder.
        kept_as: new path of the folder; None to delete it.
    """
    if kept_as is None:
        shutil.rmtree(folder)
    else:
        kept_as.parent.mkdir(parents=True, exist_ok=True)
        shutil.move(folder, kept_as)
