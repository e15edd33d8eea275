"""Prediction end to end: every kind of input, exact geometry, and one bad file among many."""

from __future__ import annotations

import json

import nibabel
import numpy as np
import pandas as pd
import pytest
import SimpleITK as sitk

from fewlabel.core.artifact.artifact_folder import Artifact, finish_artifact
from fewlabel.core.artifact.files import MANIFEST, read_json
from fewlabel.core.errors import ArtifactError, DataError, SettingsError
from fewlabel.core.progress import listen
from fewlabel.engine import ensemble
from fewlabel.stages._model_or_control import find_segmenter
from fewlabel.stages.predict import segmentation
from kit.scans import TILTED, write_scan
from kit.segmenters import LABELS, as_slabs, bright_is_core, disc_plan, make_segmenter, nested_discs
from kit.tiny import run_predict as run

GEOMETRY = {"spacing": (2.0, 2.0, 9.0), "origin": (3, -4, 50), "direction": TILTED}


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return make_segmenter(tmp_path_factory.mktemp("model") / "segmenter", disc_plan())


@pytest.fixture
def bright(monkeypatch):
    """A network that is right about discs."""
    monkeypatch.setattr(ensemble, "predict_slabs", as_slabs(bright_is_core))


def picture(mask):
    """A scan in which core is brighter than ring is brighter than the rest."""
    return (10.0 * (mask == LABELS["ring"]) + 20.0 * (mask == LABELS["core"])).astype(np.float32)


def read(path):
    return sitk.GetArrayFromImage(sitk.ReadImage(str(path)))


def table_of(out):
    return pd.read_csv(out / "predictions.csv")


def acdc_like(path, array, frames=None):
    """As the ACDC files are: sform of 1 mm and mirrored axes, no qform code, the spacing in pixdim only."""
    data = np.ascontiguousarray(array.transpose(*range(array.ndim)[::-1]))
    image = nibabel.Nifti1Image(data, None)
    header = image.header
    header.set_sform(np.diag([-1, -1, 1, 1]), code=2)
    header["qform_code"] = 0
    header["pixdim"][1:4] = (1.37, 1.37, 10.0)
    header["pixdim"][4] = 0.03
    header.set_xyzt_units("mm", "sec")
    header["descrip"] = b"cine"
    header["cal_max"] = 255
    nibabel.save(image, path)
    return path


@pytest.mark.parametrize("suffix", [".nii.gz", ".nii", ".nrrd", ".mha"])
def test_masks_are_right_in_every_format(model, bright, tmp_path, suffix):
    mask = nested_discs(1)
    scan = write_scan(tmp_path / f"in/scan.x{suffix}", picture(mask), **GEOMETRY)
    out = run(model, scan, tmp_path / "out")
    written = sitk.ReadImage(str(out / f"scan.x{suffix}"))
    reference = sitk.ReadImage(str(scan))
    np.testing.assert_array_equal(sitk.GetArrayFromImage(written), mask)
    assert written.GetPixelID() == sitk.sitkUInt8
    for fact in ("GetSize", "GetSpacing", "GetOrigin", "GetDirection"):
        assert getattr(written, fact)() == pytest.approx(getattr(reference, fact)(), abs=1e-6)
    row = table_of(out).iloc[0]
    voxel = 2 * 2 * 9 / 1000
    assert row["status"] == "ok"
    assert row["size"] == "22x26x6"
    assert row["spacing_mm"] == "2x2x9"
    assert row["ml_core"] == pytest.approx((mask == LABELS["core"]).sum() * voxel)
    assert row["ml_ring"] == pytest.approx((mask == LABELS["ring"]).sum() * voxel)
    assert row["confidence"] == 1.0


def test_nifti_header_facts_are_kept(model, bright, tmp_path):
    scan = acdc_like(tmp_path / "scan.nii.gz", picture(nested_discs(0)))
    before = nibabel.load(scan).header
    after = nibabel.load(run(model, scan, tmp_path / "out") / "scan.nii.gz").header
    changed = {
        key for key in before if not np.array_equal(before[key], after[key], equal_nan=before[key].dtype.kind == "f")
    }
    assert changed <= {"datatype", "bitpix", "scl_slope", "scl_inter", "cal_max", "cal_min", "descrip"}
    assert not bytes(after["descrip"]).strip(b"\0")
    assert after.get_data_dtype() == np.uint8
    assert (int(after["qform_code"]), int(after["sform_code"])) == (0, 2)
    np.testing.assert_array_equal(after.get_sform(), np.diag([-1, -1, 1, 1]))


