import itertools
import json
from itertools import chain
from pathlib import Path

import pytest

from fewlabel.core.errors import DataError, SettingsError
from fewlabel.data.catalog import Case, Catalog
from fewlabel.data.named_splits import NAMED
from fewlabel.data.splits import draw_labels, make_split, overlap_faults


def catalog(labelled, unlabelled=(), test=(), unlabelled_test=()):
    """Two scans per subject."""
    cases = []
    for group, label, part in (
        (labelled, True, ""),
        (unlabelled, False, ""),
        (test, True, "test"),
        (unlabelled_test, False, "test"),
    ):
        for subject in group:
            for frame in (1, 2):
                name = f"{subject}_f{frame}"
                cases.append(
                    Case(name, subject, (Path(f"{name}.nii"),), Path(f"{name}_gt.nii") if label else None, {}, part)
                )
    return Catalog("toy", Path("root"), "table", tuple(cases))


def names(count, prefix="s"):
    return [f"{prefix}{number:02d}" for number in range(count)]


ACDC = catalog([f"patient{number:03d}" for number in range(1, 101)])


def ids(*numbers):
    return {f"patient{number:03d}" for number in numbers}


def test_chaitanya_is_the_published_split():
    split = make_split(ACDC, "chaitanya")
    parts = {part: set(subjects) for part, subjects in split["parts"].items()}
    assert parts["test"] == ids(7, 8, 9, 10, 27, 28, 29, 30, 47, 48, 49, 50, 67, 68, 69, 70, 87, 88, 89, 90)
    assert parts["validation"] == ids(11, 31, 71, 72)
    assert len(parts["pretrain"]) == 51
    assert len(parts["train"]) == 76
    assert parts["train"] | parts["validation"] | parts["test"] == set(ACDC.subjects)
    assert parts["pretrain"] < parts["train"]
    listed = [*range(1, 7), 12, *range(17, 27), *range(37, 47), *range(57, 67), *range(77, 87), *range(97, 101)]
    assert parts["pretrain"] == ids(*listed)
    one = [(draw["labelled"], draw["validation"]) for draw in split["draws"]["1"]]
    assert one == [
        (["patient002"], ["patient011", "patient071"]),
        (["patient042"], ["patient031", "patient072"]),
        (["patient095"], ["patient011", "patient071"]),
        (["patient022"], ["patient011", "patient071"]),
        (["patient062"], ["patient011", "patient071"]),
    ]
    two = [set(draw["labelled"]) for draw in split["draws"]["2"]]
    assert two == [ids(42, 62), ids(2, 42), ids(42, 95), ids(2, 22), ids(2, 95)]
    held = [set(draw["validation"]) for draw in split["draws"]["2"]]
    assert held == [ids(31, 72), ids(11, 71), ids(31, 72), ids(11, 71), ids(11, 71)]
    assert [len(draw["labelled"]) for draw in split["draws"]["8"]] == [8, 8, 8]
    assert split["notes"] == []


def test_ssl4mis_is_the_published_split():
    split = make_split(ACDC, "ssl4mis")
    parts = split["parts"]
    assert [len(parts[part]) for part in ("pretrain", "train", "validation", "test")] == [70, 70, 10, 20]
    assert set(parts["test"]) == ids(1, 7, 8, 11, 13, 22, 24, 33, 52, 59, 64, 65, 66, 68, 75, 80, 81, 83, 84, 93)
    assert set(parts["validation"]) == ids(2, 19, 28, 30, 39, 45, 78, 82, 85, 87)
    draws = {count: set(rows[0]["labelled"]) for count, rows in split["draws"].items()}
    assert draws == {"1": ids(99), "3": ids(99, 38, 50), "7": ids(99, 38, 50, 100, 58, 21, 49)}


@pytest.mark.parametrize("name", sorted(NAMED))
def test_named_splits_are_sound(name):
    split = NAMED[name]()
    assert overlap_faults(split["parts"]) == []
    for count, rows in split["draws"].items():
        for row in rows:
            assert len(row["labelled"]) == len(set(row["labelled"])) == int(count)
            assert set(row["labelled"]) <= set(split["parts"]["train"])
            assert set(row["validation"]) <= set(split["parts"]["validation"])


