"""The h5 layouts of the semi-supervised literature."""

from __future__ import annotations

import json

import numpy as np
import pytest

from fewlabel.core.errors import DataError, SettingsError
from fewlabel.data.io.hdf5_and_npz_arrays import Address
from fewlabel.data.io.volume_reading import read_geometry, read_mask, read_volume
from fewlabel.data.label_values import label_map
from fewlabel.data.scan_inspection import inspect
from fewlabel.protocol.splits import make_split
from fewlabel.readers.base import choose_reader, read_catalog
from fewlabel.readers.ssl4mis import Ssl4misReader
from kit.h5 import atrium_folder, ball, write_h5

SLICE = np.arange(12, dtype=np.float32).reshape(4, 3)


def read(root, **settings):
    return Ssl4misReader(Ssl4misReader.Config(**settings)).read(root)


def acdc_folder(root, *, volumes=(), sliced=(), scribbled=(), train=(), val=(), test=()):
    """``data/CASE.h5``, ``data/slices/CASE_slice_N.h5`` of two slices, and the lists."""
    dense, scribble = (SLICE % 4).astype(np.uint8), np.full((4, 3), 4, np.uint16)
    scribble[1, 1] = 2
    for number, name in enumerate(volumes):
        arrays = {"image": np.stack([SLICE, SLICE + number]), "label": np.stack([dense, dense])}
        write_h5(root / "data" / f"{name}.h5", **arrays)
    for name in sliced:
        for z in range(2):
            extra = {"scribble": scribble} if name in scribbled else {}
            write_h5(root / "data" / "slices" / f"{name}_slice_{z}.h5", image=SLICE + z, label=dense, **extra)
    lines = [f"{name}_slice_{z}" for name in train for z in range(2)]
    for name, entries in (("train_slices", lines), ("val", val), ("test", test)):
        if entries:
            (root / f"{name}.list").write_text("\n".join(entries))
    return root


def frames(number):
    return [f"patient{number:03d}_frame{frame:02d}" for frame in (1, 12)]


def test_the_left_atrium_as_it_is_passed_around(tmp_path):
    root = atrium_folder(tmp_path, ["B", "A"], ["T"], unlabelled=["A"])
    choice, catalog = read_catalog(root)
    assert choice.name == "ssl4mis"
    assert choice.match.reasons == ("3 .h5 files", "test.list, train.list")
    assert [(case.id, case.subject, case.part) for case in catalog.cases] == [
        ("A", "A", ""),
        ("B", "B", ""),
        ("T", "T", "test"),
    ]
    assert [case.label is None for case in catalog.cases] == [True, False, False]
    assert catalog.label_names == {0: "background", 1: "left atrium"}
    assert catalog.columns == ()
    image, mask = ball(0)
    case = catalog.cases[1]
    volume = read_volume(case.images)
    assert volume.array.shape == (1, 12, 19, 22)
    assert volume.spacing == (0.625, 0.625, 0.625)
    np.testing.assert_array_equal(volume.array[0], image.transpose(2, 1, 0))
    np.testing.assert_array_equal(read_mask(case.label), mask.transpose(2, 1, 0))
    assert any("no voxel size: taken as 0.625 x 0.625 x 0.625 mm" in note for note in catalog.notes)
    split = make_split(catalog)
    assert split["name"] == "own"
    assert split["parts"] == {"pretrain": ["A", "B"], "train": ["B"], "validation": [], "test": ["T"]}
    facts = inspect(catalog, 1)
    assert [fact.faults for fact in facts] == [()] * 3


