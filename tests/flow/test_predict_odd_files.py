"""Prediction on what people have: one scan that fails costs no other, and nothing is written outside of the output."""

from __future__ import annotations

import struct

import nibabel
import numpy as np
import pandas as pd
import pytest
import SimpleITK as sitk

from fewlabel.cli import main
from fewlabel.core.errors import DataError, SettingsError
from fewlabel.stages import predict
from kit.scans import noise, write_scan
from kit.segmenters import disc_plan, make_segmenter


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return make_segmenter(tmp_path_factory.mktemp("model") / "segmenter", disc_plan())


def run(model, scans, out, **over):
    return predict.run(
        predict.PredictSettings.parse({"model": model, "scans": scans, "out": out, "device": "cpu", **over})
    )


def outcome(out):
    return dict(pd.read_csv(out / "predictions.csv")[["output", "status"]].drop_duplicates().to_numpy().tolist())


def spoilt(path, form, at, *values):
    """A NIfTI file with other values in its header."""
    write_scan(path, noise())
    content = bytearray(path.read_bytes())
    struct.pack_into(form, content, at, *values)
    path.write_bytes(bytes(content))
    return path


def test_a_scan_that_fails_in_any_way_is_one_row(model, tmp_path, capsys):
    home = tmp_path / "in"
    for name in ("a", "z"):
        write_scan(home / f"{name}.nii", noise())
    spoilt(home / "magic.nii", "4s", 344, b"nx1\0")
    spoilt(home / "offset.nii", "<f", 108, float("nan"))
    spoilt(home / "dimensions.nii", "<8h", 40, 3, 32767, 32767, 32767, 1, 1, 1, 1)
    (home / "empty.nii.gz").touch()
    (home / "gone.nii").symlink_to(tmp_path / "nowhere")
    (home / "slice1.dcm").write_bytes(b"\0" * 128 + b"DICM")
    with pytest.raises(SystemExit) as left:
        main(["predict", str(model), str(home), "--out", str(tmp_path / "out"), "device=cpu"])
    assert left.value.code == 3
    told = capsys.readouterr().err
    assert "Traceback" not in told
    for text in ("4 of 6 scans", "1 not read, DICOM", "1 not read, links that lead to nothing"):
        assert text in told.replace("\n", " ").replace("    ", "")
    rows = outcome(tmp_path / "out")
    failed = {"magic.nii", "offset.nii", "dimensions.nii", "empty.nii.gz"}
    assert rows == {name: "failed" if name in failed else "ok" for name in ("a.nii", "z.nii", *failed)}
    faults = pd.read_csv(tmp_path / "out/predictions.csv").set_index("output").loc[sorted(failed), "fault"]
    assert all(str(home / name) in fault for name, fault in faults.items())


@pytest.mark.parametrize("error", [OverflowError("too large"), MemoryError(), KeyError("x"), TypeError("no number")])
def test_errors_that_nobody_foresaw_are_rows_too(model, tmp_path, monkeypatch, error):
    for name in ("a", "b"):
        write_scan(tmp_path / f"in/{name}.nii", noise())
    original = predict.segmentation.prepare_volume

    def fail_at_a(volume, plan):
        if volume.paths[0].name == "a.nii":
            raise error
        return original(volume, plan)

    monkeypatch.setattr(predict.segmentation, "prepare_volume", fail_at_a)
    with pytest.raises(DataError, match=rf"a\.nii: cannot be segmented \({type(error).__name__}"):
        run(model, tmp_path / "in", tmp_path / "out")
    assert outcome(tmp_path / "out") == {"a.nii": "failed", "b.nii": "ok"}


def colours(path, shape):
    path.parent.mkdir(parents=True, exist_ok=True)
    array = np.random.default_rng(0).integers(0, 255, (*shape, 3)).astype(np.uint8)
    sitk.WriteImage(sitk.GetImageFromArray(array, isVector=True), str(path))
    return path


@pytest.mark.parametrize("name", ["c.nii.gz", "c.png", "c.nrrd"])
def test_colours_are_no_cine(model, tmp_path, name):
    scan = colours(tmp_path / name, (20, 20) if name.endswith("png") else (4, 20, 20))
    with pytest.raises(DataError, match="has 3 channels, such as colours"):
        run(model, scan, tmp_path / "out")


def test_a_model_of_pictures_reads_colours(tmp_path):
    model = make_segmenter(tmp_path / "m", disc_plan(channels=("red", "green", "blue"), spacing=(1.0, 1.0)))
    out = run(model, colours(tmp_path / "c.png", (20, 24)), tmp_path / "out")
    assert sitk.ReadImage(str(out / "c.png")).GetSize() == (24, 20)


@pytest.mark.parametrize(("units", "frames"), [("unknown", 2), ("sec", 2), ("msec", 2), ("hz", 0), ("ppm", 0)])
def test_a_fourth_axis_is_time_unless_it_says_otherwise(model, tmp_path, units, frames):
    image = nibabel.Nifti1Image(noise((2, 3, 20, 22)).transpose(3, 2, 1, 0).copy(), np.diag([2.0, 2.0, 8.0, 1.0]))
    image.header.set_xyzt_units("mm", units)
    nibabel.save(image, tmp_path / "x.nii")
    if frames:
        table = pd.read_csv(run(model, tmp_path / "x.nii", tmp_path / "out") / "predictions.csv")
        assert table["frame"].tolist() == [1, 2]
    else:
        with pytest.raises(DataError, match="its fourth axis is in"):
            run(model, tmp_path / "x.nii", tmp_path / "out")


def test_a_table_with_rows_above_it_writes_below_the_output(model, tmp_path):
    for name in ("home/sub/a.nii", "outside/a.nii"):
        write_scan(tmp_path / name, noise())
    (tmp_path / "home/t.csv").write_text("image\nsub/a.nii\n../outside/a.nii\n")
    before = sorted(tmp_path.rglob("*.nii"))
    out = run(model, tmp_path / "home/t.csv", tmp_path / "res/m")
    assert [path for path in sorted(tmp_path.rglob("*.nii")) if path not in before] == sorted(out.rglob("*.nii"))
    assert len(outcome(out)) == 2


def test_a_link_in_the_output_is_not_followed(model, tmp_path):
    for name in ("p1/a.nii", "p2/a.nii"):
        write_scan(tmp_path / "in" / name, noise())
    victim = tmp_path / "victim"
    victim.mkdir()
    out = tmp_path / "out"
    out.mkdir()
    (out / "p1").symlink_to(victim, target_is_directory=True)
    with pytest.raises(SettingsError, match=r"outside of --out"):
        run(model, tmp_path / "in", out, overwrite=True)
    assert not list(victim.iterdir())
    # A link in place of a mask is replaced, not written through.
    (out / "p1").unlink()
    (tmp_path / "text").write_text("mine")
    (out / "p1").mkdir()
    (out / "p1/a.nii").symlink_to(tmp_path / "text")
    run(model, tmp_path / "in", out, overwrite=True)
    assert (tmp_path / "text").read_text() == "mine"
    assert not (out / "p1/a.nii").is_symlink()
