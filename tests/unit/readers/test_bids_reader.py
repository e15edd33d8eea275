import json
import time
from pathlib import Path

import pytest

from fewlabel.core.errors import DataError
from fewlabel.data.io.composite_paths import Structures, parse_composite
from fewlabel.readers.base import choose_reader, collect_catalog, read_catalog
from fewlabel.readers.bids_names import parse_name
from fewlabel.readers.bids_tables import Sidecars
from kit.scans import blob, noise, write_scan

SHAPE = (3, 8, 6)


def scan(path):
    return write_scan(path, noise(SHAPE), (1, 1, 4))


def mask(path):
    return write_scan(path, blob(SHAPE), (1, 1, 4))


def dataset(root, subjects=("01", "02", "03"), suffixes=("T1w",), session="", pipeline="manual", ending="dseg"):
    (root / "derivatives").mkdir(parents=True)
    (root / "dataset_description.json").write_text('{"Name": "x", "BIDSVersion": "1.8.0"}')
    for subject in subjects:
        home = f"sub-{subject}/" + (f"ses-{session}/" if session else "") + "anat"
        name = f"sub-{subject}" + (f"_ses-{session}" if session else "")
        for suffix in suffixes:
            scan(root / home / f"{name}_{suffix}.nii.gz")
        mask(root / "derivatives" / pipeline / home / f"{name}_{ending}.nii.gz")
    return root


def read(root, **settings):
    _, catalog = read_catalog(root, {"name": "bids", **settings} if settings else "auto")
    return {case.id: case for case in catalog.cases}, catalog


@pytest.mark.parametrize("ending", ["dseg", "space-orig_dseg", "desc-lesion_mask", "space-T1w_desc-manual_dseg", "seg"])
def test_scans_with_masks_among_the_derivatives(tmp_path, ending):
    root = dataset(tmp_path, ending=ending)
    assert choose_reader(root).name == "bids"
    found, catalog = read(root)
    assert sorted(found) == ["sub-01", "sub-02", "sub-03"]
    assert catalog.subjects == ("sub-01", "sub-02", "sub-03")
    assert found["sub-02"].images == (root / "sub-02/anat/sub-02_T1w.nii.gz",)
    assert found["sub-02"].label == root / f"derivatives/manual/sub-02/anat/sub-02_{ending}.nii.gz"
    assert catalog.channels == ("T1w",)
    assert catalog.notes == ()


def test_participants_and_sidecars_are_metadata(tmp_path):
    root = dataset(tmp_path)
    (root / "participants.tsv").write_text(
        "participant_id\tage\tsex\tgroup\nsub-01\t40\tM\tn/a\nsub-02\t41\tF\tA\nsub-03\tn/a\tM\tB\n"
    )
    (root / "T1w.json").write_text(
        json.dumps({"Manufacturer": "Siemens", "MagneticFieldStrength": 3, "EchoTime": 0.003})
    )
    (root / "sub-02/anat/sub-02_T1w.json").write_text(json.dumps({"MagneticFieldStrength": 1.5, "ImageType": ["A"]}))
    found, catalog = read(root)
    assert found["sub-01"].metadata == {
        "age": 40,
        "sex": "M",
        "group": None,
        "scanner": "Siemens",
        "field_strength": 3,
        "echo_time": 0.003,
    }
    assert found["sub-02"].metadata["field_strength"] == 1.5
    assert found["sub-02"].metadata["scanner"] == "Siemens"
    assert {column.name: column.source for column in catalog.columns}["sex"] == "participants.tsv"
    assert {column.name: column.source for column in catalog.columns}["scanner"] == "sidecars"


def test_faults_of_tables_and_sidecars_are_all_named(tmp_path):
    root = dataset(tmp_path)
    (root / "participants.tsv").write_text("participant_id\tage\nsub-01\t40\nsub-01\t41\nsub-02\t41\n")
    (root / "sub-02/anat/sub-02_T1w.json").write_text("{")
    _, catalog = collect_catalog(root)
    told = "\n".join(map(str, catalog.faults))
    assert "participants.tsv, line 3: sub-01 has a row already" in told
    assert "participants.tsv: has no row for sub-03" in told
    assert "sub-02_T1w.json cannot be read as JSON" in told
    assert len(catalog.cases) == 3


