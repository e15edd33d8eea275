import nibabel
import numpy as np
import pytest
import SimpleITK as sitk

from fewlabel.core.errors import SettingsError
from fewlabel.data.io.composite_paths import Frame, Stack, parse_composite, slices_without_mask
from fewlabel.data.io.volume_reading import read_geometry, read_mask, read_volume
from fewlabel.readers.base import choose_reader, collect_catalog, read_catalog
from kit.scans import blob, noise, write_scan

SHAPE = (3, 8, 6)


def scan(path, value=0):
    return write_scan(path, noise(SHAPE, value), (1, 1, 4))


def mask(path, value=1):
    return write_scan(path, blob((3, 8, 6)) * value, (1, 1, 4))


def cases(root, reader="auto"):
    _, catalog = read_catalog(root, reader)
    return {case.id: case for case in catalog.cases}, catalog


@pytest.mark.parametrize(("image", "label"), [("{}.nii.gz", "{}_mask.nii.gz"), ("images/{}.nrrd", "Labels/{}.mha")])
def test_pairs_with_unlabelled_scans_among_them(tmp_path, image, label):
    for name in ("a", "b", "c"):
        scan(tmp_path / image.format(name))
    for name in ("a", "b"):
        mask(tmp_path / label.format(name))
    found, catalog = cases(tmp_path)
    assert catalog.reader == "folders"
    assert {name: case.label for name, case in found.items()} == {
        "a": tmp_path / label.format("a"),
        "b": tmp_path / label.format("b"),
        "c": None,
    }
    assert found["c"].images == (tmp_path / image.format("c"),)
    assert catalog.channels == ("image",)


def test_parts_by_folder(tmp_path):
    for name, part in (("a", "train"), ("b", "val"), ("c", "test")):
        scan(tmp_path / "images" / part / f"{name}.nii.gz")
        mask(tmp_path / "labels" / part / f"{name}.nii.gz")
    found, catalog = cases(tmp_path)
    assert {name: case.part for name, case in found.items()} == {"a": "", "b": "validation", "c": "test"}
    assert catalog.subjects == ("a", "b", "c")


def test_a_folder_per_patient_is_the_subject(tmp_path):
    for number in range(3):
        scan(tmp_path / f"case_{number:05d}/imaging.nii.gz")
        mask(tmp_path / f"case_{number:05d}/segmentation.nii.gz")
    found, catalog = cases(tmp_path)
    assert sorted(found) == ["case_00000", "case_00001", "case_00002"] == sorted(catalog.subjects)
    assert catalog.name == "KiTS"
    assert catalog.label_names == {0: "background", 1: "kidney", 2: "tumour"}


def test_visits_of_a_patient_are_one_subject(tmp_path):
    for patient in ("p1", "p2"):
        for visit in ("baseline", "20200131"):
            scan(tmp_path / patient / visit / "scan.nii.gz")
            mask(tmp_path / patient / visit / "lesion_mask.nii.gz")
    found, catalog = cases(tmp_path)
    assert len(found) == 4
    assert catalog.subjects == ("p1", "p2")


@pytest.mark.parametrize("name", ["{side}/{patient}", "{patient}/{side}/scan", "{patient}/{side}", "{patient}_{side}"])
@pytest.mark.parametrize("sides", [("left", "right"), ("links", "rechts")])
def test_both_sides_of_a_person_are_one_subject(tmp_path, name, sides):
    for patient in ("p1", "p2", "p3"):
        for side in sides:
            path = name.format(side=side, patient=patient)
            scan(tmp_path / f"{path}.nii.gz")
            mask(tmp_path / f"{path}_mask.nii.gz")
    found, catalog = cases(tmp_path)
    assert len(found) == 6
    assert catalog.subjects == ("p1", "p2", "p3")


def test_folders_of_hospitals_are_metadata_not_subjects(tmp_path):
    for hospital, names in (("north", "abc"), ("south", "de")):
        for name in names:
            scan(tmp_path / hospital / f"{name}.nii.gz")
            mask(tmp_path / hospital / f"{name}_seg.nii.gz")
    found, catalog = cases(tmp_path)
    assert catalog.subjects == ("a", "b", "c", "d", "e")
    assert found["d"].metadata == {"folder": "south"}