def test_acdc_in_volumes_and_slices(tmp_path):
    cases = [name for number in range(1, 5) for name in frames(number)]
    root = acdc_folder(
        tmp_path,
        volumes=cases[2:],
        sliced=cases[:4],
        train=cases[:4],
        val=frames(3),
        test=[f"{n}.h5" for n in frames(4)],
    )
    write_h5(root / "data" / "patient009_frame01.h5", image=SLICE)
    catalog = read(root)
    assert [case.id for case in catalog.cases] == cases
    assert [case.subject for case in catalog.cases[:3]] == ["patient001", "patient001", "patient002"]
    assert [case.metadata["phase"] for case in catalog.cases] == ["ED", "ES"] * 4
    assert [case.part for case in catalog.cases] == [""] * 4 + ["validation"] * 2 + ["test"] * 2
    assert catalog.label_names == {0: "background", 1: "RV", 2: "myocardium", 3: "LV"}
    assert "1 cases are on no list and left out" in catalog.notes
    # Nobody knows their voxel size, which is said once of the whole data set, not by the reader.
    assert not read_geometry(catalog.cases[0].images[0]).spacing_known
    assert not any("voxel size" in note for note in catalog.notes)
    # Slices only where there is no volume.
    stacked = [Address.parse(case.images[0]).file.name for case in catalog.cases[:3]]
    assert stacked == ["patient001_frame01_slice_*.h5", "patient001_frame12_slice_*.h5", "patient002_frame01.h5"]
    np.testing.assert_array_equal(read_volume(catalog.cases[0].images).array[0], np.stack([SLICE, SLICE + 1]))
    assert read_geometry(catalog.cases[2].images[0]).shape == (2, 4, 3)
    parts = make_split(catalog)["parts"]
    assert parts["validation"] == ["patient003"]
    assert parts["test"] == ["patient004"]
    assert parts["train"] == parts["pretrain"] == ["patient001", "patient002"]


def test_with_lists_all_other_patients_train(tmp_path):
    cases = [name for number in range(1, 9) for name in frames(number)]
    root = acdc_folder(tmp_path, volumes=cases, train=cases[:12], val=cases[12:14], test=cases[14:])
    parts = make_split(read(root))["parts"]
    assert parts["train"] == [f"patient{number:03d}" for number in range(1, 7)]
    assert (parts["validation"], parts["test"]) == (["patient007"], ["patient008"])
    drawn = make_split(read(root), "random")["parts"]
    assert len(drawn["train"]) == 5


def test_a_patient_in_two_parts_is_a_fault_of_the_split(tmp_path):
    root = acdc_folder(tmp_path, volumes=[*frames(1), *frames(2)], train=frames(1)[:1] + frames(2), val=frames(1)[1:])
    with pytest.raises(DataError, match="test or validation part: patient001"):
        make_split(read(root))


def test_scribbles_train_while_test_scans_keep_their_labels(tmp_path):
    cases = [*frames(1), *frames(2)]
    layout = {"volumes": cases, "sliced": cases, "scribbled": cases[:1], "train": cases[:2], "test": cases[2:]}
    catalog = read(acdc_folder(tmp_path, **layout), label="scribble")
    assert [Address.parse(case.label).key if case.label else None for case in catalog.cases] == [
        "scribble", None, "label", "label",
    ]  # fmt: skip
    # The scribble lies in the slices, so image and label come from there; a volume without one is unlabelled.
    assert "_slice_" in catalog.cases[0].images[0].name
    assert "_slice_" not in catalog.cases[1].images[0].name
    assert catalog.label_names[4] == "ignore"
    assert any("1 of 2 training scans learn from a scribble, as label=scribble says" in note for note in catalog.notes)
    found, faults = label_map(catalog, inspect(catalog, 1))
    assert faults == []
    assert found.values == (0, 1, 2, 3)
    assert found.ignore == 4
    assert any("scored on their scribbles" in note for note in read(without_lists(tmp_path), label="scribble").notes)
    plain = read(tmp_path)
    assert any("1 of 4 training scans hold a scribble beside the full label" in note for note in plain.notes)
    assert {Address.parse(case.label).key for case in plain.cases} == {"label"}
    assert 4 not in plain.label_names


