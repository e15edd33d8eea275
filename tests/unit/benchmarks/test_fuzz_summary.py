"""The table of mutated inputs adds up what the rows say."""

from __future__ import annotations

import importlib
import json
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parents[3] / "benchmarks"


def row(target, tried, failed, **more):
    kind = target.partition("-")[0]
    known = {"seed": 1, "first": 0, "stop": tried, "held": tried - failed, "failures": [], "revision": "abc" * 5}
    hardware = {"processor": "one", "cores": 2}
    values = {"target": target, "kind": kind, "tried": tried, "failed": failed, "date": "2026-01-02T00:00:00+00:00"}
    return {**known, **values, "hardware": hardware, **more}


ROWS = [
    row("reader-a", 1500, 0),
    row("reader-b", 10, 1, failures=[{"input": 7, "verdict": "died", "why": "exit code -11"}]),
    row("artifact-c", 5, 0, date="2026-01-03T00:00:00+00:00", revision="d" * 40),
    row("reader-a", 500, 2),
]


@pytest.fixture
def summary(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    return importlib.import_module("suites.fuzz_summary")


def test_rows_of_a_target_are_added_up(summary):
    lines = summary.summarise(ROWS)
    assert lines[:5] == [
        "target tried held failed",
        "reader-a 2000 1998 2",
        "reader-b 10 9 1",
        "artifact-c 5 5 0",
        "all 2015 2012 3",
    ]
    assert lines[5] == "from 2026-01-02 to 2026-01-03, revisions abcabcabca, dddddddddd"
    assert lines[6] == "failed: reader-b 1 7: died exit code -11"


def test_documents_show_the_same_by_kind(summary):
    lines = summary.markdown(ROWS)
    assert "| **2 readers** | 2 010 | 2 007 | 3 |" in lines
    assert "| **1 kind of artifact** | 5 | 5 | 0 |" in lines
    assert "| `reader-a` | 2 000 | 1 998 | 2 |" in lines
    assert "| **all** | 2 015 | 2 012 | 3 |" in lines
    assert lines[-1] == "Tried 2026-01-02 to 2026-01-03 by `abcabcabca`, `dddddddddd` on one."


def test_the_command_prints_it(tmp_path, monkeypatch, summary):
    command = importlib.import_module("summary")
    monkeypatch.setitem(command.fuzz.__kwdefaults__, "results", tmp_path)
    with pytest.raises(SystemExit, match="python tests/fuzz --rows"):
        command.table(["fuzz"])
    (tmp_path / "fuzz.jsonl").write_text("".join(json.dumps(each) + "\n" for each in ROWS))
    assert command.table(["fuzz"]) == summary.summarise(ROWS)
    assert command.table(["fuzz", "--markdown"]) == summary.markdown(ROWS)
