"""The suite of suggestions: its table and verdict, and which patients a rule takes."""

from __future__ import annotations

import importlib
import json
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
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
    return {"data": "acdc", "draw": 2, "arm": arm, "start": start, "labelled": size, "dice": dice}


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
    firsts = []
    for start in range(suggest.STARTS):
        taken = {rule: list(suggest._rising(store, rule, start, ground, tmp_path)) for rule in suggest.RULES}
        for steps in taken.values():
            assert [len(step) for step in steps] == list(suggest.SIZES)
            assert all(len(set(step)) == len(step) for step in steps)
            assert all(later[: len(step)] == step for step, later in pairwise(steps))
        assert len({steps[0][0] for steps in taken.values()}) == 1
        firsts.append(taken["random"][0][0])
    assert len(set(firsts)) == suggest.STARTS


@pytest.mark.parametrize("pool", [*range(5, 12), 40, 60])
def test_each_start_has_a_first_patient_of_its_own_while_there_are_patients(
    suggest: Any, tmp_path: Path, pool: int
) -> None:
    store = SimpleNamespace(split={"parts": {"train": [f"s{number}" for number in range(pool)]}})
    ground = suggest.Ground({}, pool, 1, 1)
    firsts = [next(suggest._rising(store, "random", start, ground, tmp_path)) for start in range(suggest.STARTS)]
    assert len({first[0] for first in firsts}) == suggest.STARTS


def test_with_fewer_patients_than_starts_each_has_its_turn(suggest: Any, tmp_path: Path) -> None:
    store = SimpleNamespace(split={"parts": {"train": ["a", "b", "c"]}})
    ground = suggest.Ground({}, 3, 1, 1)
    firsts = [next(suggest._rising(store, "random", start, ground, tmp_path))[0] for start in range(3)]
    assert sorted(firsts) == ["a", "b", "c"]


def test_rows_of_another_draw_of_first_patients_are_never_counted_with_these(suggest: Any) -> None:
    new = [row("random", start, 2, 0.5) for start in range(5)] + [row("coverage", start, 2, 0.6) for start in range(5)]
    old = [{key: value for key, value in one.items() if key != "draw"} | {"dice": 0.1} for one in new]
    lines = suggest.summary([*old, *new])
    apart = lines.index("First patients of draw 2 (each start another one):")
    assert lines[apart + 2 :] == suggest.summary(new)
    assert lines[: apart - 1] == suggest.summary(old)
    assert "| acdc | 2 | `random` | 5 | 0.100 |  |" in lines[:apart]


def test_a_cell_that_has_a_row_of_the_old_draw_alone_is_run_and_its_row_says_the_draw(
    suggest: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data, work = tmp_path / "acdc", tmp_path / "work"
    store = SimpleNamespace(split={"parts": {"train": [f"s{number}" for number in range(9)]}}, folder=tmp_path)
    old = {"data": "acdc", "arm": "random", "start": 0, "labelled": 1, "dice": 0.1}
    (tmp_path / "suggest.jsonl").write_text(json.dumps(old) + "\n")
    (work / "scores").mkdir(parents=True)
    scored = {"arms": {"model": {"mean": {"dice": {"mean": 0.5}}}}}
    (work / "scores" / "summary.json").write_text(json.dumps(scored))
    monkeypatch.setattr(suggest, "_store", lambda *_: store)
    monkeypatch.setattr(suggest, "_trained", lambda *_: work)
    for _ in range(2):
        suggest.run(data, tmp_path, tmp_path, ["random"])
    rows = suggest.rows_of(tmp_path / "suggest.jsonl")
    assert [one.get("draw") for one in rows] == [None, *[2] * (suggest.STARTS * len(suggest.SIZES))]