def test_a_cine_gets_a_mask_for_every_frame(model, bright, tmp_path):
    masks = np.stack([nested_discs(number) for number in range(3)])
    scan = acdc_like(tmp_path / "heart_4d.nii.gz", picture(masks))
    out = run(model, scan, tmp_path / "out", probabilities=True)
    written = nibabel.load(out / "heart_4d.nii.gz")
    assert written.shape == (22, 26, 6, 3)
    assert float(written.header["pixdim"][4]) == pytest.approx(0.03)
    alone = []
    for number, mask in enumerate(masks):
        single = acdc_like(tmp_path / f"frame{number}.nii.gz", picture(mask))
        alone.append(np.asarray(nibabel.load(run(model, single, tmp_path / "alone") / single.name).dataobj))
    np.testing.assert_array_equal(np.asarray(written.dataobj), np.stack(alone, axis=-1))
    table = table_of(out)
    assert table["frame"].tolist() == [1, 2, 3]
    assert table["output"].tolist() == ["heart_4d.nii.gz"] * 3
    assert nibabel.load(out / "heart_4d_frame02_probabilities.nii.gz").shape == (22, 26, 6, 3)


def test_a_cine_in_another_format_is_a_clear_fault(model, tmp_path):
    images = [sitk.GetImageFromArray(picture(nested_discs(number))) for number in range(2)]
    sitk.WriteImage(sitk.JoinSeries(images), str(tmp_path / "cine.nrrd"))
    with pytest.raises(DataError, match="only a 4D NIfTI can be a cine"):
        run(model, tmp_path / "cine.nrrd", tmp_path / "out")


def test_a_picture_is_a_scan_of_one_slice(bright, tmp_path):
    model = make_segmenter(tmp_path / "m", disc_plan(spacing=(1.0, 1.0)))
    mask = nested_discs(0)[:1]
    sitk.WriteImage(sitk.GetImageFromArray((10 * picture(mask)[0]).astype(np.uint8)), str(tmp_path / "slide.png"))
    np.testing.assert_array_equal(read(run(model, tmp_path / "slide.png", tmp_path / "out") / "slide.png"), mask[0])


@pytest.mark.parametrize(
    ("scan", "name"), [("a.nii.gz", "heart.nii.gz"), ("a.nrrd", "heart.nii.gz"), ("a.nii", "heart.nrrd")]
)
def test_one_mask_as_a_file(model, bright, tmp_path, said, scan, name):
    """The mask lies under the name that was asked for, what is known of it beside it, and nothing else is written."""
    mask = nested_discs(1)
    scan = write_scan(tmp_path / "in" / scan, picture(mask), **GEOMETRY)
    out = tmp_path / "new" / name
    assert run(model, scan, out) == out
    np.testing.assert_array_equal(read(out), mask)
    written, reference = sitk.ReadImage(str(out)), sitk.ReadImage(str(scan))
    for fact in ("GetSize", "GetSpacing", "GetOrigin", "GetDirection"):
        assert getattr(written, fact)() == pytest.approx(getattr(reference, fact)(), abs=1e-6)
    assert {path.name for path in out.parent.iterdir()} == {
        name,
        "heart_labels.txt",
        "heart_predictions.csv",
        "heart_run_report.json",
    }
    row = pd.read_csv(out.parent / "heart_predictions.csv").iloc[0]
    core = (mask == LABELS["core"]).sum() * 2 * 2 * 9 / 1000
    assert (row["output"], row["ml_core"]) == (name, pytest.approx(core))
    assert any(line.startswith(f"{name}: core {core:g} mL, ring ") for line in said)
    # Nothing is replaced unless asked, neither the mask nor its table.
    for path in sorted(out.parent.iterdir()):
        path.write_text("drawn by hand")
    with pytest.raises(SettingsError) as caught:
        run(model, scan, out)
    assert len(caught.value.faults) == 4
    assert {path.read_text() for path in out.parent.iterdir()} == {"drawn by hand"}
    run(model, scan, out, overwrite=True)
    np.testing.assert_array_equal(read(out), mask)


