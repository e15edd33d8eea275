"""``labels.json`` beside scans of every layout."""

import json

import numpy as np
import pytest

from fewlabel.data.io.volume_reading import read_mask
from fewlabel.readers.base import collect_catalog, read_catalog
from fewlabel.readers.catalog_as_table import write_table
from fewlabel.stages.prepare import PrepareSettings, check
from kit.pictures import write_picture
from kit.scans import blob, nnunet_folder, noise, write_scan

COLOURS = {"#ff0000": "liver", "#00ff00": "spleen"}
NUMBERED = np.array([(0, 0, 0), (255, 0, 0), (0, 255, 0)], np.uint8)


def named(root, names):
    (root / "labels.json").write_text(json.dumps(names))
    return root


def flat(root, image="{}", masks=("{}_mask",)):
    for name in ("p1", "p2", "p3"):
        write_scan(root / f"{image.format(name)}.nii.gz", noise((3, 8, 8)))
        for mask in masks:
            write_scan(root / f"{mask.format(name)}.nii.gz", blob((3, 8, 8)))
    return root


def coloured(root, name="s{}x"):
    for patient in range(1, 4):
        for number in range(3):
            file = name.format(patient, number)
            write_picture(root / f"images/{file}.png", np.full((8, 6), 10 * patient + number, np.uint8))
            classes = np.zeros((8, 6), int)
            classes[2:4] = 1 + number % 2
            write_picture(root / f"masks/{file}.png", NUMBERED[classes])
    return root


@pytest.mark.parametrize(
    ("image", "mask"), [("{}", "{}_mask"), ("{}/scan", "{}/scan_seg"), ("sub-{0}/sub-{0}_T1w",) * 2]
)
def test_names_of_values_in_any_layout(tmp_path, image, mask):
    mask = mask.replace("T1w", "dseg")
    root = named(flat(tmp_path, image, (mask,)), {"1": "liver", "2": "ignore"})
    catalog = read_catalog(root)[1]
    assert dict(catalog.label_names) == {1: "liver", 2: "ignore"}
    assert "classes are named by labels.json" in catalog.notes


def test_a_file_below_counts_and_two_must_agree(tmp_path):
    flat(tmp_path, "{}/scan", ("{}/scan_seg",))
    for name in ("p1", "p2"):
        named(tmp_path / name, {"1": "liver"})
    assert read_catalog(tmp_path)[1].label_names[1] == "liver"
    named(tmp_path / "p2", {"1": "spleen"})
    (fault,) = collect_catalog(tmp_path)[1].faults
    assert "name labels differently" in fault.problem


def test_broken_empty_and_contradicting_files_are_faults(tmp_path):
    flat(tmp_path / "a")
    for text in ("{", "{}", '{"1": "a", "01": "b"}', '{"#ff0000": "a"}'):
        (tmp_path / "a/labels.json").write_text(text)
        (fault,) = collect_catalog(tmp_path / "a")[1].faults
        assert "labels.json" in str(fault)
        assert fault.remedy
    (fault,) = collect_catalog(named(nnunet_folder(tmp_path / "b"), {"1": "heart", "2": "lung"}))[1].faults
    assert str(fault) == (
        f"{tmp_path}/b/labels.json: calls label 1 heart, but the data set calls it organ. Correct one of them."
    )
    assert not collect_catalog(named(tmp_path / "b", {"1": "Organ", "2": "lung"}))[1].faults


def test_structures_have_the_values_of_their_names(tmp_path):
    root = flat(tmp_path, "{}/ct", ("{}/segmentations/liver", "{}/segmentations/spleen", "{}/segmentations/aorta"))
    catalog = read_catalog(named(root, {"1": "spleen", "7": "liver"}))[1]
    assert dict(catalog.label_names) == {0: "background", 1: "spleen", 7: "liver", 8: "aorta"}
    # Of masks in one place, that of the highest value has the voxel.
    assert np.unique(read_mask(catalog.cases[0].label)).tolist() == [0, 8]
    (fault,) = collect_catalog(named(root, {"1": "milt"}))[1].faults
    assert "names milt, but the masks are of aorta, liver, spleen" in fault.problem


@pytest.mark.parametrize("name", ["s{}{}x", "p{}_slice{}"])
def test_colours_of_pictures_and_of_stacks(tmp_path, name):
    root = named(coloured(tmp_path / "data", name), COLOURS)
    catalog = read_catalog(root)[1]
    assert dict(catalog.label_names) == {0: "background", 1: "liver", 2: "spleen"}
    together = np.concatenate([read_mask(case.label) for case in catalog.cases])
    assert together[:3, :, 0].tolist() == [[0, 0, k, k, 0, 0, 0, 0] for k in (1, 2, 1)]
    (tmp_path / "scans.csv").write_text(write_table(root).text)
    again = read_catalog(tmp_path / "scans.csv")[1]
    assert [case.label for case in again.cases] == [case.label for case in catalog.cases]
    # Beside the table, too, colours are those of its cells.
    (root / "scans.csv").write_text(write_table(root).text)
    assert [case.label for case in read_catalog(root / "scans.csv")[1].cases] == [case.label for case in catalog.cases]


@pytest.mark.parametrize("name", ["s{}{}x", "p{}_slice{}"])
def test_unknown_colours_of_many_masks_are_one_fault_with_the_words_for_all(tmp_path, name):
    coloured(tmp_path, name)
    (fault,) = check(PrepareSettings(data=tmp_path, out=tmp_path / "x", workers=1)).faults
    assert "9 masks, such as" in fault.problem
    assert "together they hold #000000, #ff0000, #00ff00" in fault.problem
    assert fault.remedy.endswith("as in colours.000000=0 colours.ff0000=1 colours.00ff00=2")
    settings = PrepareSettings(
        data=tmp_path, out=tmp_path / "x", workers=1, colours={"000000": 0, "ff0000": 1, "00ff00": 2}
    )
    assert not check(settings).faults
    (fault,) = check(settings.model_copy(update={"colours": {"000000": 0}})).faults
    assert "9 masks, such as" in fault.problem
    assert "have the colours #ff0000, #00ff00, which stand for no class" in fault.problem
