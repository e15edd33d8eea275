"""Damaged files, voxels that are no number, and a full disk, from the command line to what is left on the disk."""

from __future__ import annotations

import errno
import gzip
import json
import os

import numpy as np
import pytest

from fewlabel.cli import main
from fewlabel.core.errors import DataError
from fewlabel.data.store import PreparedStore
from fewlabel.engine import ensemble
from fewlabel.stages import predict
from fewlabel.stages.prepare import PrepareSettings, run
from kit.scans import blob, nnunet_folder, noise, write_scan
from kit.segmenters import as_slabs, bright_is_core, disc_plan, make_segmenter, nested_discs
from kit.stores import make_store
from kit.tiny import checked


def spoil(path):
    """Forty bytes of the middle are others: sizes, and the end of the file, stay as they were."""
    content = bytearray(gzip.compress(gzip.decompress(path.read_bytes()), compresslevel=0))
    middle = len(content) // 2
    for at in range(middle, middle + 40):
        content[at] ^= 0x5A
    path.write_bytes(content)
    return str(path)


def prepare(data, out, **values):
    return PreparedStore(run(PrepareSettings.parse({"data": data, "out": out, **values})))


def rc(*words):
    """Exit code of a command line."""
    with pytest.raises(SystemExit) as left:
        main(words)
    return left.value.code


@pytest.fixture
def damaged(tmp_path):
    """A data set with a damaged image of one case and a damaged mask of another."""
    # Of files below half a MB ITK itself meets the checksum.
    data = nnunet_folder(tmp_path / "data", tuple("abcd"), shape=(20, 200, 160))
    return data, [spoil(data / "imagesTr" / "b_0000.nii.gz"), spoil(data / "labelsTr" / "c.nii.gz")]


def test_check_names_every_damaged_file(damaged, capsys):
    data, paths = damaged
    faults = checked(data).faults
    assert [fault.where.split(", ")[1] for fault in faults] == paths
    assert all(fault.problem.startswith("is incomplete or damaged: ") for fault in faults)
    assert rc("check", str(data)) == 3


def test_prepare_names_every_damaged_file_and_writes_nothing(damaged, tmp_path):
    data, paths = damaged
    with pytest.raises(DataError) as caught:
        prepare(data, tmp_path / "p")
    assert [fault.where.split(", ")[1] for fault in caught.value.faults] == paths
    assert rc("prepare", str(data), "--out", str(tmp_path / "p")) == 3
    assert [path.name for path in tmp_path.iterdir()] == ["data"]


def test_predict_names_every_damaged_file_and_segments_the_others(tmp_path, monkeypatch):
    monkeypatch.setattr(ensemble, "predict_slabs", as_slabs(bright_is_core))
    model = make_segmenter(tmp_path / "segmenter", disc_plan())
    scans = tmp_path / "scans"
    for name in "abc":
        write_scan(scans / f"{name}.nii.gz", nested_discs(1).astype(np.float64).repeat(6, 1).repeat(6, 2))
    paths = [spoil(scans / "a.nii.gz"), spoil(scans / "c.nii.gz")]
    values = {"model": model, "scans": scans, "out": tmp_path / "out", "device": "cpu"}
    with pytest.raises(DataError, match="2 of 3 scans") as caught:
        predict.run(predict.PredictSettings.parse(values))
    assert [fault.where for fault in caught.value.faults] == paths
    assert caught.value.exit_code == 3
    assert [path.name for path in (tmp_path / "out").glob("*.nii.gz")] == ["b.nii.gz"]


def ct_folder(root):
    """A CT of soft tissue at -500 HU and below; beside it nothing was measured."""
    nnunet_folder(root, tuple("abc"))
    for number, case in enumerate("abc"):
        image = noise((4, 24, 20), number) - 600 + 80 * blob((4, 24, 20))
        if case == "b":
            image[:, :, :6] = np.nan
        write_scan(root / "imagesTr" / f"{case}_0000.nii.gz", image.astype(np.float32), (1.0, 1.0, 5.0))
    return root


def test_voxels_that_are_no_number_are_the_darkest_of_a_prepared_scan(tmp_path):
    store = prepare(ct_folder(tmp_path / "data"), tmp_path / "p", size=[24, 20], spacing=[1, 1], split="random")
    quality = {row["id"]: row for row in json.loads((tmp_path / "p" / "qc.json").read_text())["cases"]}
    note = "voxels that are not finite were set to the lowest intensity"
    assert [note in quality[name]["odd"] for name in "abc"] == [False, True, False]
    assert quality["b"]["intensities"][0]["99"] < -300
    case = next(case for case in store.cases if case.id == "b")
    images = store.images[case.start : case.stop, 0]
    dark = np.sort(np.flatnonzero((images == 0).all((0, 1))))
    # Orientation may mirror the columns.
    assert dark.tolist() in (list(range(6)), list(range(14, 20)))
    assert np.median(np.delete(images, dark, axis=2)) > 0.2


def test_predict_takes_them_as_the_lowest_intensity_too(tmp_path, monkeypatch):
    met = []

    def seen(network, array, **words):
        met.append(array)
        return bright_is_core(network, array, **words)

    monkeypatch.setattr(ensemble, "predict_slabs", as_slabs(seen))
    image = nested_discs(1).astype(np.float32) - 500
    holed = image.copy()
    holed[:, :, :4] = np.nan
    for name, array in (("holed", holed), ("low", np.where(np.isnan(holed), -500, holed))):
        write_scan(tmp_path / "in" / f"{name}.nii", array)
    model = make_segmenter(tmp_path / "segmenter", disc_plan())
    values = {"model": model, "scans": tmp_path / "in", "out": tmp_path / "out", "device": "cpu"}
    predict.run(predict.PredictSettings.parse(values))
    np.testing.assert_array_equal(met[0], met[1])


def full(*words):
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_a_full_disk_stops_prepare_and_leaves_nothing(tmp_path, monkeypatch, capsys):
    data = nnunet_folder(tmp_path / "data")
    monkeypatch.setattr(os, "posix_fallocate", full)
    assert rc("prepare", str(data), "--out", str(tmp_path / "p")) == 6
    told = " ".join(capsys.readouterr().err.split())
    assert "The disk is full" in told
    assert "bytes are needed" in told
    assert "iB free" in told
    assert "should not happen" not in told
    assert [path.name for path in tmp_path.iterdir()] == ["data"]


def test_a_full_disk_stops_merge_and_leaves_nothing(tmp_path, monkeypatch, capsys):
    one = make_store(tmp_path / "one", subjects=4, depth=4, size=(32, 32), seed=1)
    two = make_store(tmp_path / "two", subjects=4, depth=4, size=(32, 32), seed=2)
    monkeypatch.setattr(os, "posix_fallocate", full)
    assert rc("merge", str(one), str(two), "--out", str(tmp_path / "both")) == 6
    assert "The disk is full" in capsys.readouterr().err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["one", "two"]