def test_of_several_suffixes_one_is_taken_and_said(tmp_path):
    root = dataset(tmp_path, suffixes=("T1w", "T2w", "FLAIR"), ending="space-FLAIR_dseg")
    found, catalog = read(root)
    assert {case.images[0].name[7:] for case in found.values()} == {"FLAIR.nii.gz"}
    assert catalog.notes[0].startswith("scans are those of suffix FLAIR (3); left out: T1w (3), T2w (3).")
    (root / "sub-03/anat/sub-03_T2w.nii.gz").unlink()
    found, catalog = read(root, suffix="T1w,FLAIR")
    assert catalog.channels == ("T1w", "FLAIR")
    assert [path.name for path in found["sub-03"].images] == ["sub-03_T1w.nii.gz", "sub-03_FLAIR.nii.gz"]
    with pytest.raises(DataError, match="sub-03 has no T2w"):
        read(root, suffix="T1w,T2w")
    with pytest.raises(DataError, match="no scans of suffix PDw, but of FLAIR, T1w, T2w"):
        read(root, suffix="PDw")


def test_without_a_word_in_the_masks_the_suffix_with_most_scans_is_taken(tmp_path):
    root = dataset(tmp_path, suffixes=("T1w", "T2w"))
    (root / "sub-03/anat/sub-03_T1w.nii.gz").unlink()
    _, catalog = read(root)
    assert catalog.channels == ("T2w",)


def test_sessions_and_runs_are_scans_of_one_subject(tmp_path):
    root = dataset(tmp_path, session="a")
    for run in ("1", "2"):
        scan(root / f"sub-01/ses-b/anat/sub-01_ses-b_run-{run}_T1w.nii.gz")
        mask(root / f"derivatives/manual/sub-01/ses-b/anat/sub-01_ses-b_run-{run}_dseg.nii.gz")
    (root / "sub-01/sub-01_sessions.tsv").write_text("session_id\tpain\nses-a\t3\nses-b\t5\n")
    found, catalog = read(root)
    assert len(found) == 5
    assert len(catalog.subjects) == 3
    assert found["sub-01_ses-b_run-2"].label.name == "sub-01_ses-b_run-2_dseg.nii.gz"
    assert found["sub-01_ses-b_run-2"].metadata == {"pain": 5, "session": "b", "run": 2}
    assert found["sub-02_ses-a"].metadata["pain"] is None


def test_a_mask_of_a_subject_is_not_that_of_each_run(tmp_path):
    root = dataset(tmp_path, subjects=("01", "02"))
    (root / "sub-02/anat/sub-02_T1w.nii.gz").unlink()
    for run in ("1", "2"):
        scan(root / f"sub-02/anat/sub-02_run-{run}_T1w.nii.gz")
    catalog = collect_catalog(root)[1]
    assert [case.id for case in catalog.cases if case.label] == ["sub-01"]
    (fault,) = catalog.faults
    assert fault.where == f"{root}/derivatives/manual/sub-02/anat/sub-02_dseg.nii.gz"
    assert fault.problem == "may be the mask of sub-02_run-1_T1w.nii.gz or sub-02_run-2_T1w.nii.gz"