def test_a_subset_keeps_what_is_there():
    split = make_split(catalog(sorted(ids(2, 7, 11, 42, 13))), "chaitanya")
    assert split["parts"] == {
        "pretrain": ["patient002", "patient042"],
        "train": ["patient002", "patient013", "patient042"],
        "validation": ["patient011"],
        "test": ["patient007"],
    }
    assert [row["labelled"] for row in split["draws"]["1"]] == [["patient002"], ["patient042"]]
    assert split["draws"]["1"][0]["validation"] == ["patient011"]
    assert "95 of the split's 100 subjects are not in this data set" in split["notes"]
    with pytest.raises(DataError, match=r"in its test part.*such as patient007"):
        make_split(catalog(sorted(ids(2, 42))), "chaitanya")
    with pytest.raises(DataError, match="in its train part"):
        make_split(catalog(["patient007"]), "chaitanya")


def test_subjects_outside_a_named_split_and_unlabelled_ones():
    split = make_split(catalog(sorted(ids(2, 7)), [*sorted(ids(42)), "patient150"]), "chaitanya")
    assert split["parts"]["train"] == ["patient002"]
    assert split["parts"]["pretrain"] == ["patient002", "patient042"]
    assert "1 subjects are not in the split: in no part" in split["notes"]


@pytest.mark.parametrize(("count", "sizes"), [(5, (3, 1, 1)), (10, (7, 1, 2)), (100, (70, 10, 20))])
def test_random_split_by_subject(count, sizes):
    parts = make_split(catalog(names(count), names(3, "u")), "random", seed=1)["parts"]
    assert (len(parts["train"]), len(parts["validation"]), len(parts["test"])) == sizes
    assert sorted(parts["train"] + parts["validation"] + parts["test"]) == names(count)
    assert set(parts["pretrain"]) == set(parts["train"]) | set(names(3, "u"))


def test_random_split_depends_on_its_seed_alone():
    subjects = catalog(names(20))
    assert make_split(subjects, "random", 3) == make_split(subjects, "random", 3)
    assert make_split(subjects, "random", 3)["parts"] != make_split(subjects, "random", 4)["parts"]


def test_few_labelled_subjects_all_train_and_that_is_said():
    split = make_split(catalog(names(4), ["u"]), "auto")
    assert split["parts"] == {"pretrain": [*names(4), "u"], "train": names(4), "validation": [], "test": []}
    assert split["notes"] == ["4 labelled subjects, fewer than 5: all of them train, none validates or tests"]


def test_own_test_part_is_used_where_it_has_labels():
    split = make_split(catalog(names(5), ["u"], names(2, "t")), "auto")
    assert split["name"] == "own"
    assert split["parts"]["test"] == ["t00", "t01"]
    assert (len(split["parts"]["train"]), len(split["parts"]["validation"])) == (4, 1)
    assert not set(split["parts"]["pretrain"]) & {"t00", "t01"}
    few = make_split(catalog(names(1), [], names(2, "t")), "auto")
    assert few["parts"]["test"] == ["t00", "t01"]
    assert few["parts"]["train"] == ["s00"]
    assert few["notes"] == ["1 labelled subjects, fewer than 5: all of them train, none validates"]
    drawn = make_split(catalog(names(5), [], names(2, "t")), "random")["parts"]
    assert "t00" in chain(*drawn.values())


def test_unlabelled_test_scans_enter_pretraining_only_when_asked():
    data = catalog(names(6), ["u"], (), names(3, "t"))
    split = make_split(data, "auto")
    assert split["name"] == "random"
    assert not set(names(3, "t")) & set(chain(*split["parts"].values()))
    assert "3 unlabelled subjects are kept for testing" in split["notes"][0]
    asked = make_split(data, "auto", pretrain_on_test_scans=True)
    assert set(names(3, "t")) <= set(asked["parts"]["pretrain"])
    assert asked["parts"]["test"] == split["parts"]["test"]


def test_a_subject_inside_and_outside_the_own_test_part_is_named():
    data = catalog(names(5), [], ["s03", "t"])
    with pytest.raises(DataError, match=r"both inside and outside.*s03"):
        make_split(data, "auto")


def test_no_labels_at_all_still_gives_a_pretraining_part():
    parts = make_split(catalog([], names(3)), "auto")["parts"]
    assert parts == {"pretrain": names(3), "train": [], "validation": [], "test": []}


