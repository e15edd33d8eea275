"""Files as people have them, the whole way: checked, prepared, predicted."""

from pathlib import Path

import nibabel
import numpy as np
import pytest
import SimpleITK as sitk
from PIL import Image

from fewlabel.core.errors import DataError
from fewlabel.data.io.volume_reading import read_mask
from fewlabel.data.preprocess import Plan
from fewlabel.data.store import PreparedStore
from fewlabel.engine import ensemble
from fewlabel.stages import predict
from fewlabel.stages.evaluate import reference_of
from fewlabel.stages.prepare import PrepareSettings, run
from kit.scans import blob, noise, write_scan
from kit.segmenters import LABELS, as_slabs, bright_is_core, disc_plan, make_segmenter, nested_discs
from kit.tiny import checked

SIZES = (1.5, 1.5, 6.0)


def table(folder, rows):
    lines = [",".join(str(path.relative_to(folder)) if path else "" for path in row) for row in rows]
    lines = [f"{line},s{number}" for number, line in enumerate(lines)]
    (folder / "scans.csv").write_text("\n".join(["image,label,subject", *lines]) + "\n")
    return folder / "scans.csv"


def prepare(data, out, **values):
    asked = {"data": data, "out": out, "size": [16, 16], "split": "random", "workers": 1}
    return PreparedStore(run(PrepareSettings.parse({**asked, **values})))


def sheared(path, array, degrees):
    affine = np.diag([*SIZES, 1.0])
    affine[1, 2] = SIZES[2] * np.sin(np.deg2rad(degrees))
    affine[2, 2] = SIZES[2] * np.cos(np.deg2rad(degrees))
    image = nibabel.Nifti1Image(array.transpose(2, 1, 0), affine)
    image.set_sform(affine, 1)
    image.header["qform_code"] = 0
    nibabel.save(image, path)
    return path


def test_sheared_scans_are_prepared_and_large_shears_refused(tmp_path):
    shape = (5, 20, 18)
    rows = [
        (
            sheared(tmp_path / f"s{n}.nii.gz", noise(shape, n) + 50 * blob(shape), 1.0),
            sheared(tmp_path / f"m{n}.nii.gz", blob(shape), 1.0),
        )
        for n in range(4)
    ]
    data = table(tmp_path, rows)
    report = checked(data, workers=1)
    assert report.faults == ()
    assert sum("1 degrees off a right angle" in text for text in report.odd) == 8
    store = prepare(data, tmp_path / "p")
    for case in store.cases:
        assert int((store.labels[case.start : case.stop] == 1).sum()) > 0
    sheared(rows[1][0], noise(shape), 9.0)
    sheared(rows[2][1], blob(shape), -9.0)
    assert {fault.problem[:24] for fault in checked(data, workers=1).faults} == {"its axes are sheared: y "}
    with pytest.raises(DataError, match=r"9\.0 degrees"):
        prepare(data, tmp_path / "q")


def test_a_sheared_scan_gets_its_mask_on_its_own_grid(tmp_path, monkeypatch):
    monkeypatch.setattr(ensemble, "predict_slabs", as_slabs(bright_is_core))
    model = make_segmenter(tmp_path / "segmenter", disc_plan())
    truth = nested_discs(1)
    scan = sheared(
        tmp_path / "s.nii.gz", (10.0 * (truth == LABELS["ring"]) + 20.0 * (truth == LABELS["core"])).astype("f4"), 1.2
    )
    asked = {"model": model, "scans": scan, "out": tmp_path / "out", "device": "cpu", "probabilities": True}
    out = predict.run(predict.PredictSettings.parse(asked))
    written = nibabel.load(out / "s.nii.gz")
    np.testing.assert_allclose(written.affine, nibabel.load(scan).affine)
    found = np.asarray(written.dataobj).transpose(2, 1, 0)
    for value in LABELS.values():
        both = (found == value).sum() + (truth == value).sum()
        if both:
            assert 2 * ((found == value) & (truth == value)).sum() / both > 0.8
    np.testing.assert_allclose(np.asarray(nibabel.load(out / "s_probabilities.nii.gz").dataobj).sum(-1), 1, atol=1e-4)


def test_masks_with_another_origin(tmp_path):
    shape = (5, 20, 18)
    rows = [
        (
            write_scan(tmp_path / f"s{n}.nii.gz", noise(shape, n), SIZES),
            write_scan(tmp_path / f"m{n}.nii.gz", blob(shape), SIZES, (12, 10, -7)),
        )
        for n in range(4)
    ]
    data = table(tmp_path, rows)
    with pytest.raises(DataError, match="accept_origin=true"):
        prepare(data, tmp_path / "p")
    assert len(checked(data, workers=1).faults) == 4
    assert checked(data, workers=1, accept_origin=True).faults == ()
    store = prepare(data, tmp_path / "p", accept_origin=True)
    assert int((store.labels[:] == 1).sum()) > 0


def test_pictures_in_colour_with_masks_in_colours(tmp_path):
    rng = np.random.default_rng(0)
    rows, classes = [], []
    palette = np.array([[0, 0, 0], [255, 255, 255]], np.uint8)
    for number in range(4):
        mask = blob((3, 20, 18))[1]
        classes.append(mask)
        Image.fromarray(rng.integers(0, 255, (20, 18, 3)).astype(np.uint8)).save(tmp_path / f"s{number}.jpg")
        Image.fromarray(palette[mask]).save(tmp_path / f"m{number}.png")
        rows.append((tmp_path / f"s{number}.jpg", tmp_path / f"m{number}.png"))
    data = table(tmp_path, rows)
    report = checked(data, workers=1)
    assert report.catalog.channels == ("red", "green", "blue")
    [fault] = report.faults
    assert fault.where == str(data.parent)
    assert "colours.000000=0 colours.ffffff=1" in fault.remedy
    store = prepare(data, tmp_path / "p", colours={"000000": 0, "ffffff": 1})
    assert store.images.shape[1] == 3
    np.testing.assert_array_equal(read_mask(Path(store.cases[0].label))[0], classes[0])


def test_cropped_segmentations_are_prepared_and_scored_on_their_scan(tmp_path):
    shape = (6, 20, 18)
    rows = []
    for number in range(4):
        scan = write_scan(tmp_path / f"s{number}.nrrd", noise(shape, number), SIZES)
        box = np.zeros((4, 9, 8), np.uint8)
        box[1:3, 2:8, 1:7] = 2
        image = sitk.GetImageFromArray(box)
        image.SetSpacing(SIZES)
        image.SetOrigin((4 * SIZES[0], 5 * SIZES[1], 1 * SIZES[2]))
        for key, text in {"Name": "organ", "LabelValue": "2", "Layer": "0"}.items():
            image.SetMetaData(f"Segment0_{key}", text)
        sitk.WriteImage(image, str(tmp_path / f"m{number}.seg.nrrd"))
        rows.append((scan, tmp_path / f"m{number}.seg.nrrd"))
    store = prepare(table(tmp_path, rows), tmp_path / "p", spacing=[1.5, 1.5], size=[20, 18])
    expected = np.zeros(shape, np.uint8)
    expected[2:4, 7:13, 5:11] = 1
    for case in store.cases:
        np.testing.assert_array_equal(store.labels[case.start : case.stop], expected)
        reference, _ = reference_of(store, case, Plan.load(store.plan), "original")
        np.testing.assert_array_equal(reference, expected)
    assert store.plan["label_names"]["1"] == "organ"