def test_scribbles_without_labels_are_learnt_from_by_themselves(tmp_path):
    scribble = np.full((2, 4, 3), 4, np.uint8)
    scribble[:, 1, 1] = 1
    for number in range(3):
        name = f"patient{number:03d}_frame01"
        write_h5(tmp_path / f"{name}.h5", image=np.stack([SLICE] * 2), scribble=scribble)
    catalog = read(tmp_path)
    assert {Address.parse(case.label).key for case in catalog.cases} == {"scribble"}
    assert catalog.label_names[4] == "ignore"
    why = "3 of 3 training scans learn from a scribble, as their files hold no full label"
    assert any(why in note for note in catalog.notes)
    assert {case.label for case in read(tmp_path, label="label").cases} == {None}


def without_lists(root):
    for path in root.glob("*.list"):
        path.unlink()
    return root


def test_voxel_size_and_axes_are_settings(tmp_path):
    root = atrium_folder(tmp_path, ["A"], ["T"])
    catalog = read(root, spacing=(10.0, 1.5, 2.0), slices="first")
    geometry = read_geometry(catalog.cases[0].images[0])
    assert geometry.spacing == (10.0, 1.5, 2.0)
    assert geometry.spacing_known
    # Of 1 mm, too, if somebody says so.
    assert read_geometry(read(root, spacing=(1.0, 1.0, 1.0)).cases[0].images[0]).spacing_known
    assert geometry.shape == (22, 19, 12)
    assert not any("voxel size" in note for note in catalog.notes)
    last = read(root, spacing=(10.0, 1.5, 2.0))
    assert read_geometry(last.cases[0].images[0]).spacing == (10.0, 1.5, 2.0)
    assert read_geometry(last.cases[0].images[0]).shape == (12, 19, 22)
    for wrong in ([1.0, 2.0], [1.0, 0.0, 1.0]):
        with pytest.raises(SettingsError, match="three positive numbers"):
            choose_reader(root, {"name": "ssl4mis", "spacing": wrong})


@pytest.mark.parametrize(
    ("lists", "told"),
    [
        ({"train.list": "A\nX\nY"}, r"train\.list: 2 of 3 cases do not exist: X, Y"),
        ({"train.list": "A", "test.txt": "A/mri_norm2.h5"}, r"test\.txt: a case may be on one list only, but A is"),
    ],
)
def test_faults_of_the_lists(tmp_path, lists, told):
    root = without_lists(atrium_folder(tmp_path, ["A"], ["T"]))
    for name, text in lists.items():
        (root / name).write_text(text)
    with pytest.raises(DataError, match=told):
        read(root)


def test_faults_of_the_files(tmp_path):
    write_h5(tmp_path / "a.h5", image=SLICE)
    write_h5(tmp_path / "data" / "a.h5", image=SLICE)
    write_h5(tmp_path / "b.h5", picture=SLICE)
    (tmp_path / "c.h5").write_text("text")
    with pytest.raises(DataError) as caught:
        read(tmp_path)
    told = str(caught.value)
    for part in (
        "case a: must have one volume",
        'must hold an array "image", but holds picture',
        "c.h5: is not a complete HDF5 file",
    ):
        assert part in told


def test_what_fits_and_what_does_not(tmp_path):
    match = Ssl4misReader.match
    assert match(tmp_path).score == 0
    hidden = write_h5(tmp_path / ".cache" / "x.h5", image=SLICE)
    assert match(tmp_path).score == 0
    file = write_h5(tmp_path / "sub" / "v.h5", image=SLICE, label=SLICE.astype(np.uint8))
    assert match(tmp_path).score == 0.6
    (tmp_path / "train.txt").write_text("v\n")
    assert match(tmp_path).score == 0.9
    assert match(file).score == 0.9
    assert match(tmp_path / "train.txt").score == 0
    assert [case.id for case in read(file).cases] == ["v"]
    hidden.unlink()
    with pytest.raises(DataError, match=r"holds no \.h5 files"):
        read(tmp_path / ".cache")


