import json

import nibabel
import numpy as np
import pytest
import SimpleITK as sitk

from fewlabel.core.errors import DataError
from fewlabel.data.io.composite_paths import slices_without_mask
from fewlabel.data.io.volume_reading import read_geometry, read_mask, read_volume
from fewlabel.readers.table import TableReader
from kit.scans import noise, write_scan


def read(root, **values):
    return TableReader(TableReader.Config(**values)).read(root)


def picture(path, array):
    path.parent.mkdir(parents=True, exist_ok=True)
    sitk.WriteImage(sitk.GetImageFromArray(array.astype(np.uint8), isVector=array.ndim == 3), str(path))


@pytest.fixture
def slices(tmp_path):
    """Three slices of two persons, out of order; a slice's value is its number."""
    lines = ["image,label,patient,slice,site"]
    for person in ("p1", "p2"):
        for number in (10, 2, 1):
            picture(tmp_path / "i" / f"{person}_{number}.png", np.full((4, 5), 10 * number))
            picture(tmp_path / "m" / f"{person}_{number}.png", np.full((4, 5), number % 2))
            lines.append(f"i/{person}_{number}.png,m/{person}_{number}.png,{person},{number},x{number % 3}")
    return tmp_path, lines


def table(root, lines):
    path = root / "scans.csv"
    path.write_text("\n".join(lines) + "\n")
    return path


def test_rows_of_slices_are_one_scan_in_the_order_of_their_numbers(slices):
    root, lines = slices
    catalog = read(table(root, lines))
    assert [(case.id, case.subject) for case in catalog.cases] == [("p1", "p1"), ("p2", "p2")]
    first = catalog.cases[0]
    assert read_volume(first.images[0]).array[0, :, 0, 0].tolist() == [10, 20, 100]
    assert read_mask(first.label)[:, 0, 0].tolist() == [1, 0, 0]
    assert catalog.columns == ()
    assert any("p1 has no slice 3, 4, 5 …: its neighbours" in note for note in catalog.notes) is False
    assert any(note.startswith("the distance of the slices of 2 stacked scans is not known") for note in catalog.notes)
    assert "site differ between the slices of a scan: not used as metadata" in catalog.notes


def test_gaps_are_noted_and_even_steps_are_none(slices):
    root, _ = slices
    for number in (3, 4, 5, 6):
        picture(root / "i" / f"p1_{number}.png", np.full((4, 5), number))
    rows = [f"i/p1_{number}.png,p1,{number}" for number in (1, 2, 3, 5, 6)]
    catalog = read(table(root, ["image,subject,z", *rows]))
    assert "p1 has no slice 4: its neighbours are taken as next to each other" in catalog.notes
    catalog = read(table(root, ["image,subject,z", *(rows[at] for at in (0, 2, 3))]))
    assert not any("has no slice" in note for note in catalog.notes)


def test_faults_of_slices_come_with_their_lines(slices):
    root, lines = slices
    lines[2] = lines[2].replace(",2,", ",10,")
    lines[5] = lines[5].replace("p2,2", "p2,2").replace("i/p2_2", "i/gone")
    with pytest.raises(DataError) as error:
        read(table(root, lines))
    text = str(error.value)
    assert "line 3: slice 10 of p1 is there already, in line 2" in text
    assert "line 6: the image" in text


def test_slices_without_a_mask_are_not_annotated(slices):
    root, lines = slices
    lines[6] = lines[6].replace("m/p2_1.png", "")
    first, second = read(table(root, lines)).cases
    assert slices_without_mask(first.label) == ()
    assert slices_without_mask(second.label) == (0,)
    assert read_mask(second.label).shape == (3, 4, 5)


def test_slices_without_a_number_and_with_composed_masks_are_faults(slices):
    root, lines = slices
    lines[1] = lines[1].replace(",10,", ",,")
    lines[4] = lines[4].replace("m/p2_10.png", "m/p2_10.png;m/p2_2.png")
    with pytest.raises(DataError) as error:
        read(table(root, lines))
    text = str(error.value)
    assert "line 2: names no slice number, as other slices of p1 do" in text
    assert "the mask of p2 has one file for each structure" in text


