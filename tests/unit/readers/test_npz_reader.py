import numpy as np
import pytest

from fewlabel.core.errors import DataError, SettingsError
from fewlabel.data.io.volume_reading import read_geometry, read_mask, read_volume
from fewlabel.readers.base import choose_reader, collect_catalog, read_catalog
from kit.h5 import ball, write_h5


def synapse(root, train=3, test=2, lists=True):
    (root / "train_npz").mkdir(parents=True)
    rows = []
    for number in range(train):
        image, mask = (array.transpose(2, 0, 1) for array in ball(number))
        for z in range(len(image)):
            name = f"case{number:04d}_slice{z:03d}"
            np.savez(root / f"train_npz/{name}.npz", image=image[z], label=mask[z].astype(np.float32))
            rows.append(name)
    for number in range(10, 10 + test):
        image, mask = (array.transpose(2, 0, 1) for array in ball(number))
        write_h5(root / f"test_vol_h5/case{number:04d}.npy.h5", image=image, label=mask.astype(np.float32))
    if lists:
        home = root / "lists/lists_Synapse"
        home.mkdir(parents=True)
        (home / "train.txt").write_text("\n".join(rows))
        (home / "test_vol.txt").write_text("\n".join(f"case{number:04d}" for number in range(10, 10 + test)) + "\n")
    return root


@pytest.mark.parametrize("lists", [True, False])
def test_slices_are_stacked_and_volumes_kept_for_testing(tmp_path, lists):
    root = synapse(tmp_path, lists=lists)
    assert choose_reader(root).name == "npz"
    _, catalog = read_catalog(root)
    assert [(case.id, case.part) for case in catalog.cases] == [
        *((f"case{n:04d}", "") for n in range(3)),
        *((f"case{n:04d}", "test") for n in (10, 11)),
    ]
    assert catalog.label_names[5] == "liver"
    for case, number in zip(catalog.cases, (0, 1, 2, 10, 11), strict=True):
        image, mask = (array.transpose(2, 0, 1) for array in ball(number))
        assert np.allclose(read_volume(case.images).array[0], image)
        assert np.array_equal(read_mask(case.label), mask)
        assert read_geometry(case.images[0]).shape == image.shape


def test_cases_on_no_list_are_left_out_and_lists_are_checked(tmp_path):
    root = synapse(tmp_path)
    home = root / "lists/lists_Synapse"
    (home / "train.txt").write_text("case0000_slice000\ncase0010_slice000\ncase0099_slice000\n")
    _, catalog = collect_catalog(root)
    told = "\n".join(map(str, catalog.faults))
    assert "train.txt: 1 of 3 cases do not exist: case0099" in told
    assert "case0010 is on another one too" in told
    assert {case.id for case in catalog.cases} == {"case0000", "case0010", "case0011"}
    assert "2 cases are on no list: left out" in catalog.notes


def test_stages_in_names_are_cases_of_one_subject(tmp_path):
    for stage in ("ED", "ES"):
        for z in range(2):
            np.savez(
                tmp_path / f"case_001_slice{stage}_{z}.npz", img=np.zeros((4, 5)), label=np.zeros((4, 5), np.uint8)
            )
    _, catalog = read_catalog(tmp_path)
    assert [case.id for case in catalog.cases] == ["case_001_ED", "case_001_ES"]
    assert catalog.subjects == ("case_001",)
    assert read_geometry(catalog.cases[0].images[0]).shape == (2, 4, 5)


def test_voxel_sizes_by_setting(tmp_path):
    root = synapse(tmp_path)
    _, catalog = read_catalog(root, {"name": "npz", "spacing": [3, 1, 1]})
    assert {read_geometry(case.images[0]).spacing for case in catalog.cases} == {(3, 1, 1)}
    assert catalog.notes == ()
    with pytest.raises(SettingsError, match="must be three positive numbers"):
        choose_reader(root, {"name": "npz", "spacing": [1]})


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda path: path.write_bytes(path.read_bytes()[:100]), "is not a complete npz file"),
        (lambda path: np.savez(path, label=np.zeros((2, 2))), "must hold an array image, but holds label"),
        (lambda path: np.savez(path, image=np.array([{}])), "holds Python objects"),
    ],
)
def test_bad_files_are_named(tmp_path, change, told):
    root = synapse(tmp_path)
    path = root / "train_npz/case0001_slice000.npz"
    change(path)
    _, catalog = collect_catalog(root)
    assert [case.id for case in catalog.cases] == ["case0000", "case0002", "case0010", "case0011"]
    assert told in str(catalog.faults[0])
    assert str(path) in str(catalog.faults[0])


def test_a_missing_slice_is_named(tmp_path):
    root = synapse(tmp_path)
    (root / "train_npz/case0001_slice004.npz").unlink()
    _, catalog = read_catalog(root)
    with pytest.raises(DataError, match="slices are not numbered consecutively: 3 then 5"):
        read_volume(catalog.cases[1].images)


def test_slices_of_a_case_in_two_folders_are_refused(tmp_path):
    root = synapse(tmp_path, lists=False)
    first = next(iter(sorted((root / "train_npz").glob("case0001*"))))
    (root / "more_npz").mkdir()
    first.rename(root / "more_npz" / first.name)
    _, catalog = collect_catalog(root)
    (fault,) = (str(fault) for fault in catalog.faults)
    assert f"case case0001: must have its slices in one folder, not in {root / 'more_npz'} and" in fault