def test_channels_of_one_scan(tmp_path):
    for grade, patient in (("HGG", "B_1"), ("HGG", "B_2"), ("LGG", "B_3")):
        for channel in ("t1", "t1ce", "t2", "flair"):
            scan(tmp_path / grade / patient / f"{patient}_{channel}.nii.gz")
        mask(tmp_path / grade / patient / f"{patient}_seg.nii.gz")
    found, catalog = cases(tmp_path)
    assert catalog.channels == ("flair", "t1", "t1ce", "t2")
    assert [path.name for path in found["B_1"].images] == [f"B_1_{c}.nii.gz" for c in catalog.channels]
    assert {name: case.metadata["folder"] for name, case in found.items()} == {"B_1": "HGG", "B_2": "HGG", "B_3": "LGG"}
    assert catalog.subjects == ("B_1", "B_2", "B_3")
    (tmp_path / "LGG/B_3/B_3_t2.nii.gz").unlink()
    _, catalog = collect_catalog(tmp_path)
    assert [case.id for case in catalog.cases] == ["B_1", "B_2"]
    assert "has no file for channel t2 beside it" in str(catalog.faults[0])


def test_masks_without_images_are_faults_beside_what_can_be_read(tmp_path):
    scan(tmp_path / "images/a.nii.gz")
    for name in ("a", "b"):
        mask(tmp_path / f"masks/{name}.nii.gz")
    _, catalog = collect_catalog(tmp_path)
    assert [case.id for case in catalog.cases] == ["a"]
    assert [str(fault) for fault in catalog.faults] == [
        f"{tmp_path}/masks/b.nii.gz is a mask by its name, but has no image. Rename it like its image."
    ]


def test_of_several_masks_one_is_taken_and_said(tmp_path):
    for name in ("21", "22"):
        scan(tmp_path / f"images/{name}_training.nii.gz")
        mask(tmp_path / f"1st_manual/{name}_manual1.nii.gz")
        mask(tmp_path / f"mask/{name}_training_mask.nii.gz")
    found, catalog = cases(tmp_path)
    assert {case.label.parent.name for case in found.values()} == {"1st_manual"}
    assert len(catalog.notes) == 1
    assert catalog.notes[0].startswith(
        "2 images have several masks: 1st_manual/21_manual1.nii.gz is taken, not mask/21"
    )
    found, catalog = cases(tmp_path, {"name": "folders", "mask": "training_mask"})
    assert {case.label.parent.name for case in found.values()} == {"mask"}
    assert catalog.notes == ()


def test_masks_of_instances_and_raters_are_not_the_label(tmp_path):
    names = ("aggregated_AND_seg", "aggregated_MAJ_seg", "aggregated_OR_seg")
    for number in range(3):
        home = tmp_path / f"data/case_{number:05d}"
        scan(home / "imaging.nii.gz")
        for name in names if number < 2 else ("segmentation",):
            mask(home / f"{name}.nii.gz")
        for rater, below in ((1, "instances"), (2, "segmentations")):
            mask(home / f"{below}/kidney_instance-1_annotation-{rater}.nii.gz")
    found, catalog = cases(tmp_path)
    assert catalog.reader == "folders"
    assert [case.label.name for case in found.values()] == [
        "aggregated_MAJ_seg.nii.gz",
        "aggregated_MAJ_seg.nii.gz",
        "segmentation.nii.gz",
    ]
    assert catalog.notes[0].startswith("3 images have several masks")


def test_mmwhs_by_its_names(tmp_path):
    for kind in ("ct", "mr"):
        scan(tmp_path / f"{kind}_train/{kind}_train_1001_image.nii.gz")
        mask(tmp_path / f"{kind}_train/{kind}_train_1001_label.nii.gz", 205)
        scan(tmp_path / f"{kind}_test/{kind}_test_2001_image.nii.gz")
    found, catalog = cases(tmp_path)
    assert catalog.name == "MMWHS"
    assert len(catalog.subjects) == 4
    assert catalog.label_names[205] == "LV myocardium"
    assert {case.metadata["modality"] for case in found.values()} == {"CT", "MR"}
    assert sorted(case.part for case in found.values()) == ["", "", "test", "test"]


@pytest.mark.parametrize(
    ("image", "label", "name"),
    [
        ("volume-{}.nii", "segmentation-{}.nii", "LiTS"),
        ("Case0{}.mhd", "Case0{}_segmentation.mhd", "PROMISE12"),
        ("Axial/training_axial_crop_pat{}.nii.gz", "Truth/training_axial_crop_pat{}-label.nii.gz", "HVSMR 2016"),
        ("p/pat{}_cropped.nii.gz", "p/pat{}_cropped_seg.nii.gz", "HVSMR 2.0"),
    ],
)
def test_sets_by_their_own_names(tmp_path, image, label, name):
    for number in range(3):
        scan(tmp_path / image.format(number))
        mask(tmp_path / label.format(number))
    found, catalog = cases(tmp_path)
    assert catalog.name == name
    assert len(found) == len(catalog.subjects) == 3
    assert all(case.label is not None for case in found.values())
    assert catalog.label_names[0] == "background"