def test_columns_of_voxel_sizes(slices):
    root, lines = slices
    lines = [lines[0] + ",pixel_spacing,slice_thickness", *(f"{line},0.5\\0.25,8" for line in lines[1:])]
    catalog = read(table(root, lines))
    assert read_geometry(catalog.cases[0].images[0]).spacing == (8, 0.5, 0.25)
    assert read_geometry(catalog.cases[0].label).spacing == (8, 0.5, 0.25)
    assert catalog.columns == ()
    lines[3] = lines[3].replace(",8", ",-8")
    with pytest.raises(DataError, match=r'line 4: slice_thickness must be a size in mm above 0, not "-8"'):
        read(table(root, lines))
    single = read(table(root, ["image,spacing_y,spacing_x", "i/p1_1.png,0.5,2"]))
    assert read_geometry(single.cases[0].images[0]).spacing == (1, 0.5, 2)
    assert single.cases[0].id == "p1_1"


def test_numbers_of_slices_in_volumes_are_metadata(tmp_path):
    for name in ("a", "b"):
        write_scan(tmp_path / f"{name}.nii.gz", noise((3, 4, 4)))
    catalog = read(table(tmp_path, ["image,subject,slice", "a.nii.gz,p,1", "b.nii.gz,p,2"]))
    assert [(case.id, case.metadata["slice"]) for case in catalog.cases] == [("a", 1), ("b", 2)]


def cine(path, frames=4, mask=False):
    array = np.zeros((5, 4, 3, frames), dtype=np.uint8 if mask else np.int16) + np.arange(frames)
    nibabel.save(nibabel.Nifti1Image(array.astype(np.uint8 if mask else np.int16), np.eye(4)), path)
    return path


def test_all_frames_of_a_cine_are_scans_of_one_person(tmp_path):
    cine(tmp_path / "p1.nii.gz", 8)
    write_scan(tmp_path / "m.nii.gz", np.ones((3, 4, 5), dtype=np.uint8))
    catalog = read(table(tmp_path, ["image,label", "p1.nii.gz,m.nii.gz"]))
    assert [case.id for case in catalog.cases] == [f"p1_frame0{index}" for index in range(1, 9)]
    assert {case.subject for case in catalog.cases} == {"p1"}
    assert [case.label is not None for case in catalog.cases] == [True] + [False] * 7
    assert [case.metadata["phase"] for case in catalog.cases] == [0, 0, 1, 1, 2, 2, 3, 3]
    assert [read_volume(case.images[0]).array.max() for case in catalog.cases] == list(range(8))
    assert any("1 masks of 4D images do not say which frame they are of" in note for note in catalog.notes)
    assert catalog.channels == ("image",)
    channels = read(tmp_path / "scans.csv", fourth_axis="channels")
    assert [case.id for case in channels.cases] == ["p1"]
    assert len(channels.channels) == 8


def test_a_mask_with_frames_labels_those_that_it_marks(tmp_path):
    cine(tmp_path / "p1.nii.gz")
    cine(tmp_path / "m.nii.gz", mask=True)
    catalog = read(table(tmp_path, ["image,label,patient", "p1.nii.gz,m.nii.gz,x"]))
    assert [case.label and int(read_mask(case.label).max()) for case in catalog.cases] == [None, 1, 2, 3]
    assert {case.subject for case in catalog.cases} == {"x"}
    cine(tmp_path / "m.nii.gz", 3, mask=True)
    with pytest.raises(DataError, match="has 3 frames, but"):
        read(tmp_path / "scans.csv")


def test_a_frame_column_names_the_frame(tmp_path):
    cine(tmp_path / "p1.nii.gz")
    lines = ["image,label,frame,phase", "p1.nii.gz,,1,ED", "p1.nii.gz,,4,ES"]
    catalog = read(table(tmp_path, lines))
    assert [(case.id, case.metadata["phase"]) for case in catalog.cases] == [
        ("p1_frame01", "ED"),
        ("p1_frame04", "ES"),
    ]
    assert [read_volume(case.images[0]).array.max() for case in catalog.cases] == [0, 3]
    lines[1] = lines[1].replace(",1,", ",0,")
    lines[2] = lines[2].replace(",4,", ",3,")
    catalog = read(table(tmp_path, lines))
    assert [read_volume(case.images[0]).array.max() for case in catalog.cases] == [0, 3]
    lines[2] = lines[2].replace(",3,", ",4,")
    with pytest.raises(
        DataError, match=r"line 3: .*p1.nii.gz has 4 frames, so there is no frame 4. Frames count from 0"
    ):
        read(table(tmp_path, lines))


