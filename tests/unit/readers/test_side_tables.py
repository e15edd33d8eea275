"""Tables beside scans of any layout: joined, or the reason why not."""

import pytest

from fewlabel.readers.base import read_catalog
from kit.scans import blob, nnunet_folder, noise, write_scan


def flat(root):
    for number in range(1, 5):
        write_scan(root / f"p{number:02d}.nii.gz", noise((3, 8, 6)))
        write_scan(root / f"p{number:02d}_mask.nii.gz", blob((3, 8, 6)))
    return root


def acdc(root):
    for number in range(1, 5):
        for frame in (1, 8):
            stem = f"patient{number:03d}/patient{number:03d}_frame{frame:02d}"
            write_scan(root / f"{stem}.nii.gz", noise((3, 8, 6)))
            write_scan(root / f"{stem}_gt.nii.gz", blob((3, 8, 6)))
    return root


def bids(root):
    for number in range(1, 5):
        write_scan(root / f"sub-p{number:02d}/anat/sub-p{number:02d}_T1w.nii.gz", noise((3, 8, 6)))
        write_scan(root / f"sub-p{number:02d}/anat/sub-p{number:02d}_dseg.nii.gz", blob((3, 8, 6)))
    return root


def nnunet(root):
    return nnunet_folder(root, ("p01", "p02", "p03", "p04"))


def by_structure(root):
    for number in range(1, 5):
        for name in ("ct", "segmentations/liver", "segmentations/spleen"):
            write_scan(root / f"p{number:02d}/{name}.nii.gz", blob((3, 8, 6)))
    return root


@pytest.mark.parametrize(
    ("layout", "names"),
    [
        (flat, "p0{}"),
        (flat, "P-{}"),
        (flat, "p0{}.nii.gz"),
        (acdc, "patient00{}"),
        (bids, "sub-p0{}"),
        (bids, "p0{}"),
        (nnunet, "p0{}"),
        (by_structure, "p0{}"),
    ],
)
def test_a_table_of_any_name_is_metadata_in_any_layout(tmp_path, layout, names):
    layout(tmp_path)
    rows = [f"{names.format(number)};{30 + number};{'AB'[number % 2]}" for number in range(1, 5)]
    (tmp_path / "Patienten.csv").write_text("\n".join(["Name;Alter;scanner", *rows, "other;1;C"]))
    catalog = read_catalog(tmp_path, layout.__name__ if layout is acdc else "auto")[1]
    assert {case.metadata["Alter"] for case in catalog.cases} == {31, 32, 33, 34}
    assert {case.metadata["scanner"] for case in catalog.cases} == {"A", "B"}
    assert {"Alter", "scanner"} <= {column.name for column in catalog.columns}
    assert any("metadata is from Patienten.csv, whose column Name names the" in note for note in catalog.notes)
    assert any("rows of it that name nobody here: 1" in note for note in catalog.notes)


def test_a_table_of_scans_names_their_subjects_and_parts(tmp_path):
    flat(tmp_path)
    rows = [f"p0{number}.nii.gz,q{number // 2},{number},{'test' if number == 4 else 'train'}" for number in range(1, 5)]
    (tmp_path / "x.csv").write_text("\n".join(["file,patient,age,split", *rows]))
    (tmp_path / "y.csv").write_text("scan,centre\np01,1\np02,2\np03,1\n")
    catalog = read_catalog(tmp_path)[1]
    assert catalog.reader == "folders"
    assert [case.subject for case in catalog.cases] == ["q0", "q1", "q1", "q2"]
    assert [case.part for case in catalog.cases] == ["", "", "", "test"]
    assert catalog.cases[0].metadata == {"age": 1, "centre": 1}
    assert all(case.label is not None for case in catalog.cases)
    notes = read_catalog(tmp_path / "x.csv")[1].notes
    assert any("no column names masks, but 4 images have one beside them" in note for note in notes)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("who,age\nanna,3\n", "no column of it names the subjects or scans. Add one that does (p01, p02, p03, …)"),
        ("who,age\np01,3\n", "its column who names 1 of 4 subjects or scans. Add rows for the others"),
        ("who,age\np01,3\np01,4\np02,5\n", "several of its rows name p01 in the column who. Keep one row for each"),
        ("", "no column of it names"),
    ],
)
def test_a_table_that_is_not_used_is_named_with_the_reason(tmp_path, text, why):
    (flat(tmp_path) / "x.csv").write_text(text)
    (note,) = (note for note in read_catalog(tmp_path)[1].notes if note.startswith("x.csv"))
    assert note.startswith(f"x.csv is not used: {why}")


def test_other_tables_beside_one_of_scans_are_joined_too(tmp_path):
    flat(tmp_path)
    rows = [f"p0{number}.nii.gz,p0{number}_mask.nii.gz,p0{number}" for number in range(1, 5)]
    (tmp_path / "scans.csv").write_text("\n".join(["image,label,subject", *rows]))
    (tmp_path / "patients.csv").write_text("ID,age\np01,1\np02,2\np03,\np04,\n")
    catalog = read_catalog(tmp_path)[1]
    assert catalog.reader == "table"
    assert [case.metadata["age"] for case in catalog.cases] == [1, 2, None, None]
