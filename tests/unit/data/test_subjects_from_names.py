import pytest

from fewlabel.data.catalog import Case, Catalog
from fewlabel.data.subjects_from_names import guess_subjects, one_person, spelling_key, with_one_subject_each


def test_spellings_of_one_name_have_one_key():
    assert len({spelling_key(name) for name in ("P01", "p01", "P-01", "p_1", "P 001", "p.1")}) == 1
    assert len({spelling_key(name) for name in ("1-12", "11-2", "112", "1-1-2")}) == 4
    assert len({spelling_key(name) for name in ("ab1", "a-b1", "A_B_01", "ab-1")}) == 1
    assert spelling_key("患者1") != spelling_key("1")
    assert spelling_key("--") != spelling_key("__")


@pytest.mark.parametrize(
    ("names", "persons"),
    [
        (["P01", "p01", "P-01", "P02"], ["P-01", "P-01", "P-01", "P02"]),
        (["p1", "P1", "p1"], ["p1", "p1", "p1"]),
        (["P01_L", "P01_R", "P02_L"], ["P01", "P01", "P02_L"]),
        (["x_left", "x", "y_left"], ["x", "x", "y_left"]),
        (["Image_01L", "Image_01R"], ["Image_01", "Image_01"]),
        (["left_01", "RIGHT-01"], ["01", "01"]),
        (["p1-LH", "P1_rh"], ["P1", "P1"]),
        (["P1_L", "P1_left"], ["P1_L", "P1_L"]),
        (["007", "7", "8"], ["007", "007", "8"]),
        (["p1_left_knee", "p1_right_knee", "p2_L_knee"], ["p1_knee", "p1_knee", "p2_L_knee"]),
        (["g_L_1", "g_M_1", "g_R_1"], ["g_L_1", "g_M_1", "g_R_1"]),
        # What stands at the place of a side among other letters is a letter.
        (["12A", "12L", "12R"], ["12A", "12L", "12R"]),
        (["p1_links", "p1_rechts", "01OD", "01OS"], ["p1", "p1", "01", "01"]),
        (["p1_gauche", "p1-droite", "izq_2", "der_2", "os_3"], ["p1", "p1", "2", "2", "os_3"]),
        (["karl", "karr", "l", "r", "1-12", "11-2"], ["karl", "karr", "l", "r", "1-12", "11-2"]),
    ],
)
def test_names_of_one_person(names, persons):
    found = one_person(names)
    assert [found[name] for name in names] == persons


@pytest.mark.parametrize(
    ("cases", "subjects"),
    [
        (["sub-01_ses-2_T2w", "sub-01_T1w", "sub-02"], ["sub-01", "sub-01", "sub-02"]),
        (["sub-01_ses-1", "other_ses-1", "other_ses-2"], ["sub-01", "other", "other"]),
        (["P01_visit1", "p01_visit2", "P03"], ["P01", "p01", "P03"]),
        (["subject-01_x", "substance"], ["subject-01_x", "substance"]),
        (["0012_2020-01-03_T1", "0012_2020-05-07_T1", "0013_2020-01-03_T2"], ["0012", "0012", "0013"]),
        (["0012_20200301_2", "0012_20200507_1", "13-20200301101500-x"], ["0012", "0012", "13"]),
        (["0012_03.01.2020_1", "0012_07.05.2020_1"], ["0012", "0012"]),
        (["p1_ses1_frame03", "p1_ses2_frame03", "p1_ses2_frame04"], ["p1", "p1", "p1"]),
        (["p1_FLAIR", "p1_dwi", "p2_FLAIR"], ["p1", "p1", "p2"]),
        # No days: numbers of people, and a word that all names begin with.
        (["a_20201399_1", "a_20201398_1"], ["a_20201399_1", "a_20201398_1"]),
        (["scan_20200103_1", "scan_20200104_1"], ["scan_20200103_1", "scan_20200104_1"]),
    ],
)
def test_subjects_of_bids_names_and_of_spellings(cases, subjects):
    assert list(guess_subjects(cases).values()) == subjects


def test_a_catalog_has_one_subject_each_and_says_so(tmp_path):
    cases = tuple(Case(name, name, (tmp_path / name,)) for name in ("P01", "p01", "q"))
    catalog = Catalog("x", tmp_path, "table", cases)
    joined = with_one_subject_each(catalog)
    assert [case.subject for case in joined.cases] == ["P01", "P01", "q"]
    assert joined.notes == (
        "subjects whose names differ in case, separators, zeros or side alone are one person: P01, p01 as P01. "
        "prepare.subject_names=as_written keeps them apart",
    )
    assert with_one_subject_each(catalog, "as_written") == catalog
    plain = Catalog("x", tmp_path, "table", cases[1:])
    assert with_one_subject_each(plain) is plain


def test_slices_and_dates_of_one_person_are_no_persons():
    """Else slices, or scans of two days, of one patient would train and test."""
    slices = ["pat0_slice0", "pat0_slice1", "pat1_sl-0"]
    assert guess_subjects(slices) == {"pat0_slice0": "pat0", "pat0_slice1": "pat0", "pat1_sl-0": "pat1"}
    days = ["P1_2020-01-03", "P1_2021-02-03", "P2_20200103"]
    assert guess_subjects(days) == {"P1_2020-01-03": "P1", "P1_2021-02-03": "P1", "P2_20200103": "P2"}
