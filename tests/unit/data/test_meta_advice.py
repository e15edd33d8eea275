import numpy as np
import pytest
from sklearn.metrics import mutual_info_score, normalized_mutual_info_score

from fewlabel.data.meta_advice import advise, mutual_information

CASES = np.repeat(np.arange(12), 4)
SUBJECTS = CASES // 2
POSITION = np.tile(np.arange(4), 12)


def objections(**labels):
    given = {"patient": SUBJECTS, "position": POSITION, **{name: np.asarray(codes) for name, codes in labels.items()}}
    return {one.name: one for one in advise(given, CASES, SUBJECTS)}


def test_mutual_information_agrees_with_scikit_learn():
    rng = np.random.default_rng(0)
    first, second = rng.integers(0, 4, 300), rng.integers(0, 3, 300)
    second = np.where(rng.random(300) < 0.5, first % 3, second)
    bits, share = mutual_information(first, second)
    assert bits == pytest.approx(mutual_info_score(first, second) / np.log(2))
    assert share == pytest.approx(normalized_mutual_info_score(first, second))
    first[:50] = -1
    known = first >= 0
    assert mutual_information(first, second)[0] == pytest.approx(
        mutual_info_score(first[known], second[known]) / np.log(2)
    )


def test_mutual_information_at_its_bounds():
    assert mutual_information(POSITION, POSITION) == pytest.approx((2.0, 1.0))
    assert mutual_information(POSITION, CASES) == pytest.approx((0.0, 0.0), abs=1e-12)
    assert mutual_information(np.zeros(48, int), CASES) == (0.0, 0.0)
    assert mutual_information(np.full(48, -1), CASES) == (0.0, 0.0)


def test_labels_that_are_names_take_no_table_of_all_pairs():
    names = np.arange(200_000)
    assert mutual_information(names, names[::-1]) == pytest.approx((np.log2(200_000), 1.0))


def test_what_speaks_against_a_label():
    site = SUBJECTS % 3
    half = np.where(CASES < 7, -1, CASES % 2)
    found = objections(
        site=site,
        scanner=2 - site,
        accession=CASES,
        born=SUBJECTS[::-1],
        constant=np.zeros(48, int),
        half=half,
        phase=CASES % 2,
        uid=np.arange(48),
    )
    assert {name: one.objection for name, one in found.items()} == {
        "position": "",
        "patient": "",
        "site": "",
        "scanner": "equal to the site, site",
        "accession": "another class for every scan",
        "born": "equal to the patient",
        "constant": "constant",
        "half": "missing in 58% of the slices",
        "phase": "",
        "uid": "another class for every slice: no two slices have anything in common",
    }
    assert found["half"].missing == pytest.approx(7 / 12)
    assert found["site"].classes == 3
    assert found["site"].shared["phase"] == pytest.approx((0.0, 0.0), abs=1e-12)
    assert found["site"].shared["patient"][0] == pytest.approx(np.log2(3))


def test_nearly_the_same_is_said_and_not_refused():
    group = SUBJECTS % 3
    other = group.copy()
    other[0] = 2
    found = objections(group=group, other=other)
    assert (found["other"].objection, found["other"].hint) == ("", "says nearly the same as group")


def test_a_position_of_pictures_says_nothing():
    cases = np.arange(6)
    found = {one.name: one for one in advise({"patient": cases, "position": cases * 0}, cases, cases)}
    assert found["position"].objection.startswith("one class for all slices")
    assert found["patient"].objection.startswith("another class for every slice")
