"""Masks in the formats of other programs: read back as those programs read them, and by this one."""

from __future__ import annotations

import json
import re

import nibabel
import numpy as np
import pandas as pd
import pytest
import SimpleITK as sitk

from fewlabel.core.artifact.artifact_folder import Artifact
from fewlabel.core.errors import DataError, SettingsError
from fewlabel.data.io.label_tables import class_colour
from fewlabel.data.io.slicer_segmentation import read_segments
from fewlabel.data.io.volume_reading import mask_faults, read_geometry, read_mask
from fewlabel.engine import ensemble
from fewlabel.readers.base import choose_reader
from kit.scans import TILTED, write_scan
from kit.segmenters import LABELS, as_slabs, bright_is_core, disc_plan, make_segmenter, nested_discs
from kit.tiny import run_predict as run

GEOMETRY = {"spacing": (2.0, 2.0, 9.0), "origin": (3, -4, 50), "direction": TILTED}
NAMES = ("background", 'left "heart" über', "ring\nof: fire")


@pytest.fixture(autouse=True)
def bright(monkeypatch):
    """A network that is right about discs."""
    monkeypatch.setattr(ensemble, "predict_slabs", as_slabs(bright_is_core))


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return make_segmenter(tmp_path_factory.mktemp("model") / "segmenter", disc_plan())


def picture(mask):
    return (10.0 * (mask == LABELS["ring"]) + 20.0 * (mask == LABELS["core"])).astype(np.float32)


def itk_snap(path):
    """Value → (red, green, blue, visible, name), by the layout that ITK-SNAP's parser expects."""
    row = re.compile(r'\s*(\d+)\s+(\d+)\s+(\d+)\s+(\d+)\s+([\d.]+)\s+([01])\s+([01])\s+"([^"]*)"')
    lines = [line for line in path.read_text().splitlines() if not line.startswith("#")]
    parsed = [row.fullmatch(line).groups() for line in lines]
    return {int(v): (int(r), int(g), int(b), int(visible), name) for v, r, g, b, _, visible, _, name in parsed}


def test_itk_snap_names_the_values_of_the_mask(model, tmp_path):
    scan = write_scan(tmp_path / "a.nrrd", picture(nested_discs(0)), **GEOMETRY)
    out = run(model, scan, tmp_path / "out", format="nifti")
    described = itk_snap(out / "labels.txt")
    assert described == {
        0: (0, 0, 0, 0, "Clear Label"),
        7: (*class_colour(1), 1, "core"),
        40: (*class_colour(2), 1, "ring"),
    }
    assert set(np.unique(nibabel.load(out / "a.nii.gz").dataobj).astype(int)) == set(described)
    odd = make_segmenter(tmp_path / "odd", disc_plan(label_names=NAMES))
    out = run(odd, scan, tmp_path / "mask.nii.gz")
    assert [row[-1] for row in itk_snap(tmp_path / "mask_labels.txt").values()][1:] == [
        "left 'heart' über",
        "ring of: fire",
    ]
    # Values that it does not know, and pictures, which it does not open as masks.
    below = make_segmenter(tmp_path / "below", disc_plan(label_values=(0, -7, 40)))
    run(below, scan, tmp_path / "below.nii.gz")
    assert not (tmp_path / "below_labels.txt").exists()


def test_colours_are_apart():
    colours = np.array([class_colour(index) for index in range(1, 41)])
    distance = np.abs(colours[:, None] - colours[None]).sum(-1) + 999 * np.eye(40)
    assert distance.min() > 15


