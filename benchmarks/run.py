"""Run a benchmark suite: ``python benchmarks/run.py --suite speed`` or ``--suite acdc-ground --data FOLDER``."""

from __future__ import annotations

import argparse
from pathlib import Path

from suites import RESULTS, SUITES

if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--suite", required=True, choices=sorted(SUITES))
    parser.add_argument(
        "--data",
        type=Path,
        default=Path("data"),
        help="folder of ACDC scans (la-ground: of the left atrium; hippocampus-ground: of Decathlon's "
        "Task04), for the tables; default: data",
    )
    parser.add_argument("--work", type=Path, default=Path("runs/benchmarks"), help="where runs are kept")
    parser.add_argument(
        "--arms",
        default="",
        help="comma-separated arms of a table; all by default, of a ground suite all that choices are made on: others "
        "have to be named as SPLIT/ARM",
    )
    parser.add_argument("--steps", type=int, default=0, help="timed steps of each method (method-costs)")
    parser.add_argument("--minutes", type=float, default=0, help="minutes of a cell in a rehearsal (versus)")
    parser.add_argument("--results", type=Path, default=RESULTS, help="where rows are written")
    arguments = parser.parse_args()
    SUITES[arguments.suite](arguments)