def test_the_shared_left_atrium(shared_data):
    root = shared_data / "la"
    if not root.is_dir():
        pytest.skip("the left atrium set is not beside this checkout")
    choice, catalog = read_catalog(root)
    assert choice.name == "ssl4mis"
    assert len(catalog.cases) == 12
    assert sum(case.part == "test" for case in catalog.cases) == 4
    assert {read_geometry(case.images[0]).shape[0] for case in catalog.cases} == {88}
    assert all(case.label is not None for case in catalog.cases)


def test_one_frame_of_a_patient_is_still_the_patient(tmp_path):
    cases = [f"patient{number:03d}_frame01" for number in (99, 2, 1)]
    catalog = read(acdc_folder(tmp_path, volumes=cases))
    assert [case.subject for case in catalog.cases] == ["patient001", "patient002", "patient099"]
    parts = make_split(catalog, "ssl4mis")["parts"]
    assert (parts["train"], parts["validation"], parts["test"]) == (["patient099"], ["patient002"], ["patient001"])


def test_a_list_in_another_encoding_is_a_fault(tmp_path):
    root = acdc_folder(tmp_path, volumes=frames(1), train=frames(1))
    (root / "test.list").write_bytes("patient001_frame01\n\xf6\n".encode("latin-1"))
    with pytest.raises(DataError, match=r"test\.list, line 2: must be UTF-8 text, but has the byte 0xf6"):
        read(root)


def scribbled_folder(root, *, val=True):
    """Ten patients of the train list with scribbles, two of the val list, two of the test list."""
    cases = [f"patient{number:03d}_frame{frame:02d}" for number in range(1, 15) for frame in (1, 12)]
    lists = {"train": cases[:20], "val": cases[20:24] if val else (), "test": cases[24:]}
    return acdc_folder(root, volumes=cases[20:], sliced=cases[:20], scribbled=cases[:20], **lists)


def test_a_split_that_mixes_scribbles_with_full_labels_is_refused(tmp_path):
    root = scribbled_folder(tmp_path)
    catalog = read(root, label="scribble")
    own = make_split(catalog)
    assert (len(own["parts"]["train"]), len(own["parts"]["validation"]), len(own["parts"]["test"])) == (10, 2, 2)
    assert not any("scribbles" in note for note in own["notes"])
    for split in ("random", "ssl4mis"):
        with pytest.raises(DataError, match=r"train on scribbles and test on full labels.*split=auto"):
            make_split(catalog, split)
    file = tmp_path / "mine.json"
    swapped = {"train": own["parts"]["test"], "validation": ["patient001"], "test": ["patient002", "patient003"]}
    file.write_text(json.dumps({"parts": swapped}))
    with pytest.raises(DataError) as error:
        make_split(catalog, str(file))
    text = str(error.value)
    assert "the train part has 2 subjects with full labels, such as patient013" in text
    assert "the test part has 2 subjects with scribbles, such as patient002" in text
    file.write_text(json.dumps({"parts": {**own["parts"], "validation": ["patient001", "patient011"]}}))
    with pytest.raises(DataError, match=r"the validation part has 1 subjects with full labels.* and 1 subjects with"):
        make_split(catalog, str(file))
    # Full labels for all: any split will do.
    assert make_split(read(root), "random")["name"] == "random"


def test_validation_on_scribbles_is_said(tmp_path):
    split = make_split(read(scribbled_folder(tmp_path, val=False), label="scribble"))
    assert split["parts"]["validation"]
    assert any("1 validation subjects have scribbles, no full labels" in note for note in split["notes"])
    without = make_split(read(tmp_path, label="scribble"), validation_fraction=0.0)
    assert without["parts"]["validation"] == []
    assert not any("scribbles" in note for note in without["notes"])


def test_slices_of_a_case_in_two_folders_are_refused(tmp_path):
    name = frames(1)[0]
    root = acdc_folder(tmp_path, sliced=[name])
    (root / "more").mkdir()
    (root / "data" / "slices" / f"{name}_slice_1.h5").rename(root / "more" / f"{name}_slice_1.h5")
    with pytest.raises(DataError, match=f"case {name}: must have its slices in one folder, not in"):
        read(root)