def test_a_file_takes_one_mask_that_its_format_can_hold(model, tmp_path):
    for name in ("a", "b"):
        write_scan(tmp_path / f"in/{name}.nii.gz", picture(nested_discs(0)), **GEOMETRY)
    with pytest.raises(SettingsError) as caught:
        run(model, tmp_path / "in", tmp_path / "mask.jpg")
    several, lossy = map(str, caught.value.faults)
    assert "there are 2 scans" in several
    assert "mask.png" in lossy
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "run.json").write_text("{}")
    for out, why in {
        tmp_path / "home" / "mask.nii.gz": "is a run",
        model / "mask.nii.gz": "is an artifact",
        tmp_path / "in" / "a.nii.gz": "which a mask would replace",
        tmp_path / "in" / "b.nii.gz" / "mask.nii.gz": "the file",
    }.items():
        with pytest.raises(SettingsError, match=why):
            run(model, tmp_path / "in" / "a.nii.gz", out, overwrite=True)
    # A scan that fails leaves nothing.
    (tmp_path / "bad.nii.gz").write_bytes(b"not an image")
    with pytest.raises(DataError, match="1 of 1 scans"):
        run(model, tmp_path / "bad.nii.gz", tmp_path / "out" / "mask.nii.gz")
    assert not (tmp_path / "out").exists()
    # A folder may have any name.
    (tmp_path / "masks.nii.gz").mkdir()
    run(model, tmp_path / "in" / "a.nii.gz", tmp_path / "masks.nii.gz")
    assert (tmp_path / "masks.nii.gz" / "a.nii.gz").is_file()


def test_raw_values_beyond_a_byte(bright, tmp_path):
    plan = disc_plan(label_values=(0, -7, 1040))
    scan = write_scan(tmp_path / "scan.nii.gz", picture(nested_discs(0)))
    out = run(make_segmenter(tmp_path / "m", {**plan, "spacing": [1.0, 1.0]}), scan, tmp_path / "out")
    written = sitk.ReadImage(str(out / "scan.nii.gz"))
    assert written.GetPixelID() == sitk.sitkInt16
    assert np.unique(sitk.GetArrayFromImage(written)).tolist() == [-7, 0, 1040]


def test_one_bad_file_does_not_stop_the_others(model, bright, tmp_path):
    home = tmp_path / "in"
    for name in ("a", "c", "e"):
        write_scan(home / f"{name}.nii.gz", picture(nested_discs(0)), **GEOMETRY)
    (home / "b.nii.gz").write_bytes(b"not an image")
    write_scan(home / "d.mha", np.full((3, 20, 20), np.nan, np.float32))
    out = tmp_path / "out"
    with pytest.raises(DataError, match="2 of 5 scans could not be segmented") as caught:
        run(model, home, out)
    assert [fault.where for fault in caught.value.faults] == [str(home / "b.nii.gz"), str(home / "d.mha")]
    assert sorted(path.name for path in out.glob("*.nii.gz")) == ["a.nii.gz", "c.nii.gz", "e.nii.gz"]
    table = table_of(out).set_index("input")
    assert table["status"].tolist() == ["ok", "failed", "ok", "failed", "ok"]
    assert "finite" in table.loc[str(home / "d.mha"), "fault"]
    manifest = Artifact.open(out, "predictions").manifest
    tables = {"labels.txt", "predictions.csv", "run_report.json"}
    assert set(manifest.files) == {"a.nii.gz", "c.nii.gz", "e.nii.gz", *tables}
    assert manifest.parents[0].kind == "segmenter"
    report = read_json(out / "run_report.json")
    assert (report["volumes"], len(report["failed"])) == (3, 2)
    assert report["label_values"] == LABELS
    assert set(report["seconds"]["per_volume"]) == {"read", "prepare", "network", "restore", "write"}


