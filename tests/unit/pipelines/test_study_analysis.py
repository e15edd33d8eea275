"""Statistics and tables of a study whose scores are made up: what is planted is found, and nothing else."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from fewlabel.pipelines.study.analysis import analyse
from fewlabel.pipelines.study.grid import Cell
from fewlabel.pipelines.study.results import Results
from fewlabel.pipelines.study.spec import Study
from fewlabel.pipelines.study.spec_parsing import parse_study
from fewlabel.reporting.blocks import Table
from fewlabel.reporting.page import render
from fewlabel.reporting.study.as_text import escaped, latex, markdown, plain
from fewlabel.reporting.study.page import StudyFacts, all_tables, compose
from fewlabel.reporting.study.tables import results_table, short_table
from fewlabel.scoring.paired_test import holm

ARMS: dict[str, Any] = {
    "base": {"switches": {"a": False, "b": False}},
    "a": {"switches": {"a": True, "b": False}, "doc": "with part a"},
    "ab": {"switches": {"a": True, "b": True}},
    "same": {},
}
#: Arm → what it adds to the Dice of the control.
GAINS = {"base": 0.0, "a": 0.1, "ab": 0.07, "same": 0.0}
LEVEL = {1: 0.5, 2: 0.6, 4: 0.7}


def study(**over: Any) -> Study:
    claims = [
        {"text": "a beats base", "better": "a", "than": "base"},
        {"text": "base beats a", "better": "base", "than": "a", "budgets": [1]},
        {"text": "same beats base", "better": "same", "than": "base", "budgets": [1]},
        {"text": "at 8", "better": "a", "than": "base", "budgets": [8]},
    ]
    values = {"data": "d", "out": "o", "arms": ARMS, "budgets": [1, 2, 4], "draws": 5, "claims": claims, **over}
    return parse_study(values)


def made_up(*, leave_out: tuple[str, int] | None = None) -> Results:
    """Scores of five draws and two seeds on ten patients with two scans and two classes each."""
    rng = np.random.default_rng(0)
    people = rng.normal(0, 0.05, 10)
    rows = []
    missing = []
    for budget, level in LEVEL.items():
        for draw in range(5):
            own = rng.normal(0, 0.02)
            for arm, gain in GAINS.items():
                if leave_out == (arm, draw):
                    missing.append(Cell(arm, budget, draw, 0, Path(), "", "", ""))
                    continue
                for seed in range(2):
                    for person in range(10):
                        for scan in ("ED", "ES"):
                            noise = rng.normal(0, 0.01, 2)
                            rows += [
                                (arm, str(budget), draw, seed, f"p{person}", f"p{person}_{scan}", index,
                                 level + gain + own + people[person] + noise[index], 10.0 - 10 * gain)
                                for index in range(2)
                            ]  # fmt: skip
    heads = ["arm", "labelled", "draw", "seed", "subject", "case", "class", "dice", "hd95_mm"]
    return Results(pd.DataFrame(), pd.DataFrame(rows, columns=heads), tuple(missing))


@pytest.fixture(scope="module")
def found() -> dict[str, Any]:
    return analyse(study(), made_up())


def test_gains_that_are_there_are_called_better_and_those_that_are_not_are_not(found: dict[str, Any]) -> None:
    for budget in ("1", "2", "4"):
        verdicts = {arm: cells[budget].get("test", {}).get("verdict") for arm, cells in found["cells"].items()}
        assert verdicts == {"base": None, "a": "better", "ab": "better", "same": "cannot be told"}
        assert found["cells"]["a"][budget]["test"]["mean"] == pytest.approx(0.1, abs=0.005)
        assert found["cells"]["a"][budget]["spread"]["trainings"] == 10
        assert found["cells"]["a"][budget]["measures"]["hd95_mm"]["mean"] == pytest.approx(9.0)
    reverse = analyse(study(control="a"), made_up())
    assert reverse["cells"]["base"]["1"]["test"]["verdict"] == "worse"


def test_what_is_worth_how_many_labels_ranks_power_and_switches(found: dict[str, Any]) -> None:
    needed = {(entry["arm"], entry["with"]): entry for entry in found["equivalent"]}
    # A tenth of Dice is one step of the control's curve.
    assert needed["a", 1]["labelled"] == pytest.approx(2, abs=0.15)
    assert needed["a", 2]["labelled"] == pytest.approx(4, abs=0.5) or needed["a", 2]["bound"] == "more than"
    assert found["ranks"]["2"]["a"]["rank"] == 1
    assert found["ranks"]["2"]["ab"]["rank"] == 2
    assert found["agreement"]["1"] > 0.8
    assert found["power"]["1"]["a"]["draws"] <= 5
    effects = {(effect["switch"], budget): effect for budget, part in found["effects"].items() for effect in part}
    assert effects["a", "1"]["mean"] == pytest.approx(0.1, abs=0.01)
    assert effects["a", "1"]["verdict"] == "better"
    assert effects["b", "1"]["mean"] == pytest.approx(-0.03, abs=0.01)
    assert effects["b", "1"]["verdict"] == "worse"


def test_claims_hold_do_not_or_cannot_be_told(found: dict[str, Any]) -> None:
    told = [(claim["text"], claim["labelled"], claim["verdict"]) for claim in found["claims"]]
    assert told == [
        *(("a beats base", budget, "holds") for budget in ("1", "2", "4")),
        ("base beats a", "1", "does not hold"),
        ("same beats base", "1", "cannot be told"),
        ("at 8", None, "cannot be told"),
    ]


def test_effects_are_corrected_over_the_whole_table_and_power_is_told_at_its_level(found: dict[str, Any]) -> None:
    effects = [effect for part in found["effects"].values() for effect in part]
    assert len(effects) == 6
    assert [effect["corrected"] for effect in effects] == holm([effect["p"] for effect in effects])
    strict = analyse(study(confidence=0.999), made_up())
    assert strict["power"]["1"]["same"]["now"] < found["power"]["1"]["same"]["now"]
    assert strict["power"]["1"]["same"]["draws"] > found["power"]["1"]["same"]["draws"]


def test_claims_in_the_same_words_are_told_each() -> None:
    claims = [
        {"text": "wins", "better": better, "than": "base", "budgets": [at]} for better, at in (("a", 1), ("ab", 8))
    ]
    told = [(claim["text"], claim["labelled"]) for claim in analyse(study(claims=claims), made_up())["claims"]]
    assert told == [("wins", "1"), ("wins", None)]


def test_seeds_take_the_place_of_a_single_draw_and_one_training_tells_nothing() -> None:
    whole = made_up()
    one_draw = Results(whole.rows, whole.cases[whole.cases["draw"] == 0], ())
    found = analyse(study(), one_draw)
    test = found["cells"]["a"]["1"]["test"]
    assert (test["scope"], test["draws"], test["verdict"]) == ("seeds and patients", 2, "better")
    assert found["power"]["1"]["a"]["of"] == "seeds"
    assert found["effects"]["1"][0]["scope"] == "seeds and patients"
    one = analyse(study(), Results(whole.rows, one_draw.cases[one_draw.cases["seed"] == 0], ()))
    test = one["cells"]["a"]["1"]["test"]
    assert (test["scope"], test["verdict"]) == ("patients", "cannot be told")
    assert test["corrected"] < 0.001


def test_pairs_are_of_the_draws_that_both_have() -> None:
    results = made_up(leave_out=("a", 3))
    found = analyse(study(), results)
    assert found["cells"]["a"]["1"]["test"]["draws"] == 4
    assert found["cells"]["ab"]["1"]["test"]["draws"] == 5
    assert found["cells"]["a"]["1"]["test"]["mean"] == pytest.approx(0.1, abs=0.005)
    assert found["missing"] == [["a", str(budget), 3, 0] for budget in LEVEL]
    nothing = analyse(study(), Results(pd.DataFrame(), pd.DataFrame(), ()))
    assert (nothing["budgets"], nothing["cells"]["a"]) == ([], {})
    assert compose(StudyFacts(nothing)).headline.tone == "open"


def test_scores_that_are_no_numbers_leave_cells_out_and_end_nothing() -> None:
    def without(*where: tuple[str, str, set[str]]) -> dict[str, Any]:
        results = made_up()
        cases = results.cases.copy()
        for arm, budget, people in where:
            rows = (cases["arm"] == arm) & (cases["labelled"] == budget) & cases["subject"].isin(people)
            cases.loc[rows, "dice"] = np.nan
        told = analyse(study(), Results(results.rows, cases, ()))
        json.dumps(told, allow_nan=False)
        assert "Ranks" in render(compose(StudyFacts(told)))
        return told

    everyone = {f"p{number}" for number in range(10)}
    # An arm, and a control, that have no Dice at all at one number.
    told = without(("a", "1", everyone), ("base", "2", everyone))
    assert "1" not in told["cells"]["a"]
    assert "test" not in told["cells"]["a"]["2"]
    # Two arms that are scored on other patients cannot be ranked.
    half = {f"p{number}" for number in range(5)}
    told = without(("a", "1", half), ("ab", "1", everyone - half))
    assert told["ranks"]["1"] == {}
    assert told["ranks"]["2"]["a"]["rank"] == 1


def test_patients_that_failed_are_counted_beside_the_mean() -> None:
    results = made_up()
    own = results.cases.groupby(["arm", "labelled", "draw", "seed", "subject"])["dice"].mean()
    failed = (own < 0.5).groupby(["arm", "labelled"]).sum()
    statistics = analyse(study(), results)
    # About half of the control's at the level .5, none of the better arm's at .7.
    assert 20 < failed["base", "1"] < 80
    assert failed["a", "4"] == 0
    for (arm, labelled), count in failed.items():
        cell = statistics["cells"][arm][labelled]
        assert (cell["failed"], cell["scored"]) == (count, 100)
    table = results_table(statistics, {})
    row = next(row for row in table.rows if row[:2] == ["base", "1"])
    assert row[table.head.index("patients below 0.5")] == f"{failed['base', '1']} of 100"


def test_an_arm_that_finds_nothing_is_said_to_be_of_no_use() -> None:
    results = made_up()
    cases = results.cases.assign(dice=results.cases["dice"].where(results.cases["arm"] != "same", 0.04))
    told = analyse(study(), Results(results.rows, cases, ()))
    assert "Of no use, with a mean Dice below 0.1: same." in compose(StudyFacts(told)).headline.verdict
    assert "Of no use" not in compose(StudyFacts(analyse(study(), results))).headline.verdict


def test_the_page_and_the_tables_say_it_all(found: dict[str, Any]) -> None:
    facts = StudyFacts(
        found, {("a", "1"): "0.612 ± 0.010"}, ["Other patients."], "A paper, Table 3", {"a": "with part a"}
    )
    titles = [table.caption.split(";")[0] for table in all_tables(facts)]
    assert titles == ["Results", "Published claims", "Label efficiency", "Effects of switches", "Ranks", "Power"]
    page = render(compose(facts))
    for words in ("0.612 ± 0.010", "Other patients.", "A paper, Table 3", "with part a", "Better than base: a (M=1)"):
        assert words in page
    for table in all_tables(facts):
        assert all(len(row) == len(table.head) for row in table.rows)
        assert markdown(table).count("\n") == len(table.rows) + 3
        assert latex(table).count(r"\\") == len(table.rows) + 1
    assert "data:image/svg+xml" in page
    heads = {table.caption.split(";")[0]: " ".join(table.head) for table in all_tables(facts)}
    for title in ("Results", "Published claims", "Effects of switches"):
        assert "95 % interval" in heads[title]
    narrow = all_tables(StudyFacts({**found, "confidence": 0.9, "units": "voxels"}))
    assert all("95 % interval" not in " ".join(table.head) for table in narrow)
    assert "HD95 in voxels, mean ± SD" in narrow[0].head
    results = all_tables(facts)[0]
    assert results.rows[1][:4] == ["a", "1", "5 × 2", results.rows[1][3]]
    assert 1 in results.strong


def test_distances_are_in_the_units_of_the_scores() -> None:
    made = made_up()
    in_voxels = Results(pd.DataFrame({"units": ["voxels", "voxels"]}), made.cases, ())
    assert analyse(study(), in_voxels)["units"] == "voxels"


def test_a_table_fits_into_80_columns_and_loses_no_word(found: dict[str, Any]) -> None:
    long = "gcl-with-a-name-as-long-as-names-of-arms-may-be-in-a-study-file"
    claim = "GCL is better than GLCL, the best before it at M=1 (Table 1: .729 to .702)"
    table = Table(["arm", "claim", "Dice"], [[long, claim, "0.71"], ["b", "", "0.7"]], numeric=frozenset({2}))
    lines = plain(table)
    assert max(map(len, lines)) <= 80
    assert lines[-1].startswith("b ")
    assert lines[-1].endswith("0.7")
    said = "".join("".join(line) for line in zip(*(line.ljust(80) for line in lines), strict=True)).replace(" ", "")
    assert sorted(said) == sorted("".join([*table.head, *table.rows[0], *table.rows[1]]).replace(" ", ""))
    for wide in all_tables(StudyFacts(found)):
        assert max(map(len, plain(wide))) <= 80
    short = plain(short_table(found))
    assert max(map(len, short)) <= 80
    assert len(short) == 13


def test_latex_and_markdown_take_nothing_for_their_own() -> None:
    table = Table(["a_b", "5 %"], [["x|y", "−0.1 ± 0.2"], ["{z}", "<1"]], "A & B", frozenset({1}), frozenset({1}))
    assert markdown(table).splitlines()[-1] == "| {z} | <1 |"
    assert r"| x\|y |" in markdown(table)
    made = latex(table, "tab:one")
    assert r"\caption{A \& B}" in made
    assert r"a\_b & 5 \%" in made
    assert r"x|y & $-$0.1 $\pm$ 0.2 \\" in made
    assert r"\textbf{\{z\}} & \textbf{$<$1} \\" in made
    assert made.count(r"\label{tab:one}") == 1
    assert escaped("a\\b") == r"a\textbackslash{}b"
