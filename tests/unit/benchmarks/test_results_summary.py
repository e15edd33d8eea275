"""The summary of committed results."""

from __future__ import annotations

import json
import runpy
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
SUMMARY = runpy.run_path(str(ROOT / "benchmarks" / "summary.py"))


def test_a_missing_table_says_how_to_make_it(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    with pytest.raises(SystemExit, match=r"of nothing are .*run\.py --suite"):
        SUMMARY["table"](["nothing"])


@pytest.mark.parametrize(("kind", "beside"), [("regime", "network"), ("method", "encoder")])
def test_costs_are_shown_from_the_cheapest_on_beside_the_reference(tmp_path, kind, beside):
    rows = {
        "plain": {"step": 1.0, "extra_bytes": 0},
        "two": {"step": 3.04, "extra_bytes": 2**21},
        "two, stage 1": {"step": 1.26, "extra_bytes": 99_000},
    }
    (tmp_path / "x-costs.json").write_text(json.dumps({"reference": "plain", f"{kind}s": rows}))
    head, _, *lines = SUMMARY["costs"]("x-costs", tmp_path)
    assert head == f"| {kind} | step | memory beside the {beside} |"
    assert lines == ["| `two`, stage 1 | 1.3 x | under 0.1 MiB |", "| `two` | 3.0 x | 2.0 MiB |"]
    with pytest.raises(SystemExit, match="of other-costs are"):
        SUMMARY["costs"]("other-costs", tmp_path)


@pytest.mark.parametrize(
    ("words", "line"),
    [
        ("regime-costs", "| `arco`, stage 1 | 2.4 x | 18.2 MiB |"),
        ("acdc-ground --markdown", "| `half-the-time` | develop | 1 |"),
        ("probe --markdown --reference simclr", "| `gcl` | 500 |"),
        ("sscl", "| block | 8 | 3 × 1 |"),
        ("acdc-methods", "### `gcl-table1`"),
        ("acdc-semi", "### `arco-acdc`"),
        ("gcl-ablation", "| Meta labels help"),
    ],
)
def test_the_command_line_prints_each_table_of_the_committed_rows(monkeypatch, words, line):
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    assert any(found.startswith(line) for found in SUMMARY["table"](words.split()))


def test_a_study_is_told_alone(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    heads = [line for line in SUMMARY["table"](["acdc-semi", "gcl-ablation"]) if line.startswith("### ")]
    assert [head.split("`")[1] for head in heads] == ["gcl-table2", "arco-acdc", "gcl-table3"]
