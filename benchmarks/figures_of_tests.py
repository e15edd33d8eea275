"""Keep figures of the tests: ``python benchmarks/figures_of_tests.py --coverage coverage.json --mutants mutants``.

Both are made by ``bash .ci/nightly coverage mutation``. Rows go to ``benchmarks/results/tests.jsonl``;
``python benchmarks/summary.py tests`` prints their table.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from fewlabel.core.artifact.files import append_line
from suites import RESULTS
from suites.figures_of_tests import coverage_rows, mutation_rows

if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--coverage", type=Path, help="as `coverage json` writes it")
    parser.add_argument("--mutants", type=Path, help="the folder of `mutmut run`")
    asked = parser.parse_args()
    rows = [] if asked.coverage is None else coverage_rows(json.loads(asked.coverage.read_text()))
    rows += [] if asked.mutants is None else mutation_rows(asked.mutants)
    for row in rows:
        append_line(RESULTS / "tests.jsonl", json.dumps(row))
