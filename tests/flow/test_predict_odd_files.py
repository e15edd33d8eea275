"""Prediction on what people have: one scan that fails costs no other, and nothing is written outside of the output."""

from __future__ import annotations

import errno
import os
import re
import shutil
import struct
from pathlib import Path

import nibabel
import numpy as np
import pandas as pd
import pytest
import SimpleITK as sitk

from fewlabel.cli import main
from fewlabel.core.errors import DataError, SettingsError
from fewlabel.readers.base import collect_catalog
from fewlabel.stages import predict
from kit.scans import noise, write_scan
from kit.segmenters import disc_plan, make_segmenter
from kit.stores import make_store
from kit.tiny import run_predict as run


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return make_segmenter(tmp_path_factory.mktemp("model") / "segmenter", disc_plan())


def outcome(out):
    table = pd.read_csv(out / "predictions.csv")
    assert (table["output"].isna() == (table["status"] == "failed")).all()
    return {Path(name).name: status for name, status in zip(table["input"], table["status"], strict=True)}


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
    faults = pd.read_csv(tmp_path / "out/predictions.csv").set_index("input")["fault"]
    assert all(str(home / name) in faults[str(home / name)] for name in failed)


@pytest.mark.parametrize(
    "error",
    [OverflowError("too large"), MemoryError(), KeyError("x"), AttributeError("none"), struct.error("7 bytes")],
)
def test_errors_that_nobody_foresaw_are_rows_too(model, tmp_path, monkeypatch, error):
    for name in ("a", "b"):
        write_scan(tmp_path / f"in/{name}.nii", noise())
    original = predict.segmentation.ScanPreparation

    def fail_at_a(volume, plan):
        if volume.paths[0].name == "a.nii":
            raise error
        return original(volume, plan)

    monkeypatch.setattr(predict.segmentation, "ScanPreparation", fail_at_a)
    with pytest.raises(DataError, match=rf"a\.nii: cannot be segmented \({type(error).__name__}"):
        run(model, tmp_path / "in", tmp_path / "out")
    assert outcome(tmp_path / "out") == {"a.nii": "failed", "b.nii": "ok"}


def test_a_full_disk_is_no_fault_of_a_scan(model, tmp_path, monkeypatch):
    for name in ("a", "b", "c"):
        write_scan(tmp_path / f"in/{name}.nii", noise())
    original = predict.segmentation.write_masks

    def full_at_b(out, scan, *rest):
        if scan.output.name == "b.nii":
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return original(out, scan, *rest)

    monkeypatch.setattr(predict.segmentation, "write_masks", full_at_b)
    with pytest.raises(OSError, match="No space left"):
        run(model, tmp_path / "in", tmp_path / "out")
    assert outcome(tmp_path / "out") == {"a.nii": "ok"}


def test_what_earlier_runs_made_is_left_out_and_listed(model, tmp_path, said):
    home = tmp_path / "in"
    for name in ("a", "b"):
        write_scan(home / f"{name}.nii", noise())
    run(model, home, home / "earlier")
    shutil.copytree(model, home / "run/segmenter")
    make_store(home / "run/prepared", subjects=3, depth=2, size=(16, 16))
    said.clear()
    out = run(model, home, tmp_path / "out")
    assert outcome(out) == {"a.nii": "ok", "b.nii": "ok"}
    line = next(line for line in said if "made by fewlabel" in line)
    made = [sum(map(int, re.findall(r"(\d+) files", line))), int(re.search(r"fewlabel \((\d+)\)", line)[1])]
    assert made[0] == made[1] > 6
    for part in (f"{home / 'earlier'} (predictions, 6 files)", "run/segmenter (segmenter", "run/prepared (prepared"):
        assert part in line
    assert not any("not read" in line for line in said)
    # By itself it holds nothing to segment; a file of it that is named is taken at its word.
    with pytest.raises(DataError, match="holds no scans \\(left out as made by fewlabel"):
        run(model, home / "earlier", tmp_path / "none")
    run(model, home / "earlier/a.nii", tmp_path / "one")


def test_predicted_masks_are_no_scans_to_learn_from(model, tmp_path):
    for name in ("a", "b", "c"):
        write_scan(tmp_path / f"data/images/{name}.nii", noise())
    run(model, tmp_path / "data/images", tmp_path / "data/out")
    # Masks that lie where labels lie are labels: corrected ones are learnt from.
    run(model, tmp_path / "data/images/a.nii", tmp_path / "data/labels")
    _, catalog = collect_catalog(tmp_path / "data")
    assert [(case.id, case.label is not None) for case in catalog.cases] == [("a", True), ("b", False), ("c", False)]
    assert f"left out, as made by fewlabel: 3 images of {tmp_path / 'data/out'} (predictions)" in catalog.notes


def test_the_row_of_a_mask_stays_where_its_scan_fails_later(model, tmp_path):
    scans = [write_scan(tmp_path / f"in/{name}.nii", noise()) for name in ("a", "b")]
    out = run(model, tmp_path / "in", tmp_path / "out")
    content = scans[1].read_bytes()
    scans[1].write_bytes(b"")
    for _ in range(2):
        with pytest.raises(DataError, match="1 of 2"):
            run(model, tmp_path / "in", out, overwrite=True)
        table = pd.read_csv(out / "predictions.csv")
        assert table["status"].tolist() == ["ok", "ok", "failed"]
    scans[1].write_bytes(content)
    run(model, tmp_path / "in", out, overwrite=True)
    assert pd.read_csv(out / "predictions.csv")["status"].tolist() == ["ok", "ok"]


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
    assert len(pd.read_csv(out / "predictions.csv")) == 2


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