@pytest.mark.parametrize(
    ("images", "masks"),
    [
        (["run-1_T1w"], ["dseg"]),
        (["T1w"], ["run-1_dseg"]),
        (["T1w"], ["acq-mprage_dseg"]),
        (["run-01_T1w"], ["run-1_dseg"]),
        (["ses-1_run-1_T1w", "ses-2_run-1_T1w"], ["ses-1_dseg", "ses-2_dseg"]),
        (["ses-1_T1w", "ses-2_T1w"], ["ses-1_run-1_dseg", "ses-2_run-1_dseg"]),
        (["run-1_T1w", "run-2_T1w"], ["run-01_dseg", "run-02_dseg"]),
    ],
)
def test_masks_and_images_that_name_a_run_each_in_their_way(tmp_path, images, masks):
    (tmp_path / "dataset_description.json").write_text("{}")
    for subject in ("sub-1", "sub-2"):
        for name in images:
            scan(tmp_path / f"{subject}/anat/{subject}_{name}.nii.gz")
        for name in masks:
            mask(tmp_path / f"derivatives/x/{subject}/anat/{subject}_{name}.nii.gz")
        mask(tmp_path / f"derivatives/x/{subject}/func/{subject}_task-rest_desc-brain_mask.nii.gz")
    found, _ = read(tmp_path)
    wanted = dict(zip(images, masks, strict=True))
    assert {name: case.label.name for name, case in found.items()} == {
        f"{subject}_{image.removesuffix('_T1w').removesuffix('T1w')}".rstrip("_"): f"{subject}_{name}.nii.gz"
        for subject in ("sub-1", "sub-2")
        for image, name in wanted.items()
    }


def test_a_mask_without_an_image_and_two_for_one_are_faults(tmp_path):
    root = dataset(tmp_path)
    (root / "sub-02/anat/sub-02_T1w.nii.gz").unlink()
    manual = root / "derivatives/manual/sub-03/anat"
    (manual / "sub-03_dseg.nii.gz").rename(manual / "sub-03_run-1_dseg.nii.gz")
    mask(manual / "sub-03_run-2_dseg.nii.gz")
    catalog = collect_catalog(root)[1]
    faults = [str(fault) for fault in catalog.faults]
    assert len(faults) == 2
    assert "sub-02_dseg.nii.gz is a mask, but has no image: there is none with its entities" in faults[0]
    assert "sub-03_run-1_dseg.nii.gz and sub-03_run-2_dseg.nii.gz may both be masks of sub-03_T1w.nii.gz" in faults[1]


def test_a_mask_may_leave_out_an_entity_of_the_only_image(tmp_path):
    root = dataset(tmp_path, subjects=("01", "02"))
    (root / "sub-02/anat/sub-02_T1w.nii.gz").rename(root / "sub-02/anat/sub-02_acq-mprage_T1w.nii.gz")
    found, catalog = read(root)
    assert found["sub-02_acq-mprage"].label is not None
    assert catalog.notes == ()


def test_masks_in_another_space_are_left_out(tmp_path):
    root = dataset(tmp_path, ending="space-MNI152NLin2009cAsym_dseg")
    found, catalog = read(root)
    assert all(case.label is None for case in found.values())
    assert "3 masks are of no image that is read" in catalog.notes[0]


def test_one_pipeline_gives_the_masks(tmp_path):
    root = dataset(tmp_path)
    mask(root / "derivatives/auto/sub-01/anat/sub-01_dseg.nii.gz")
    found, catalog = read(root)
    assert "manual" in str(found["sub-01"].label)
    assert catalog.notes[0].startswith("masks are those of manual (3), not of auto (1).")
    found, _ = read(root, derivative="auto")
    assert [name for name, case in found.items() if case.label] == ["sub-01"]
    with pytest.raises(DataError, match="no masks in derivatives/x, but in auto, manual"):
        read(root, derivative="x")


def test_a_brain_mask_is_not_preferred(tmp_path):
    root = dataset(tmp_path, ending="dseg")
    mask(root / "derivatives/manual/sub-01/anat/sub-01_desc-brain_mask.nii.gz")
    found, catalog = read(root)
    assert found["sub-01"].label.name == "sub-01_dseg.nii.gz"
    assert "1 scans have several masks: sub-01_dseg.nii.gz is taken, not sub-01_desc-brain" in catalog.notes[0]