def test_a_table_of_patients_beside_them_is_metadata(tmp_path):
    for name in ("A0B1C2", "D0E1F2", "G0H1I2"):
        scan(tmp_path / name / f"{name}_sa.nii.gz")
        mask(tmp_path / name / f"{name}_sa_gt.nii.gz")
    (tmp_path / "info.csv").write_text("code;age;vendor\nA0B1C2;30;A\nG0H1I2;;B\nZ;1;C\n")
    found, catalog = cases(tmp_path)
    assert catalog.name == "M&Ms"
    assert {name: case.metadata for name, case in found.items()} == {
        "A0B1C2_sa": {"age": 30, "vendor": "A"},
        "D0E1F2_sa": {"age": None, "vendor": None},
        "G0H1I2_sa": {"age": None, "vendor": "B"},
    }
    assert catalog.subjects == ("A0B1C2", "D0E1F2", "G0H1I2")
    assert (
        "metadata is from info.csv, whose column code names the subjects; 1 of 3 scans are not in it; rows of it that "
        "name nobody here: 1"
    ) in catalog.notes


def four(path, frames):
    path.parent.mkdir(parents=True, exist_ok=True)
    nibabel.save(nibabel.Nifti1Image(np.stack(frames, -1), np.eye(4)), path)
    return path


def test_frames_of_a_cine_with_a_4d_mask(tmp_path):
    label = blob((6, 8, 3)).astype(np.uint8)
    for name in ("p1", "p2"):
        four(tmp_path / name / f"{name}_sa.nii.gz", [noise((6, 8, 3), 1) + t for t in range(8)])
        four(tmp_path / name / f"{name}_sa_gt.nii.gz", [label * (t in {0, 5}) for t in range(8)])
    found, catalog = cases(tmp_path)
    assert len(found) == 16
    assert catalog.subjects == ("p1", "p2")
    assert [name for name, case in found.items() if case.label] == [
        f"p{p}_sa_frame{t:02d}" for p in (1, 2) for t in (1, 6)
    ]
    assert [found[f"p1_sa_frame{t + 1:02d}"].metadata["phase"] for t in range(8)] == [0, 0, 1, 1, 2, 2, 3, 3]
    case = found["p1_sa_frame06"]
    assert parse_composite(case.label) == Frame(tmp_path / "p1/p1_sa_gt.nii.gz", 5)
    assert np.array_equal(read_mask(case.label), label.T)
    assert np.allclose(read_volume(case.images).array[0], noise((6, 8, 3), 1).T + 5)


def test_frames_named_by_their_masks(tmp_path):
    for name in ("p1", "p2"):
        four(tmp_path / name / f"{name}_4d.nii.gz", [noise((6, 8, 3), 1)] * 6)
        for frame in (1, 4):
            mask(tmp_path / name / f"{name}_frame{frame:02d}_gt.nii.gz")
    found, _ = cases(tmp_path)
    labelled = {name: case.label.name for name, case in found.items() if case.label and case.subject == "p1"}
    assert labelled == {
        "p1_4d_frame01": "p1_frame01_gt.nii.gz",
        "p1_4d_frame04": "p1_frame04_gt.nii.gz",
    }


@pytest.mark.parametrize("alike", [True, False])
def test_a_short_fourth_axis_is_time_where_its_images_look_alike(tmp_path, alike):
    for name in ("a", "b"):
        four(tmp_path / f"images/{name}.nii.gz", [noise((6, 8, 3), 1 if alike else t) for t in range(2)])
        mask(tmp_path / f"labels/{name}.nii.gz")
    found, catalog = cases(tmp_path)
    assert len(found) == (4 if alike else 2)
    said = " ".join(catalog.notes)
    assert ("look alike: taken as frames in time" in said) == alike
    assert ("do not say which frame they are of" in said) == alike
    assert ("differ: taken as channels" in said) != alike
    found, _ = cases(tmp_path, {"name": "folders", "fourth_axis": "channels"})
    assert len(found) == 2


def picture(path, seed, size=(8, 6), value=None):
    path.parent.mkdir(parents=True, exist_ok=True)
    array = np.full(size, value) if value is not None else np.random.default_rng(seed).integers(0, 255, size)
    sitk.WriteImage(sitk.GetImageFromArray(array.astype(np.uint8)), str(path))
    return path