@pytest.mark.parametrize("values", [(0, 7, 40), (0, -7, 1040), (3, 1, 2)])
def test_a_segmentation_for_slicer(tmp_path, values):
    """Own reader and ITK give the same voxels, names and colours; Slicer's fields say what its guide asks for."""
    mask = nested_discs(1)
    scan = write_scan(tmp_path / "scan.nii.gz", picture(mask), **GEOMETRY)
    model = make_segmenter(tmp_path / "m", disc_plan(label_values=values, label_names=NAMES))
    out = run(model, scan, tmp_path / "out", format="seg_nrrd")
    path = out / "scan.seg.nrrd"
    segments = read_segments(path)
    assert [segment.name for segment in segments] == ['left "heart" über', "ring of: fire"]
    assert [segment.colour for segment in segments] == [class_colour(1), class_colour(2)]
    stored = [7, 40] if values == (0, 7, 40) else [1, 2]
    assert [segment.value for segment in segments] == stored
    wanted = np.select([mask == LABELS["core"], mask == LABELS["ring"]], stored)
    np.testing.assert_array_equal(read_mask(path, grid=read_geometry(scan)), wanted)
    assert mask_faults(scan, read_geometry(scan), path)[1] == []
    image, reference = sitk.ReadImage(str(path)), sitk.ReadImage(str(scan))
    np.testing.assert_array_equal(sitk.GetArrayFromImage(image), wanted)
    for fact in ("GetSize", "GetSpacing", "GetOrigin", "GetDirection"):
        assert getattr(image, fact)() == pytest.approx(getattr(reference, fact)(), abs=1e-6)
    assert image.GetMetaData("Segmentation_SourceRepresentation") == "Binary labelmap"
    for number, value in enumerate(stored):
        z, y, x = np.nonzero(wanted == value)
        extent = [x.min(), x.max(), y.min(), y.max(), z.min(), z.max()]
        assert image.GetMetaData(f"Segment{number}_Extent") == " ".join(map(str, extent))
        assert image.GetMetaData(f"Segment{number}_Layer") == "0"
    ids = {image.GetMetaData(f"Segment{number}_ID") for number in range(2)}
    assert len(ids) == 2
    # As the file that was asked for, too.
    assert run(model, scan, tmp_path / "mine.SEG.NRRD").read_bytes() == path.read_bytes()


def test_segmentations_of_a_picture_and_of_a_sheared_scan(model, tmp_path):
    mask = nested_discs(0)[:1]
    sitk.WriteImage(sitk.GetImageFromArray((10 * picture(mask)[0]).astype(np.uint8)), str(tmp_path / "slide.png"))
    flat = make_segmenter(tmp_path / "m", disc_plan(spacing=(1.0, 1.0)))
    out = run(flat, tmp_path / "slide.png", tmp_path / "out", format="seg_nrrd")
    image = sitk.ReadImage(str(out / "slide.seg.nrrd"))
    assert image.GetDimension() == 3
    np.testing.assert_array_equal(sitk.GetArrayFromImage(image), mask)
    # Sheared by more than a voxel: the segmentation has the scan's own axes.
    affine = np.diag([2.0, 2.0, 9.0, 1.0])
    affine[0, 2] = 0.3
    array = picture(nested_discs(0))
    nibabel.save(nibabel.Nifti1Image(array.transpose(2, 1, 0), affine), tmp_path / "tilted.nii")
    path = run(model, tmp_path / "tilted.nii", tmp_path / "tilted.seg.nrrd")
    as_nifti = run(model, tmp_path / "tilted.nii", tmp_path / "tilted_mask.nii")
    image, plain = sitk.ReadImage(str(path)), nibabel.load(as_nifti)
    np.testing.assert_array_equal(sitk.GetArrayFromImage(image), np.asarray(plain.dataobj).transpose(2, 1, 0))
    corner = np.array(image.TransformContinuousIndexToPhysicalPoint([21.0, 25.0, 5.0]))
    np.testing.assert_allclose(corner * [-1, -1, 1], (plain.affine @ [21, 25, 5, 1])[:3], atol=1e-4)
    # And from an NRRD with such axes to NIfTI.
    scan = sitk.GetImageFromArray(array)
    scan.CopyInformation(image)
    sitk.WriteImage(scan, str(tmp_path / "tilted.nrrd"))
    there = nibabel.load(run(model, tmp_path / "tilted.nrrd", tmp_path / "from_nrrd.nii.gz"))
    np.testing.assert_array_equal(np.asarray(there.dataobj), np.asarray(plain.dataobj))
    np.testing.assert_allclose(there.affine, plain.affine, atol=1e-4)
    assert read_geometry(tmp_path / "from_nrrd.nii.gz").shape == read_geometry(as_nifti).shape


def test_a_cine_is_no_segmentation(model, tmp_path):
    cine = np.stack([picture(nested_discs(number)) for number in range(2)])
    nibabel.save(nibabel.Nifti1Image(cine.transpose(3, 2, 1, 0), np.diag([2.0, 2.0, 9.0, 1.0])), tmp_path / "cine.nii")
    with pytest.raises(DataError, match=r"holds one volume\. Leave out format"):
        run(model, tmp_path / "cine.nii", tmp_path / "out", format="seg_nrrd")
    assert not (tmp_path / "out" / "cine.seg.nrrd").exists()