def test_masks_are_not_replaced_unless_asked(model, bright, tmp_path):
    home = tmp_path / "in"
    for name in ("a", "b"):
        write_scan(home / f"{name}.nrrd", picture(nested_discs(0)), **GEOMETRY)
    out = tmp_path / "out"
    out.mkdir()
    (out / "b.nrrd").write_text("drawn by hand")
    with pytest.raises(SettingsError, match="overwrite=true") as caught:
        run(model, home, out)
    assert str(out / "b.nrrd") in str(caught.value)
    assert [path.name for path in out.iterdir()] == ["b.nrrd"]
    assert (out / "b.nrrd").read_text() == "drawn by hand"
    run(model, home, out, overwrite=True)
    assert read(out / "b.nrrd").max() == LABELS["ring"]


def test_a_scan_is_never_replaced(model, tmp_path):
    scan = write_scan(tmp_path / "a.nrrd", picture(nested_discs(0)))
    before = scan.read_bytes()
    with pytest.raises(SettingsError, match="is a scan, which a mask would replace"):
        run(model, scan, tmp_path, overwrite=True)
    assert scan.read_bytes() == before


def test_other_artifacts_are_not_written_into(model, tmp_path):
    scan = write_scan(tmp_path / "a.nrrd", picture(nested_discs(0)))
    with pytest.raises(SettingsError, match="another artifact"):
        run(model, scan, model)


def test_a_second_call_adds_to_the_folder(model, bright, tmp_path):
    for name in ("a", "b"):
        write_scan(tmp_path / f"{name}.nii", picture(nested_discs(0)), **GEOMETRY)
    out = run(model, tmp_path / "b.nii", tmp_path / "out")
    run(model, tmp_path / "a.nii", out)
    run(model, tmp_path / "b.nii", out, overwrite=True)
    assert table_of(out)["output"].tolist() == ["a.nii", "b.nii"]
    assert {"a.nii", "b.nii"} <= set(Artifact.open(out, "predictions").manifest.files)


def test_probabilities_lie_on_the_grid_and_sum_to_one(model, tmp_path):
    scan = write_scan(tmp_path / "a.nii.gz", picture(nested_discs(0)), **GEOMETRY)
    out = run(model, scan, tmp_path / "out", probabilities=True, precision="32")
    image = nibabel.load(out / "a_probabilities.nii.gz")
    found = np.asarray(image.dataobj)
    assert found.shape == (22, 26, 6, 3)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found.sum(-1), 1, atol=1e-5)
    np.testing.assert_array_equal(image.affine, nibabel.load(scan).affine)
    values = np.array(list(LABELS.values()))
    np.testing.assert_array_equal(values[found.argmax(-1)], np.asarray(nibabel.load(out / "a.nii.gz").dataobj))
    assert "a_probabilities.nii.gz" in Artifact.open(out, "predictions").manifest.files
    # Averaging over flips changes them.
    other = run(model, scan, tmp_path / "flipped", probabilities=True, precision="32", flip=True)
    flipped = np.asarray(nibabel.load(other / "a_probabilities.nii.gz").dataobj)
    assert np.abs(flipped - found).max() > 1e-3
    np.testing.assert_allclose(flipped.sum(-1), 1, atol=1e-5)


def test_channels_and_colliding_names(bright, tmp_path):
    plan = disc_plan(channels=("t1", "t2"))
    model = make_segmenter(tmp_path / "m", plan)
    for home in ("p1", "p2"):
        for channel in (0, 1):
            # The second channel is noise: only the first decides.
            image = (
                picture(nested_discs(0)) if channel == 0 else np.random.default_rng(0).random((6, 26, 22), np.float32)
            )
            write_scan(tmp_path / f"in/{home}/heart_000{channel}.nii.gz", image, **GEOMETRY)
    out = run(model, tmp_path / "in", tmp_path / "out")
    for home in ("p1", "p2"):
        np.testing.assert_array_equal(read(out / home / "heart.nii.gz"), nested_discs(0))
    # A missing channel is that scan's fault.
    (tmp_path / "in/p2/heart_0001.nii.gz").unlink()
    with pytest.raises(DataError, match="1 of 2 scans") as caught:
        run(model, tmp_path / "in", tmp_path / "again")
    assert "t1, t2" in str(caught.value)


