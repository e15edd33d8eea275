"""The suite of suggestions: its table and verdict, and which patients a rule takes."""

from __future__ import annotations

import importlib
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from fewlabel.data.store import PreparedStore
from kit.segmenters import prepared_discs

BENCHMARKS = Path(__file__).resolve().parents[3] / "benchmarks"


@pytest.fixture
def suggest(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    return importlib.import_module("suites.suggest")


def row(arm: str, start: int, size: int, dice: float) -> dict[str, Any]:
    return {"data": "acdc", "arm": arm, "start": start, "labelled": size, "dice": dice}


def test_a_rule_is_better_only_beyond_its_interval(suggest: Any) -> None:
    rows = [row("random", start, 2, 0.5 + 0.01 * start) for start in range(5)]
    rows += [row("coverage", start, 2, 0.6 + 0.01 * start + 0.001 * (start % 2)) for start in range(5)]
    rows += [row("disagreement", start, 2, 0.49 + 0.02 * start) for start in range(5)]
    lines = suggest.summary(rows)
    assert lines[2] == "| acdc | 2 | `random` | 5 | 0.520 |  |"
    # Gains of .100 and .101 in turn: mean .1004, standard error .0005477 / sqrt(5), t(4) = 2.776.
    assert lines[3] == "| acdc | 2 | `coverage` | 5 | 0.620 | +0.100 (+0.100 to +0.101) |"
    assert lines[-1] == "Better than random: coverage on acdc with 2."
    assert suggest.summary(rows[:5] + rows[10:])[-1] == "No rule is better than random."
    # One start tells nothing.
    assert suggest.summary([rows[0], rows[5]])[-1] == "No rule is better than random."


def test_all_rules_begin_with_the_same_patient_and_add_to_it(
    suggest: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = PreparedStore(prepared_discs(tmp_path, [f"s{number}" for number in range(9)], ["t1"]))
    ground = suggest.Ground({}, 9, 1, 1)
    # Networks are asked elsewhere; here the last patients of all disagree most.
    monkeypatch.setattr(
        suggest,
        "_disagreed",
        lambda store, known, count, *_: [s for s in reversed(store.split["parts"]["train"]) if s not in known][:count],
    )
    firsts = set()
    for start in range(suggest.STARTS):
        taken = {rule: list(suggest._rising(store, rule, start, ground, tmp_path)) for rule in suggest.RULES}
        for steps in taken.values():
            assert [len(step) for step in steps] == list(suggest.SIZES)
            assert all(len(set(step)) == len(step) for step in steps)
            assert all(later[: len(step)] == step for step, later in pairwise(steps))
        assert len({steps[0][0] for steps in taken.values()}) == 1
        firsts.add(taken["random"][0][0])
    assert len(firsts) > 1