@pytest.mark.parametrize(
    ("image", "label"),
    [
        ("p{}/{}.png", "p{}/{}_mask.png"),
        ("images/p{}_{:03d}.png", "masks/p{}_{:03d}.png"),
        ("p{0}/p{0}_{1}.tif", "p{0}/p{0}_{1}_mask.tif"),
    ],
)
def test_numbered_pictures_are_slices_in_the_order_of_their_numbers(tmp_path, image, label):
    for patient in (1, 2):
        for number in range(1, 12):
            picture(tmp_path / image.format(patient, number), number, value=number)
            picture(tmp_path / label.format(patient, number), number, value=number % 2)
    found, catalog = cases(tmp_path, {"name": "folders", "spacing": [5, 1, 2]})
    assert sorted(found) == ["p1", "p2"]
    volume = read_volume(found["p2"].images)
    assert volume.array[0, :, 0, 0].tolist() == list(range(1, 12))
    assert volume.spacing == (5, 1, 2)
    assert read_mask(found["p2"].label)[:, 0, 0].tolist() == [n % 2 for n in range(1, 12)]
    assert "22 numbered pictures are slices of 2 volumes" in catalog.notes[0]
    found, _ = cases(tmp_path, {"name": "folders", "stack": "never"})
    assert len(found) == 22
    assert set(cases(tmp_path)[0]) == {"p1", "p2"}


def test_pictures_of_several_sizes_are_no_volume(tmp_path):
    for kind in ("benign", "malignant"):
        for number in range(1, 4):
            picture(tmp_path / kind / f"{kind} ({number}).png", number, (8, 6 + number))
            picture(tmp_path / kind / f"{kind} ({number})_mask.png", number, (8, 6 + number), 1)
    found, catalog = cases(tmp_path)
    assert len(found) == 6
    assert found["benign_2_"].metadata == {"folder": "benign"}
    assert len(catalog.subjects) == 6


def test_one_folder_of_numbered_pictures_is_no_volume(tmp_path):
    for number in range(5):
        picture(tmp_path / f"images/ISIC_{number:07d}.jpg", number)
        picture(tmp_path / f"masks/ISIC_{number:07d}_segmentation.png", number, value=1)
    assert len(cases(tmp_path)[0]) == 5


def test_pictures_of_two_parts_that_are_numbered_alike_are_no_volumes(tmp_path):
    for part in ("train", "val"):
        for number in range(1, 5):
            picture(tmp_path / part / f"images/img_{number}.png", number)
            picture(tmp_path / part / f"masks/img_{number}.png", number, value=1)
    assert len(cases(tmp_path)[0]) == 8


def test_a_column_of_a_table_beside_them_may_keep_scans_for_testing(tmp_path):
    for name in ("a", "b", "c"):
        scan(tmp_path / f"{name}.nii.gz")
        mask(tmp_path / f"{name}_seg.nii.gz")
    (tmp_path / "meta.csv").write_text("image_id;split;age\na;train;1\nb;val;2\nc;test;3\n")
    found, catalog = cases(tmp_path)
    assert [case.part for case in found.values()] == ["", "validation", "test"]
    assert [column.name for column in catalog.columns] == ["age"]


def test_a_slice_without_mask_is_not_annotated_and_gaps_are_said(tmp_path):
    for patient in (1, 2):
        for number in (1, 2, 4):
            picture(tmp_path / f"p{patient}/{number}.png", number)
            picture(tmp_path / f"p{patient}/{number}_mask.png", number, value=1)
    (tmp_path / "p2/2_mask.png").unlink()
    _, catalog = collect_catalog(tmp_path)
    assert catalog.faults == ()
    assert [slices_without_mask(case.label) for case in catalog.cases] == [(), (1,)]
    assert read_geometry(catalog.cases[1].label).shape == (3, 8, 6)
    assert read_mask(catalog.cases[1].label).any(axis=(1, 2)).tolist() == [True, False, True]
    assert any("numbers of slices have gaps in 2 of 2 volumes (p1: 2 then 4" in note for note in catalog.notes)
    assert isinstance(parse_composite(catalog.cases[0].images[0]), Stack)
    assert read_geometry(catalog.cases[0].images[0]).shape == (3, 8, 6)


def test_images_alone_are_not_taken_unasked(tmp_path):
    scan(tmp_path / "a.nii.gz")
    scan(tmp_path / "b.nii.gz")
    found, _ = cases(tmp_path, "folders")
    assert [case.label for case in found.values()] == [None, None]
    with pytest.raises(SettingsError, match="must be three positive numbers"):
        choose_reader(tmp_path, {"name": "folders", "spacing": [1, 1]})