def test_two_files_for_one_frame_are_named(tmp_path):
    for name in ("a", "b", "c"):
        write_scan(tmp_path / f"{name}.nii.gz", noise((3, 4, 4)))
    lines = ["image,subject,frame", "a.nii.gz,p,1", "b.nii.gz,p,1", "c.nii.gz,p,2"]
    with pytest.raises(DataError) as error:
        read(table(tmp_path, lines))
    (fault,) = error.value.faults
    assert str(fault) == (
        f"{tmp_path}/scans.csv, line 3: frame 1 of p is there already, in line 2: {tmp_path}/a.nii.gz and "
        f"{tmp_path}/b.nii.gz. Keep one of the two."
    )
    catalog = read(table(tmp_path, [*lines[:2], lines[3]]))
    assert [case.metadata["frame"] for case in catalog.cases] == [1, 2]


def structure(path, *voxels):
    array = np.zeros((3, 4, 4), dtype=np.uint8)
    array[voxels] = 255
    write_scan(path, array)


def test_one_mask_file_per_structure_gives_named_classes(tmp_path):
    for case in ("p1", "p2"):
        write_scan(tmp_path / f"{case}.nii.gz", noise((3, 4, 4)))
        structure(tmp_path / f"{case}_spleen_mask.nii.gz", 0, 0, 0)
        structure(tmp_path / f"{case}_left_kidney_mask.nii.gz", 1, 1, 1)
    lines = [
        "image,label",
        "p1.nii.gz,p1_spleen_mask.nii.gz;p1_left_kidney_mask.nii.gz",
        "p2.nii.gz,p2_spleen_mask.nii.gz",
    ]
    catalog = read(table(tmp_path, lines))
    assert dict(catalog.label_names) == {1: "left_kidney", 2: "spleen"}
    first, second = (read_mask(case.label) for case in catalog.cases)
    assert (first[0, 0, 0], first[1, 1, 1], second[0, 0, 0], second[1, 1, 1]) == (2, 1, 2, 0)
    (tmp_path / "labels.json").write_text(json.dumps({"7": "spleen"}))
    catalog = read(tmp_path / "scans.csv")
    assert dict(catalog.label_names) == {7: "spleen", 8: "left_kidney"}


@pytest.mark.parametrize(
    "content", [{"#ff0000": "liver", "0,0,255": "spleen"}, {"liver": [255, 0, 0], "spleen": [0, 0, 255]}]
)
def test_colours_of_masks_are_named_in_labels_json(tmp_path, content):
    picture(tmp_path / "a.png", np.full((4, 4), 7))
    mask = np.zeros((4, 4, 3))
    mask[0], mask[1] = (255, 0, 0), (0, 0, 255)
    picture(tmp_path / "m.png", mask)
    (tmp_path / "labels.json").write_text(json.dumps(content))
    catalog = read(table(tmp_path, ["image,mask", "a.png,m.png"]))
    assert dict(catalog.label_names) == {0: "background", 1: "liver", 2: "spleen"}
    assert read_mask(catalog.cases[0].label)[0, :, 0].tolist() == [1, 2, 0, 0]


def test_labels_json_either_way_round_and_wrong(tmp_path):
    picture(tmp_path / "a.png", np.full((4, 4), 7))
    path = table(tmp_path, ["image", "a.png"])
    for content in ({"1": "liver", "255": "ignore"}, {"liver": 1, "ignore": 255}):
        (tmp_path / "labels.json").write_text(json.dumps(content))
        assert dict(read(path).label_names) == {1: "liver", 255: "ignore"}
    for content in ([1], {"liver": None}, {"1": "liver", "#ff0000": "spleen"}):
        (tmp_path / "labels.json").write_text(json.dumps(content))
        with pytest.raises(DataError, match=r"labels\.json"):
            read(path)


def test_the_colours_of_pictures_are_channels(tmp_path):
    for name in ("a", "b"):
        picture(tmp_path / f"{name}.png", np.full((4, 4, 3), 7))
    assert read(table(tmp_path, ["image", "a.png", "b.png"])).channels == ("red", "green", "blue")
