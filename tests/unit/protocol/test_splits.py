import itertools
import json
from itertools import chain

import pytest

from fewlabel.core.errors import DataError, SettingsError
from fewlabel.protocol.acdc_splits import NAMED
from fewlabel.protocol.splits import draw_labels, make_split, overlap_faults
from kit.catalogs import catalog, names, reserved

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
    draws = {int(count): rows[0]["labelled"] for count, rows in split["draws"].items()}
    assert set(draws) == set(range(1, 15))
    assert set(draws[1]) == ids(99)
    assert draws[3] == [f"patient{number:03d}" for number in (99, 38, 50)]
    assert draws[7] == [f"patient{number:03d}" for number in (99, 38, 50, 100, 58, 21, 49)]
    # The order of SSL4MIS's train.list, so that fewer are a subset of more.
    order = [99, 38, 50, 100, 58, 21, 49, 20, 72, 40, 60, 89, 4, 56]
    for count in range(1, 15):
        assert draws[count] == [f"patient{number:03d}" for number in order[:count]]
        assert draw_labels(split, count, 0, seed=5).labelled == tuple(draws[count])


def test_develop_has_no_test_patient_of_the_literature_and_no_label_of_its_small_draws():
    split = NAMED["develop"]()
    used = {subject for part in split["parts"].values() for subject in part}
    assert len(used) == 63
    assert len(split["parts"]["test"]) == 20
    assert split["parts"]["pretrain"] == split["parts"]["train"]
    drawn = {subject for rows in split["draws"].values() for row in rows for subject in row["labelled"]}
    for name in ("chaitanya", "ssl4mis"):
        theirs = NAMED[name]()
        assert used.isdisjoint(theirs["parts"]["test"])
        for count in ("1", "2", "3"):
            assert all(drawn.isdisjoint(row["labelled"]) for row in theirs["draws"].get(count, []))
    assert [len(split["draws"][count]) for count in ("1", "2", "8")] == [5, 5, 3]


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
    assert [row["labelled"][0][-2:] for row in split["draws"]["1"]] == ["02", "42", "95", "22", "62"]
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
    assert few["notes"] == ["1 labelled subject, fewer than 5: all of them train, none validates"]
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


def test_unknown_kind_names_the_nearest():
    with pytest.raises(SettingsError, match="Did you mean chaitanya"):
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
    with pytest.raises(SettingsError, match="draws 0 to 4 for labelled=1, not 5"):
        draw_labels(split, 1, 5)


def test_explicit_subjects_must_be_in_the_train_part():
    split = make_split(ACDC, "chaitanya")
    assert draw_labels(split, subjects=["patient002", "patient003"]).labelled == ("patient002", "patient003")
    with pytest.raises(DataError) as error:
        draw_labels(split, subjects=["patient007", "patient011", "patient3"])
    text = str(error.value)
    assert "patient007 must be in the train part, but is in test" in text
    assert "patient011 must be in the train part, but is in validation" in text
    assert "patient3 must be in the train part, but is in no part" in text
    with pytest.raises(SettingsError, match="not both"):
        draw_labels(split, 1, subjects=["patient002", "patient003"])
    with pytest.raises(DataError, match="at least one"):
        draw_labels(split, subjects=[])
    with pytest.raises(DataError, match="76 labelled subjects, not the 77 asked for"):
        draw_labels(split, 77)


def acdc_without(*numbers):
    return catalog([f"patient{number:03d}" for number in range(1, 101) if number not in numbers])


def test_a_named_draw_keeps_its_number_where_another_is_incomplete():
    split = make_split(acdc_without(2), "chaitanya")
    assert draw_labels(split, 1, 1).labelled == ("patient042",)
    assert draw_labels(split, 2, 0).labelled == ("patient042", "patient062")
    with pytest.raises(DataError, match=r"draw 0 for labelled=1 needs patient002, .*draw=1, draw=2, draw=3, draw=4"):
        draw_labels(split, 1, 0)
    with pytest.raises(DataError, match=r"draw 1 for labelled=2 needs patient002, .*draw=0, draw=2"):
        draw_labels(split, 2, 1)
    assert any("7 of 13 draws lack a labelled subject" in note for note in split["notes"])
    split = make_split(acdc_without(99), "ssl4mis")
    for count in (1, 3, 7):
        with pytest.raises(DataError, match=rf"draw 0 for labelled={count} needs patient099, .*subjects=\["):
            draw_labels(split, count)
    assert len(draw_labels(split, 20).labelled) == 20


def test_unlabelled_test_scans_of_a_labelled_subject_enter_no_training_unless_asked():
    """The subject is not reserved by them, but cannot train without them: it tests and validates first."""
    both = [(subject, True, "") for subject in names(20)] + [(subject, False, "test") for subject in names(6)]
    data = reserved([*both, ("u", False, "test"), ("v", False, "")])
    for kind in ("auto", "random"):
        split = make_split(data, kind, seed=3)
        parts = split["parts"]
        assert split["name"] == "random"
        assert {*parts["test"], *parts["validation"]} == set(names(6))
        assert set(parts["train"]) == set(names(20)) - set(names(6))
        assert set(parts["pretrain"]) == {*parts["train"], "v"}
        assert any("6 labelled subjects also have unlabelled scans" in note for note in split["notes"])
        assert any("1 unlabelled subjects are kept for testing" in note for note in split["notes"])
        assert not any("of them are in no part" in note for note in split["notes"])
    few = make_split(data, "auto", test_fraction=0.1, validation_fraction=0.1)
    assert {*few["parts"]["test"], *few["parts"]["validation"]} < set(names(6))
    assert not {*few["parts"]["train"], *few["parts"]["pretrain"]} & set(names(6))
    assert any("2 of them are in no part" in note for note in few["notes"])
    asked = make_split(data, "auto", pretrain_on_test_scans=True)
    assert {"u", "v"} <= set(asked["parts"]["pretrain"])
    assert set(chain(*asked["parts"].values())) == set(data.subjects)
    alone = reserved([("s", True, ""), ("s", False, "test")])
    with pytest.raises(DataError, match=r"no labelled subject to train on.*pretrain_on_test_scans=true"):
        make_split(alone)
    assert make_split(alone, pretrain_on_test_scans=True)["parts"]["train"] == ["s"]


def test_only_labelled_test_scans_reserve_their_subject():
    rows = [(subject, True, "") for subject in names(10)] + [(s, True, "test") for s in names(2, "t")]
    split = make_split(reserved([*rows, ("t00", False, "test"), ("s00", False, "test")]))
    assert split["name"] == "own"
    assert split["parts"]["test"] == ["t00", "t01"]
    assert split["parts"]["validation"] == ["s00"]


def test_a_flag_that_a_split_does_not_read_is_said_to_be_unused(tmp_path):
    unused = "pretrain_on_test_scans=true is unused"
    for name in sorted(NAMED):
        assert any(unused in note for note in make_split(ACDC, name, pretrain_on_test_scans=True)["notes"])
    path = tmp_path / "mine.json"
    path.write_text(json.dumps({"parts": {"train": ["s00"], "pretrain": ["s00"]}}))
    assert any(
        unused in note for note in make_split(catalog(names(3)), str(path), pretrain_on_test_scans=True)["notes"]
    )
    path.write_text(json.dumps({"parts": {"train": ["s00"]}}))
    assert make_split(catalog(names(3)), str(path), pretrain_on_test_scans=True)["notes"] == []