def test_names_and_formats_agree(model, tmp_path):
    scan = write_scan(tmp_path / "a.nii.gz", picture(nested_discs(0)), **GEOMETRY)
    for form, name in {"seg_nrrd": "mask.nii.gz", "nifti": "mask.nrrd", "bids": "mask.nii.gz"}.items():
        with pytest.raises(SettingsError, match="format"):
            run(model, scan, tmp_path / "out" / name, format=form)
    assert not (tmp_path / "out").exists()
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "labels.txt").write_text("drawn by hand")
    with pytest.raises(SettingsError, match=r"labels\.txt is there already"):
        run(model, scan, tmp_path / "mine")


def test_a_derivative_of_bids_is_read_as_the_masks_of_its_scans(model, tmp_path):
    """The spec's required fields are there, and the reader of BIDS takes the masks for labels."""
    root = tmp_path / "study"
    (root / "derivatives").mkdir(parents=True)
    (root / "dataset_description.json").write_text(json.dumps({"Name": "x", "BIDSVersion": "1.8.0"}))
    scans = {
        "sub-01/anat/sub-01_T1w": "sub-01/anat/sub-01_dseg",
        "sub-02/ses-a/anat/sub-02_ses-a_run-1_T1w": "sub-02/ses-a/anat/sub-02_ses-a_run-1_dseg",
    }
    for number, name in enumerate(scans):
        write_scan(root / f"{name}.nii.gz", picture(nested_discs(number)), **GEOMETRY)
    out = run(model, root, root / "derivatives" / "fewlabel", format="bids", probabilities=True)
    for number, mask in enumerate(scans.values()):
        written = nibabel.load(out / f"{mask}.nii.gz")
        np.testing.assert_array_equal(np.asarray(written.dataobj).transpose(2, 1, 0), nested_discs(number))
        assert json.loads((out / f"{mask}.json").read_text())["Manual"] is False
        assert f"{mask}.json" in Artifact.open(out, "predictions").manifest.files
    described = json.loads((out / "dataset_description.json").read_text())
    assert {"Name", "BIDSVersion", "DatasetType", "GeneratedBy"} <= set(described)
    assert described["DatasetType"] == "derivative"
    assert described["GeneratedBy"][0]["Name"] == "fewlabel"
    table = pd.read_csv(out / "dseg.tsv", sep="\t")
    assert table.columns.tolist()[:2] == ["index", "name"]
    assert dict(zip(table["name"], table["index"], strict=True)) == LABELS
    assert table["color"].str.fullmatch("#[0-9a-f]{6}").all()
    # Nothing else at the top but what .bidsignore names.
    ignored = {line.lstrip("/") for line in (out / ".bidsignore").read_text().splitlines()}
    known = {"dataset_description.json", "dseg.tsv", ".bidsignore", "sub-01", "sub-02"}
    assert {path.name for path in out.iterdir()} - known <= ignored
    catalog = choose_reader(root).reader.collect(root)
    labels = {case.images[0].name: case.label.name for case in catalog.cases if case.label}
    assert labels == {
        f"{scan.rpartition('/')[2]}.nii.gz": f"{mask.rpartition('/')[2]}.nii.gz" for scan, mask in scans.items()
    }


def test_names_of_bids_for_scans_of_other_names(model, tmp_path):
    home = tmp_path / "in"
    for name in ("a_1", "sub-3_T1w", "sub-3_T2w"):
        write_scan(home / f"{name}.nii.gz", picture(nested_discs(0)), **GEOMETRY)
    out = run(model, home, tmp_path / "out", format="bids")
    assert sorted(path.relative_to(out).as_posix() for path in out.rglob("*_dseg.nii.gz")) == [
        "sub-3/anat/sub-3_seg-T1w_dseg.nii.gz",
        "sub-3/anat/sub-3_seg-T2w_dseg.nii.gz",
        "sub-a1/anat/sub-a1_dseg.nii.gz",
    ]
    write_scan(home / "a1.nii.gz", picture(nested_discs(0)), **GEOMETRY)
    with pytest.raises(DataError, match=r"a1\.nii\.gz"):
        run(model, home, tmp_path / "other", format="bids")