@pytest.mark.parametrize(
    ("first", "second", "bad"),
    [
        ("train", "test", True),
        ("train", "validation", True),
        ("validation", "test", True),
        ("pretrain", "validation", True),
        ("pretrain", "test", True),
        ("pretrain", "train", False),
    ],
)
def test_overlap_is_an_error_that_names_the_subjects(tmp_path, first, second, bad):
    parts = {"train": ["s00"], "test": ["s01"], "validation": ["s02"], "pretrain": ["s03"]}
    parts = {
        part: [*subjects, *(["s05", "s04"] if part in (first, second) else [])] for part, subjects in parts.items()
    }
    path = tmp_path / "split.json"
    path.write_text(json.dumps({"parts": parts}))
    if bad:
        with pytest.raises(DataError, match=rf"both {first} and {second}.*s04, s05"):
            make_split(catalog(names(8)), str(path))
    else:
        assert make_split(catalog(names(8)), str(path))["parts"] == parts


def test_a_split_file_fills_pretraining_and_reports_every_fault(tmp_path):
    path = tmp_path / "mine.json"
    path.write_text(json.dumps({"parts": {"train": ["s00"], "test": ["s01"]}}))
    split = make_split(catalog(names(3), ["u"]), str(path))
    assert split["name"] == "mine"
    assert split["parts"] == {"pretrain": ["s00", "u"], "train": ["s00"], "validation": [], "test": ["s01"]}
    path.write_text(json.dumps({"parts": {"train": ["s0", "u"], "tests": []}}))
    with pytest.raises(DataError) as error:
        make_split(catalog(names(3), ["u"]), str(path))
    text = str(error.value)
    assert "unknown part; found 'tests'" in text
    assert "did you mean s0" in text
    assert "must have a label; found u" in text
    path.write_text("[1]")
    with pytest.raises(DataError, match="a split file holds"):
        make_split(catalog(names(3)), str(path))
    path.write_text(json.dumps({"parts": {"train": ["s00"]}, "draws": {"1": [{"labelled": ["s01"]}]}}))
    with pytest.raises(DataError, match="a draw of 1 names that many subjects of the train part"):
        make_split(catalog(names(3)), str(path))


def test_unknown_kind_names_the_nearest():
    with pytest.raises(SettingsError, match="did you mean chaitanya"):
        make_split(ACDC, "chaitania")


def test_draws_are_nested_seeded_and_differ():
    split = make_split(catalog(names(40)), "random")
    for seed in range(3):
        for draw in range(3):
            chosen = [set(draw_labels(split, m, draw, seed).labelled) for m in range(1, 8)]
            assert all(a < b for a, b in itertools.pairwise(chosen))
            assert chosen[-1] <= set(split["parts"]["train"])
    keys = [(0, 0), (1, 0), (0, 1)]
    assert len({draw_labels(split, 5, draw, seed).labelled for draw, seed in keys}) == 3
    assert draw_labels(split, 5, 1, 0) == draw_labels(split, 5, 1, 0)
    assert draw_labels(split, 5).validation == tuple(split["parts"]["validation"])
    assert draw_labels(split).labelled == tuple(split["parts"]["train"])


def test_named_draws_are_taken_before_random_ones():
    split = make_split(ACDC, "chaitanya")
    assert draw_labels(split, 1, 1, seed=9).labelled == ("patient042",)
    assert draw_labels(split, 1, 1).validation == ("patient031", "patient072")
    assert len(draw_labels(split, 4).labelled) == 4
    assert draw_labels(split, 4).validation == tuple(sorted(ids(11, 31, 71, 72)))
    with pytest.raises(SettingsError, match="draws 0 to 4 of 1 labelled; found 5"):
        draw_labels(split, 1, 5)


def test_explicit_subjects_must_be_in_the_train_part():
    split = make_split(ACDC, "chaitanya")
    assert draw_labels(split, subjects=["patient002", "patient003"]).labelled == ("patient002", "patient003")
    with pytest.raises(DataError) as error:
        draw_labels(split, subjects=["patient007", "patient011", "patient3"])
    text = str(error.value)
    assert "patient007, which is in test" in text
    assert "patient011, which is in validation" in text
    assert "patient3, which is in no part" in text
    with pytest.raises(SettingsError, match="not both"):
        draw_labels(split, 1, subjects=["patient002", "patient003"])
    with pytest.raises(DataError, match="at least one"):
        draw_labels(split, subjects=[])
    with pytest.raises(DataError, match="76 labelled subjects; found 77"):
        draw_labels(split, 77)
