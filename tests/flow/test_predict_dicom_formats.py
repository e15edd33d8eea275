"""Masks of DICOM series as DICOM: for the patient of the series, and no name anywhere else."""

from __future__ import annotations

import nibabel
import numpy as np
import pandas as pd
import pydicom
import pytest
import SimpleITK as sitk

from fewlabel.core.errors import SettingsError
from fewlabel.data.io.dicom.address import DicomMask
from fewlabel.data.io.dicom.data_set_index import open_archive
from fewlabel.data.io.volume_reading import read_mask
from fewlabel.engine import ensemble
from kit.dicom import uid, write_slices
from kit.scans import write_scan
from kit.segmenters import LABELS, as_slabs, bright_is_core, disc_plan, make_segmenter, nested_discs
from kit.tiny import run_predict as run

PERSON = {"PatientName": "Zyxjane^Qqplant", "PatientID": "qqplant77", "SpecificCharacterSet": "ISO_IR 100"}
FORMATS = ("dicom_seg", "dicom_labelmap", "rtstruct")


@pytest.fixture(autouse=True)
def bright(monkeypatch):
    """A network that is right about discs."""
    monkeypatch.setattr(ensemble, "predict_slabs", as_slabs(bright_is_core))


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return make_segmenter(tmp_path_factory.mktemp("model") / "segmenter", disc_plan())


def write_series(folder, number=0, **tags):
    mask = nested_discs(number)
    array = (10 * (mask == LABELS["ring"]) + 20 * (mask == LABELS["core"])).astype(np.uint16)
    tags = {"SeriesInstanceUID": uid("of", number), "StudyInstanceUID": uid("in", number), **PERSON, **tags}
    write_slices(folder, array, spacing=(2.0, 2.0), distance=9.0, **tags)
    return folder


def named(path):
    content = path.read_bytes().lower()
    return b"qqplant" in content or b"zyxjane" in content


@pytest.mark.parametrize("form", FORMATS)
def test_masks_belong_to_their_series_and_are_read_back(model, tmp_path, form):
    """The reader of DICOM takes the result for the structures of the series, voxel for voxel."""
    scans = tmp_path / "scans"
    for number in range(2):
        write_series(scans / f"ct{number}", number, PatientID=f"qqplant{number}")
    out = run(model, scans, tmp_path / "out", format=form)
    assert not list(scans.rglob(".*"))
    table = pd.read_csv(out / "predictions.csv")
    assert sorted(path.name for path in out.glob("*.dcm")) == sorted(table["output"])
    assert table["ml_core"].tolist() == [pytest.approx((nested_discs(0) == LABELS["core"]).sum() * 0.036)] * 2
    assert [path.name for path in out.iterdir() if named(path)] == [path.name for path in out.glob("*.dcm")]
    before = open_archive(scans, anew=True)
    by_series = {series.head.series: scan for scan, series in before.scans.items()}
    for path in out.glob("*.dcm"):
        path.rename(scans / path.name)
    archive = open_archive(scans, anew=True)
    assert set(archive.scans) == set(before.scans)
    for number in range(2):
        scan = by_series[uid("of", number)]
        (name,) = [name for name, held in archive.objects.items() if held.study == uid("in", number)]
        mask = read_mask(DicomMask(scans, scan, (name,), (("core", 7), ("ring", 40))).path)
        np.testing.assert_array_equal(mask, nested_discs(number))


def test_formats_lie_beside_each_other_and_none_stands_for_another(model, tmp_path):
    scans = write_series(tmp_path / "ct")
    for form in FORMATS:
        run(model, scans, tmp_path / "out", format=form)
    ends = sorted(path.name.rpartition("_")[2] for path in (tmp_path / "out").glob("*.dcm"))
    assert ends == ["labelmap.dcm", "rtstruct.dcm", "seg.dcm"]
    run(model, scans, tmp_path / "mask.dcm")
    before = (tmp_path / "mask.dcm").read_bytes()
    run(model, scans, tmp_path / "mask.dcm")
    with pytest.raises(SettingsError, match="was made with another format"):
        run(model, scans, tmp_path / "mask.dcm", format="rtstruct")
    assert (tmp_path / "mask.dcm").read_bytes() == before


def test_one_mask_as_a_file(model, tmp_path):
    scans = write_series(tmp_path / "ct")
    assert pydicom.dcmread(run(model, scans, tmp_path / "mask.dcm")).SegmentationType == "BINARY"
    assert pydicom.dcmread(run(model, scans, tmp_path / "rt.dcm", format="rtstruct")).Modality == "RTSTRUCT"
    assert not named(tmp_path / "mask_predictions.csv")
    assert not named(tmp_path / "mask_run_report.json")


@pytest.mark.parametrize("form", FORMATS)
def test_other_scans_have_no_patient(model, tmp_path, form):
    scan = write_scan(tmp_path / "a.nii.gz", nested_discs(0).astype(np.float32))
    with pytest.raises(SettingsError, match=r"is for series of DICOM, and not for .*a\.nii\.gz"):
        run(model, scan, tmp_path / "out", format=form)
    assert not (tmp_path / "out").exists()


def test_other_formats_of_a_tilted_series_lie_on_its_slices(model, tmp_path):
    scans = write_series(tmp_path / "ct", step=(0.0, 0.2, 9.0))
    segments = sitk.ReadImage(str(run(model, scans, tmp_path / "mask.seg.nrrd")))
    plain = nibabel.load(run(model, scans, tmp_path / "mask.nii.gz"))
    np.testing.assert_array_equal(sitk.GetArrayFromImage(segments), np.asarray(plain.dataobj).transpose(2, 1, 0))
    for corner in ([0.0, 0.0, 0.0], [21.0, 25.0, 5.0]):
        place = np.array(segments.TransformContinuousIndexToPhysicalPoint(corner))
        wanted = np.array([-10.0, -20.0, 30.0]) + np.array(corner) @ [[2, 0, 0], [0, 2, 0], [0, 0.2, 9]]
        np.testing.assert_allclose(place, wanted, atol=1e-4)
        np.testing.assert_allclose((plain.affine @ [*corner, 1])[:3] * [-1, -1, 1], wanted, atol=1e-4)
    assert not named(tmp_path / "mask.seg.nrrd")