def test_masks_of_one_label_each_are_structures(tmp_path):
    root = dataset(tmp_path, ending="label-liver_mask")
    mask(root / "derivatives/manual/sub-02/anat/sub-02_label-spleen_mask.nii.gz")
    found, catalog = read(root)
    assert catalog.label_names == {0: "background", 1: "liver", 2: "spleen"}
    home = root / "derivatives/manual/sub-02/anat"
    assert parse_composite(found["sub-02"].label) == Structures(
        ((1, home / "sub-02_label-liver_mask.nii.gz"), (2, home / "sub-02_label-spleen_mask.nii.gz"))
    )
    assert parse_composite(found["sub-01"].label).parts[0][0] == 1


def test_names_of_labels(tmp_path):
    root = dataset(tmp_path)
    (root / "derivatives/manual/dseg.tsv").write_text(
        "index\tname\tcolor\n0\tbackground\t\n1\tgrey\t#f00\n2\twhite\t\n"
    )
    assert read(root)[1].label_names == {0: "background", 1: "grey", 2: "white"}


def test_other_folders_are_not_bids(tmp_path):
    scan(tmp_path / "anat/T1w.nii.gz")
    with pytest.raises(DataError, match="Unknown layout"):
        choose_reader(tmp_path)


def test_masks_that_name_the_suffix_of_their_image(tmp_path):
    for name in ("01", "02"):
        scan(tmp_path / f"sub-{name}/anat/sub-{name}_T1w.nii.gz")
        scan(tmp_path / f"sub-{name}/anat/sub-{name}_T2w.nii.gz")
        mask(tmp_path / f"derivatives/labels/sub-{name}/anat/sub-{name}_T2w_seg-manual.nii.gz")
        mask(tmp_path / f"derivatives/labels/sub-{name}/anat/sub-{name}_T1w_label-other_seg.nii.gz")
    found, catalog = read(tmp_path, suffix="T2w")
    assert {case.label.name for case in found.values()} == {
        "sub-01_T2w_seg-manual.nii.gz",
        "sub-02_T2w_seg-manual.nii.gz",
    }
    assert catalog.channels == ("T2w",)


def test_parts_above_the_folders_of_subjects(tmp_path):
    for part, name in (("train", "r1"), ("train", "r2"), ("test", "r3")):
        home = tmp_path / part / f"sub-{name}/ses-1/anat"
        scan(home / f"sub-{name}_ses-1_space-MNI_T1w.nii.gz")
        mask(home / f"sub-{name}_ses-1_space-MNI_label-L_desc-T1lesion_mask.nii.gz")
    found, catalog = read(tmp_path)
    assert catalog.subjects == ("sub-r1", "sub-r2", "sub-r3")
    assert [case.part for case in found.values()] == ["", "", "test"]
    assert all(case.label is not None for case in found.values())


def test_sidecars_of_thousands_of_scans_are_looked_up_by_folder(tmp_path):
    """Those of other folders and subjects are not gone through for each image."""
    scans = [f"sub-{n:04d}/anat/sub-{n:04d}_T1w" for n in range(2000)]
    sidecars = Sidecars(tmp_path, [], [Path("T1w.json"), *(Path(f"{scan}.json") for scan in scans)])
    sidecars.read.update({Path(f"{scan}.json"): {"echo_time": 2} for scan in scans})
    sidecars.read[Path("T1w.json")] = {"scanner": "Siemens", "echo_time": 1}
    images = [parse_name(Path(f"{scan}.nii.gz")) for scan in scans]
    began = time.process_time()
    assert all(sidecars.of(image) == {"scanner": "Siemens", "echo_time": 2} for image in images)
    assert time.process_time() - began < 2


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_a_sidecar_with_a_mark_of_its_encoding_is_read(tmp_path, encoding):
    (tmp_path / "T1w.json").write_text('{"Manufacturer": "Siemens"}', encoding=encoding)
    faults = []
    image = parse_name(Path("sub-01/anat/sub-01_T1w.nii.gz"))
    assert Sidecars(tmp_path, faults, [Path("T1w.json")]).of(image) == {"scanner": "Siemens"}
    assert faults == []
