from pathlib import Path

import numpy as np
import pytest

from fewlabel.data.catalog import Case, Catalog, Column
from fewlabel.data.column_types import infer_columns
from fewlabel.data.meta_labels import case_codes, edges_of, position_part, quantile_edges, slice_table
from fewlabel.data.subjects_from_names import guess_phases, guess_subjects


@pytest.mark.parametrize("depth", range(1, 31))
@pytest.mark.parametrize("parts", [1, 2, 4, 7])
def test_position_rule(depth, parts):
    found = position_part(depth, parts)
    assert found.tolist() == [min(parts - 1, (parts * i) // depth) for i in range(depth)]
    assert (np.diff(found) >= 0).all()
    sizes = np.bincount(found, minlength=parts)
    if depth >= parts:
        assert sizes.min() >= 1
        assert sizes.max() - sizes.min() <= 1


def test_position_of_a_typical_stack():
    assert position_part(10, 4).tolist() == [0, 0, 0, 1, 1, 2, 2, 2, 3, 3]
    assert position_part(3, 4).tolist() == [0, 1, 2]


def catalog():
    columns = (
        Column("phase", "categorical"),
        Column("grade", "ordinal"),
        Column("weight", "continuous"),
        Column("site", "categorical"),
        Column("position", "categorical"),
    )
    rows = [
        ("b1", "b", {"phase": "ES", "grade": 10, "weight": 60.0, "site": "x", "position": "up"}),
        ("b2", "b", {"phase": None, "grade": 2, "weight": None, "site": "x", "position": "down"}),
        ("a1", "a", {"phase": "ED", "grade": None, "weight": 70.5, "site": "x", "position": "up"}),
    ]
    cases = tuple(
        Case(name, subject, (Path(f"{name}.nii"),), Path("l.nii") if name == "a1" else None, metadata)
        for name, subject, metadata in rows
    )
    return Catalog("toy", Path("root"), "table", cases, columns)


def test_codes_follow_sorted_values_and_missing_is_minus_one():
    codes, records, notes = case_codes(catalog())
    assert codes == {"patient": [1, 1, 0], "phase": [1, -1, 0], "grade": [1, 0, -1]}
    values = {record["name"]: record.get("values") for record in records}
    assert values == {"phase": ["ED", "ES"], "grade": [2, 10], "weight": None, "site": None, "position": None}
    assert any("site has only one value" in note for note in notes)
    assert any("position has the name of a built-in" in note for note in notes)


def test_slice_table_has_a_row_per_slice():
    table, classes = slice_table(catalog(), [2, 1, 4], 4)
    assert classes == {"patient": 2, "position": 4, "phase": 2, "grade": 2}
    assert table["case"].tolist() == ["b1", "b1", "b2", "a1", "a1", "a1", "a1"]
    assert table["subject"].tolist() == ["b", "b", "b", "a", "a", "a", "a"]
    assert table["z"].tolist() == [0, 1, 0, 0, 1, 2, 3]
    assert table["depth"].tolist() == [2, 2, 1, 4, 4, 4, 4]
    assert np.allclose(table["height_fraction"], [0.25, 0.75, 0.5, 0.125, 0.375, 0.625, 0.875])
    assert table["labelled"].tolist() == [False] * 3 + [True] * 4
    assert table["meta_patient"].tolist() == [1, 1, 1, 0, 0, 0, 0]
    assert table["meta_position"].tolist() == [0, 2, 0, 0, 1, 2, 3]
    assert table["meta_phase"].tolist() == [1, 1, -1, 0, 0, 0, 0]
    assert table["meta_grade"].tolist() == [1, 1, 0, -1, -1, -1, -1]
    assert "meta_weight" not in table


def numbers(*values):
    cases = tuple(Case(f"c{at}", f"s{at}", (Path("i"),), None, {"w": value}) for at, value in enumerate(values))
    return Catalog("toy", Path("root"), "table", cases, (Column("w", "continuous"), Column("x", "ordinal")))


def test_columns_of_numbers_are_parted_at_quantiles_on_demand():
    data = numbers(*map(float, range(1, 10)), None)
    assert quantile_edges(data.columns, data.cases, 0) == quantile_edges(data.columns, data.cases, 1) == {}
    edges = quantile_edges(data.columns, data.cases, 4)
    assert edges == {"w": (3, 5, 7)}
    table, classes = slice_table(data, [2] + [1] * 9, 4, edges)
    assert table["meta_w"].tolist() == [0, 0, 0, 1, 1, 2, 2, 3, 3, 3, -1]
    assert classes["w"] == 4
    record = case_codes(data, edges)[1][0]
    assert (record["edges"], record["values"]) == ([3, 5, 7], ["below 3", "3 to 5", "5 to 7", "7 or more"])
    assert edges_of(case_codes(data, edges)[1]) == edges
    # Scans of the test part have no say, and lie outside of all others' values.
    fewer = quantile_edges(data.columns, data.cases[:5], 2)
    assert fewer == {"w": (3,)}
    assert "edges" not in case_codes(data)[1][0]


@pytest.mark.parametrize(
    ("values", "edges"),
    [
        ([1.5, 1.5, 1.5], {}),
        ([1.5, 1.5, 1.5, 2.5], {"w": (1.75,)}),
        ([None, None], {}),
        ([1.5, 1.5, 2.5, 2.5, 2.5], {"w": (2.5,)}),
    ],
)
def test_equal_values_are_never_parted(values, edges):
    data = numbers(*values)
    assert quantile_edges(data.columns, data.cases, 4) == edges


@pytest.mark.parametrize(
    ("raw", "kind", "values"),
    [
        (["a", "b", ""], "categorical", ("a", "b", None)),
        (["1", "2", "NA", "2"], "ordinal", (1, 2, None, 2)),
        (["1.0", "2"], "ordinal", (1, 2)),
        (["1.5", "nan", "2"], "continuous", (1.5, None, 2.0)),
        ([str(n) for n in range(11)], "continuous", tuple(float(n) for n in range(11))),
        ([str(n) for n in range(10)], "ordinal", tuple(range(10))),
        ([1.0, float("nan"), 3.0], "ordinal", (1, None, 3)),
        ([0, 1, None], "ordinal", (0, 1, None)),
        ([True, False], "categorical", ("yes", "no")),
        (["007", "x"], "categorical", ("007", "x")),
        (["inf", "1"], "categorical", ("inf", "1")),
    ],
)
def test_kinds_of_columns(raw, kind, values):
    columns, typed = infer_columns({"c": raw}, "table.csv")
    assert [(column.name, column.kind, column.source) for column in columns] == [("c", kind, "table.csv")]
    assert typed["c"] == values


def test_an_empty_column_is_left_out():
    assert infer_columns({"c": ["", "NA", None]}, "t") == ((), {})


@pytest.mark.parametrize(
    ("cases", "subjects"),
    [
        (["patient001_frame01", "patient001_frame12"], ["patient001", "patient001"]),
        (["p1_ED", "p1_ES", "p2_ED"], ["p1", "p1", "p2"]),
        (["p1-ses1", "p1-ses2"], ["p1", "p1"]),
        (["p1_visit1", "p2_visit1"], ["p1_visit1", "p2_visit1"]),
        (["hippocampus_001", "hippocampus_003"], ["hippocampus_001", "hippocampus_003"]),
        (["x_baseline", "x_followup"], ["x", "x"]),
        (["ed", "es"], ["ed", "es"]),
    ],
)
def test_subjects_from_names(cases, subjects):
    assert list(guess_subjects(cases).values()) == subjects


def test_phases_from_names():
    assert list(guess_phases(["a_ED", "a_sys", "a_frame01", "a"]).values()) == ["ED", "ES", None, None]