def test_a_run_folder_is_a_model(tmp_path, model, bright):
    home = tmp_path / "run"
    home.mkdir()
    (home / "segmenter").symlink_to(model, target_is_directory=True)
    scan = write_scan(tmp_path / "a.nii.gz", picture(nested_discs(0)))
    assert find_segmenter(home).folder == home / "segmenter"
    run(home, scan, tmp_path / "out")
    for wrong, told in {
        tmp_path: "neither a segmenter nor a run folder",
        tmp_path / "nowhere": "does not exist",
    }.items():
        with pytest.raises(ArtifactError, match=told):
            find_segmenter(wrong)
    other = tmp_path / "other"
    other.mkdir()
    (other / "x").touch()
    finish_artifact(other, "encoder", ["x"])
    with pytest.raises(ArtifactError, match=r"is an artifact of kind .*, not segmenter"):
        find_segmenter(other)


def test_stopping_keeps_the_record_of_what_is_written(model, bright, tmp_path, monkeypatch):
    home = tmp_path / "in"
    for name in ("a", "b", "c"):
        write_scan(home / f"{name}.nii", picture(nested_discs(0)), **GEOMETRY)
    original = segmentation.read_volume

    def stop_at_c(paths):
        if paths[0].name == "c.nii":
            raise KeyboardInterrupt
        return original(paths)

    monkeypatch.setattr(segmentation, "read_volume", stop_at_c)
    with pytest.raises(KeyboardInterrupt):
        run(model, home, tmp_path / "out")
    assert table_of(tmp_path / "out")["output"].tolist() == ["a.nii", "b.nii"]
    assert not list((tmp_path / "out").glob(".*"))


def test_the_real_network_predicts_the_same_alone_and_in_a_folder(model, tmp_path):
    home = tmp_path / "in"
    for number, name in enumerate(("a", "b")):
        noise = np.random.default_rng(number).random((5, 30, 19), np.float32)
        write_scan(home / f"{name}.nii.gz", noise, **GEOMETRY)
    out = run(model, home, tmp_path / "out")
    alone = run(model, home / "b.nii.gz", tmp_path / "alone", batch=2)
    assert read(out / "b.nii.gz").shape == (5, 30, 19)
    np.testing.assert_array_equal(read(out / "b.nii.gz"), read(alone / "b.nii.gz"))


class Heard:
    """Keeps what the user would see."""

    def __init__(self):
        self.lines = []

    def start(self, title, total, done):
        return self

    def advance(self, count=1, note=""):
        pass

    def finish(self, bar):
        pass

    def say(self, text):
        self.lines.append(text)


def test_a_real_patient(shared_data, tmp_path, monkeypatch):
    """ACDC patient 7: masks lie on the images' grid with their spacing; ITK's complaint is said once."""
    heard = Heard()
    monkeypatch.setattr("fewlabel.core.progress._listener", [None])
    listen(heard)
    plan = disc_plan(
        spacing=(3.0, 3.0), size=(64, 64), label_values=(0, 1, 2, 3), label_names=("background", "RV", "myo", "LV")
    )
    home = shared_data / "acdc" / "patient007"
    out = run(make_segmenter(tmp_path / "m", plan), home, tmp_path / "out")
    names = ["patient007_frame01.nii.gz", "patient007_frame07.nii.gz"]
    assert table_of(out)["output"].tolist() == names
    for name in names:
        mask, image = sitk.ReadImage(str(out / name)), sitk.ReadImage(str(home / name))
        for fact in ("GetSize", "GetSpacing", "GetOrigin", "GetDirection"):
            assert getattr(mask, fact)() == getattr(image, fact)()
        one, two = nibabel.load(out / name).header, nibabel.load(home / name).header
        assert one["pixdim"].tolist() == two["pixdim"].tolist()
        assert int(one["qform_code"]) == int(two["qform_code"])
    assert any("left out as masks by name (2)" in line for line in heard.lines)
    assert sum("2 files: " in line for line in heard.lines) <= 1
    assert json.loads((out / MANIFEST).read_text())["kind"] == "predictions"
