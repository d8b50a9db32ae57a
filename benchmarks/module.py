"""GLAM with GeM, forward and backward: plain, compiled, fast PyTorch, and Triton, compared with the lower bound.

python benchmarks/module.py --device cuda --csv benchmarks/results/module.csv
"""

import argparse
import csv
from dataclasses import asdict
from pathlib import Path

import torch

from glam.app.bench.attention import FORMS, cases_for, floor, time_forms


def main() -> None:
    """Times all cases and prints a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--dtype", default="bfloat16", choices=["bfloat16", "float16", "float32"])
    parser.add_argument("--forms", nargs="*", default=FORMS, choices=FORMS)
    parser.add_argument("--cases", type=int, nargs="*", help="numbers of the cases, from 0 [default: all]")
    parser.add_argument("--csv", type=Path, help="CSV file to write")
    arguments = parser.parse_args()
    device, dtype = torch.device(arguments.device), getattr(torch, arguments.dtype)
    cases = cases_for(device)
    rows = []
    for number in arguments.cases or range(len(cases)):
        arithmetic, moved = floor(cases[number], device, dtype)
        print(f"{cases[number]}, {arguments.dtype}: lower bound {arithmetic:.3f} ms arithmetic, {moved:.3f} ms memory")
        for timing in time_forms(cases[number], device, dtype, arguments.forms):
            rows.append(asdict(timing) | {"arithmetic floor": arithmetic, "byte floor": moved})
            print(
                f"  {timing.form:34} forward {timing.forward:7.3f}  both {timing.both:7.3f} ms  {timing.peak:6.0f} MiB",
                flush=True,
            )
    if arguments.csv:
        with arguments.csv.open("w", newline="") as file:
            writer = csv.DictWriter(file, rows[0])
            writer.writeheader()
            writer.writerows(rows)


if __name__ == "__main__":
    main()
