"""Figures of tests are those that coverage and mutmut wrote, by package."""

from __future__ import annotations

import importlib
import json
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parents[3] / "benchmarks"


@pytest.fixture
def figures(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    return importlib.import_module("suites.figures_of_tests")


def counted(lines, taken, branches, of_them):
    return {
        "summary": {
            "num_statements": lines,
            "covered_lines": taken,
            "num_branches": branches,
            "covered_branches": of_them,
        }
    }


REPORT = {
    "files": {
        "src/fewlabel/scoring/dice.py": counted(10, 9, 4, 3),
        "src/fewlabel/protocol/splits.py": counted(20, 20, 6, 6),
        "src/fewlabel/cli/app.py": counted(70, 51, 10, 5),
    }
}


def test_coverage_is_added_up_by_package(figures):
    rows = {row["of"]: row for row in figures.coverage_rows(REPORT)}
    assert {key: rows["the package"][key] for key in ("lines", "lines_taken", "branches", "branches_taken")} == {
        "lines": 100,
        "lines_taken": 80,
        "branches": 20,
        "branches_taken": 14,
    }
    assert (rows["scoring"]["lines_taken"], rows["scoring"]["branches_taken"]) == (9, 3)
    assert rows["gradients"]["lines"] == 0


def test_mutants_count_by_what_became_of_them(tmp_path, figures):
    folder = tmp_path / "mutants" / "src" / "fewlabel" / "scoring"
    folder.mkdir(parents=True)
    codes = {"a": 1, "b": 0, "c": 33, "d": 36, "e": None, "f": 1}
    (folder / "dice.py.meta").write_text(json.dumps({"exit_code_by_key": codes}))
    (row,) = figures.mutation_rows(tmp_path / "mutants")
    assert {key: row[key] for key in ("of", "mutants", "noticed", "survived", "untested")} == {
        "of": "scoring",
        "mutants": 5,
        "noticed": 3,
        "survived": 1,
        "untested": 1,
    }


def test_the_table_has_the_last_of_each(figures):
    old = [{**row, "lines_taken": 0, "revision": "0" * 12} for row in figures.coverage_rows(REPORT)]
    mutants = {"what": "mutation", "of": "scoring", "mutants": 1200, "noticed": 1020, "survived": 180}
    mutants |= {"date": "2026-01-02T00:00:00", "revision": "abcdef" * 3}
    lines = figures.table([*old, *figures.coverage_rows(REPORT), mutants])
    assert "| the package | 80.0 % of 100 | 70.0 % of 20 | 78.3 % |  |" in lines
    assert "| `scoring` | 90.0 % of 10 | 75.0 % of 4 | 85.7 % | 85.0 % of 1 200 |" in lines
    assert "2026-01-02 by `abcdefabcd`" in lines[-1]
    assert "0000" not in lines[-1]
