"""Data sets as people have them, from raw files to predictions and scores: labels, slices, planes, units."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest
import SimpleITK as sitk

from fewlabel.core import progress
from fewlabel.core.artifact.files import read_json, write_json
from fewlabel.core.errors import DataError, SettingsError
from fewlabel.data.io.volume_reading import read_mask
from fewlabel.data.store import UNLABELLED, PreparedStore
from fewlabel.engine import ensemble
from fewlabel.stages import evaluate, predict
from fewlabel.stages.prepare import PrepareSettings, run
from kit.pictures import write_picture
from kit.scans import write_scan
from kit.segmenters import as_slabs, make_segmenter
from kit.tiny import checked

SHAPE = (7, 32, 40)


def structure(number=0, value=1):
    """A structure that runs through all slices but the last, elsewhere for each number."""
    mask = np.zeros(SHAPE, dtype=np.uint8)
    mask[:-1, 8 + number : 20 + number, 10:24] = value
    return mask


def picture(mask):
    """Bright where the mask holds something."""
    return (20 + 100 * (mask > 0) + np.random.default_rng(int(mask.sum())).uniform(0, 5, mask.shape)).astype(np.float32)


def table(root, masks, *, spacings=None, suffix=".nii.gz", names=None, images=None):
    """A table of scans, one subject each."""
    rows = ["image,label,subject"]
    for number, mask in enumerate(masks):
        spacing = (1.0, 1.0, 6.0) if spacings is None else spacings[number]
        image = picture(mask) if images is None else images[number]
        write_scan(root / f"i{number}{suffix}", image, spacing)
        write_scan(root / f"m{number}{suffix}", mask, spacing)
        rows.append(f"i{number}{suffix},m{number}{suffix},s{number}")
    (root / "scans.csv").write_text("\n".join(rows) + "\n")
    if names:
        (root / "labels.json").write_text(json.dumps(names))
    return root / "scans.csv"


def prepared(data, out, **values):
    return PreparedStore(run(PrepareSettings.parse({"data": data, "out": out, "workers": 1, **values})))


def splitting(path, count):
    """The last two subjects test, all others train."""
    subjects = [f"s{number}" for number in range(count)]
    write_json(path, {"parts": {"train": subjects[:-2], "validation": [], "test": subjects[-2:]}})
    return str(path)


@pytest.fixture
def bright(monkeypatch):
    """A network that finds what is bright."""

    def found(network, array, **_):
        inside = (array[0] > 0.5).astype(np.float32)
        return np.stack([1 - inside, inside])

    monkeypatch.setattr(ensemble, "predict_slabs", as_slabs(found))


@pytest.fixture
def said():
    class Heard:
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

    before = progress._listener[0]
    heard = Heard()
    progress.listen(heard)
    yield heard.lines
    progress.listen(before)


def segment(model, scans, out):
    values = {"model": model, "scans": scans, "out": out, "device": "cpu"}
    return predict.run(predict.PredictSettings.parse(values))


def score(store, model, out, **over):
    values = {"data": store.folder, "segmenter": model, "out": out, "device": "cpu", "resamples": 50}
    return evaluate.run(evaluate.EvaluateSettings.parse({**values, **over}))


def test_255_for_1_is_asked_mapped_and_written_back(tmp_path, bright):
    data = table(tmp_path / "raw", [structure(n, 255) for n in range(5)], names={"1": "tumor"})
    report = checked(data)
    assert '"labels={255: 1}"' in str(report.faults[0])
    with pytest.raises(DataError, match="which is not declared, and none holds 1"):
        prepared(data, tmp_path / "p")
    mapped = checked(data, labels={255: 1})
    assert mapped.faults == ()
    assert any("predictions write 255" in text for _, text in mapped.rows)
    store = prepared(data, tmp_path / "p", labels="{255: 1}")
    assert store.plan["label_values"] == [0, 255]
    assert store.label_names == {0: "background", 1: "tumor"}
    assert set(np.unique(store.labels)) == {0, 1}
    model = make_segmenter(tmp_path / "model", store.plan)
    out = segment(model, tmp_path / "raw/i0.nii.gz", tmp_path / "masks")
    np.testing.assert_array_equal(read_mask(out / "i0.nii.gz"), structure(0, 255))


@pytest.mark.parametrize("written", ["{255: 1, 77: ignore}", "255:1,77:ignore", {"255": 1, "77": "ignore"}])
def test_the_map_as_people_write_it(tmp_path, written):
    settings = PrepareSettings.parse({"data": tmp_path, "out": tmp_path, "labels": written})
    assert settings.labels == {255: 1, 77: "ignore"}
    assert PrepareSettings.parse({**settings.record()}).labels == settings.labels


@pytest.mark.parametrize("written", ["255", "{255: one}", {"a": 1}])
def test_a_map_that_is_none(tmp_path, written):
    with pytest.raises(SettingsError, match="labels"):
        PrepareSettings.parse({"data": tmp_path, "out": tmp_path, "labels": written})


def test_two_values_of_one_class_and_one_left_out(tmp_path, bright):
    masks = [structure(n) for n in range(5)]
    masks[4][masks[4] == 1] = 255
    masks[3][0, 0, :3] = 77
    data = table(tmp_path / "raw", masks)
    rows = dict(checked(data, labels={255: 1, 77: "ignore"}).rows)
    assert rows["class 1"].startswith("label 1 or 255: ")
    assert rows["class 1"].endswith(" voxels in 5 of 5 masks")
    assert rows["ignored"] == "label 77"
    store = prepared(
        data,
        tmp_path / "p",
        labels={255: 1, 77: "ignore"},
        split=splitting(tmp_path / "s.json", 5),
    )
    assert (store.plan["label_values"], store.plan["label_aliases"]) == ([0, 1], {"255": 1})
    model = make_segmenter(tmp_path / "model", store.plan, labelled_subjects=["s0"])
    scores = pd.read_parquet(score(store, model, tmp_path / "scores") / "per_case.parquet")
    assert scores["dice"].tolist() == [1, 1]


def test_a_declared_class_that_no_mask_holds_is_not_scored(tmp_path, bright):
    names = {"1": "organ", "2": "tumour"}
    data = table(tmp_path / "raw", [structure(n) for n in range(5)], names=names)
    store = prepared(data, tmp_path / "p", split=splitting(tmp_path / "s.json", 5))
    assert store.label_names == {0: "background", 1: "organ"}
    notes = read_json(store.folder / "qc.json")["notes"]
    assert "no mask holds label 2 (tumour), which is declared: it is neither learnt nor scored" in notes
    model = make_segmenter(tmp_path / "model", store.plan, labelled_subjects=["s0"])
    summary = read_json(score(store, model, tmp_path / "scores") / "summary.json")
    assert summary["classes"] == {"1": "organ"}
    assert summary["arms"]["model"]["mean"]["dice"]["mean"] == 1


def test_slices_nobody_annotated_are_neither_learnt_nor_scored(tmp_path, bright):
    whole = [structure(n) for n in range(5)]
    masks = [mask.copy() for mask in whole]
    for mask in masks:
        mask[::2] = 0
    data = table(tmp_path / "raw", masks, images=[picture(mask) for mask in whole])
    split = splitting(tmp_path / "s.json", 5)
    store = prepared(data, tmp_path / "p", split=split)
    case = store.cases[0]
    assert case.record["unannotated"] == [0, 2, 4, 6]
    gone = (np.asarray(store.labels) == UNLABELLED).all(axis=(1, 2))
    assert np.flatnonzero(gone[case.start : case.stop]).tolist() == [0, 2, 4, 6]
    assert store.slices["labelled"].tolist() == (~gone).tolist()
    model = make_segmenter(tmp_path / "model", store.plan, labelled_subjects=["s0"])
    for grid in ("original", "prepared"):
        scores = pd.read_parquet(score(store, model, tmp_path / grid, grid=grid) / "per_case.parquet")
        assert scores["dice"].tolist() == [1, 1]
    learnt = prepared(data, tmp_path / "q", split=split, empty_slices="background")
    assert "unannotated" not in learnt.cases[0].record
    assert learnt.slices["labelled"].all()
    scores = pd.read_parquet(score(learnt, model, tmp_path / "background") / "per_case.parquet")
    # The network is right about the slices that nobody annotated, and the mask is not.
    assert scores["dice"].tolist() == pytest.approx([2 * 3 / (6 + 3)] * 2)


def test_pictures_without_a_mask_are_neither_learnt_nor_scored(tmp_path, bright):
    whole = [structure(n) for n in range(5)]
    for number, mask in enumerate(whole):
        for z, (image, truth) in enumerate(zip(picture(mask), mask, strict=True)):
            write_picture(tmp_path / f"raw/s{number}/{z}.png", image.astype(np.uint8))
            if z % 3:
                write_picture(tmp_path / f"raw/s{number}/{z}_mask.png", truth)
    split = splitting(tmp_path / "s.json", 5)
    report = checked(tmp_path / "raw", split=split)
    assert report.faults == ()
    assert any("no mask file for 15 slices of 5 masks (s0, s1, s2, …)" in line for line in report.lines)
    store = prepared(tmp_path / "raw", tmp_path / "p", split=split)
    assert [case.record["unannotated"] for case in store.cases] == [[0, 3, 6]] * 5
    assert store.slices["labelled"].sum() == 5 * 4
    model = make_segmenter(tmp_path / "model", store.plan, labelled_subjects=["s0"])
    scores = pd.read_parquet(score(store, model, tmp_path / "scores") / "per_case.parquet")
    assert scores["dice"].tolist() == [1, 1]
    learnt = prepared(tmp_path / "raw", tmp_path / "q", split=split, empty_slices="background")
    assert learnt.slices["labelled"].all()
    # Slices are the pictures: across them, nothing could be left out.
    (fault, *_) = checked(tmp_path / "raw", split=split, slice_axis="x").faults
    assert "case s0" in fault.where
    assert "slices are cut across them" in fault.problem


def test_a_thin_scan_is_cut_as_the_others_at_prepare_and_predict(tmp_path, said, bright):
    """Slices thinner than pixels: the thickest axis of such a scan lies in the plane."""
    spacings = [(0.9, 0.9, z) for z in (5.0, 4.0, 0.7, 5.0, 3.0)]
    data = table(tmp_path / "raw", [structure(n) for n in range(5)], spacings=spacings)
    assert any("in 1 of 5 the voxels are not largest across it: i2" in text for _, text in checked(data).rows)
    store = prepared(data, tmp_path / "p")
    assert [case.stop - case.start for case in store.cases] == [SHAPE[0]] * 5
    assert any("not largest across it: i2" in line for line in said)
    model = make_segmenter(tmp_path / "model", store.plan)
    said.clear()
    out = segment(model, tmp_path / "raw/i2.nii.gz", tmp_path / "masks")
    np.testing.assert_array_equal(read_mask(out / "i2.nii.gz"), structure(2))
    assert [line for line in said if line.startswith("i2.nii.gz: cut across file axis z like the training scans")]
    # A model of before goes on as it did.
    old = {**store.plan, "orient": {**store.plan["orient"], "slice_axis": "auto"}}
    made_before = make_segmenter(tmp_path / "old", old)
    said.clear()
    segment(made_before, tmp_path / "raw/i2.nii.gz", tmp_path / "masks-of-old")
    assert not [line for line in said if "cut across" in line]


def test_where_nobody_knows_the_voxel_size_all_is_in_voxels(tmp_path, bright, said):
    masks = [structure(n)[:1] for n in range(5)]
    images = [picture(mask).astype(np.uint8) for mask in masks]
    data = table(tmp_path / "raw", [m[0] for m in masks], suffix=".png", images=[image[0] for image in images])
    split = splitting(tmp_path / "s.json", 5)
    told = [text for topic, text in checked(data).rows if "how large voxels are" in text]
    assert len(told) == 1
    store = prepared(data, tmp_path / "p", split=split)
    assert store.cases[0].record["spacing_known"] is False
    model = make_segmenter(tmp_path / "model", store.plan, labelled_subjects=["s0"])
    out = segment(model, tmp_path / "raw/i0.png", tmp_path / "masks")
    row = pd.read_csv(out / "predictions.csv").iloc[0]
    assert row["voxels_label 1"] == (masks[0] > 0).sum()
    assert not [name for name in row.index if "ml" in name]
    said.clear()
    scores = score(store, model, tmp_path / "scores")
    columns = pd.read_parquet(scores / "per_case.parquet")
    assert not [name for name in columns if name.endswith(("_mm", "_ml"))]
    assert columns["reference_voxels"].tolist() == [12 * 14] * 2
    assert columns["hd95_voxels"].tolist() == [0, 0]
    text = (scores / "summary.json").read_text()
    assert "_mm" not in text
    assert " mm" not in text
    assert read_json(scores / "summary.json")["units"] == "voxels"
    assert not [line for line in said if " mm" in line or " ml" in line]
    # Said, they are known.
    sized = prepared(data, tmp_path / "q", split=split, voxel_size=[1, 0.5, 0.5])
    assert "spacing_known" not in sized.cases[0].record
    assert sized.plan["spacing"] == [0.5, 0.5]
    model = make_segmenter(tmp_path / "sized", sized.plan, labelled_subjects=["s0"])
    row = pd.read_csv(segment(model, tmp_path / "raw/i0.png", tmp_path / "sized-masks") / "predictions.csv").iloc[0]
    assert row["ml_label 1"] == pytest.approx((masks[0] > 0).sum() * 0.25 / 1000)


def test_distances_in_voxels_are_those_of_the_file(tmp_path, monkeypatch):
    """On a grid of half the pixels, a shift by one pixel of it is one of two pixels of the file."""
    masks = [structure(n)[0] for n in range(5)]
    data = table(tmp_path / "raw", masks, suffix=".png", images=[picture(mask).astype(np.uint8) for mask in masks])
    split = splitting(tmp_path / "s.json", 5)
    store = prepared(data, tmp_path / "p", split=split, spacing=[2, 2], size=[16, 32])
    known = np.asarray(store.labels)
    images = np.asarray(store.images, np.float32)

    def shifted(network, array, **_):
        at = next(row for row in range(len(images)) if np.array_equal(images[row], array[:, 0]))
        mask = np.roll(known[at : at + 1], 1, axis=2)
        return np.stack([mask == 0, mask == 1]).astype(np.float32)

    monkeypatch.setattr(ensemble, "predict_slabs", as_slabs(shifted))
    model = make_segmenter(tmp_path / "model", store.plan, labelled_subjects=["s0"])
    table_of = pd.read_parquet(score(store, model, tmp_path / "scores", grid="prepared") / "per_case.parquet")
    assert table_of["hd95_voxels"].tolist() == [2, 2]
    assert table_of["reference_voxels"].tolist() == pytest.approx([4 * (known[at] == 1).sum() for at in (3, 4)])


def test_one_scan_in_four_orientations_gives_the_same_slices(tmp_path):
    image, mask = picture(structure()), structure()
    rows = ["image,label,subject"]
    for number, order in enumerate(((0, 1, 2), (2, 0, 1), (1, 2, 0), (0, 2, 1))):
        for kind, array in (("i", image), ("m", mask)):
            scan = sitk.GetImageFromArray(array)
            scan.SetSpacing((1.0, 1.0, 6.0))
            sitk.WriteImage(sitk.PermuteAxes(scan, order), str(tmp_path / f"{kind}{number}.nii.gz"))
        rows.append(f"i{number}.nii.gz,m{number}.nii.gz,s{number}")
    (tmp_path / "scans.csv").write_text("\n".join(rows))
    store = prepared(tmp_path / "scans.csv", tmp_path / "p")
    first = store.cases[0]
    for case in store.cases:
        np.testing.assert_array_equal(store.images[case.start : case.stop], store.images[first.start : first.stop])
        np.testing.assert_array_equal(store.labels[case.start : case.stop], store.labels[first.start : first.stop])


def test_settings_that_came_later_leave_stores_of_before_up_to_date(tmp_path, said):
    data = table(tmp_path / "raw", [structure(n) for n in range(5)])
    prepared(data, tmp_path / "p")
    said.clear()
    sources = read_json(tmp_path / "p/sources.json")
    prepared(data, tmp_path / "p", labels=None, empty_slices="auto", window=None, modality="auto", voxel_size=None)
    assert said == [f"{tmp_path / 'p'} is up to date: 5 scans unchanged"]
    prepared(data, tmp_path / "p", window=[0, 100])
    assert read_json(tmp_path / "p/sources.json")["key"] != sources["key"]
    assert PreparedStore(tmp_path / "p").plan["normalise"]["windows"] == [[0, 100]]


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        ("window", [1], "pairs of numbers"),
        ("window", [5, 5], "the lower first"),
        ("voxel_size", [1, 2], "three positive numbers"),
        ("voxel_size", [0, 1, 1], "three positive numbers"),
    ],
)
def test_settings_that_cannot_be(tmp_path, key, value, words):
    with pytest.raises(SettingsError, match=words):
        PrepareSettings.parse({"data": tmp_path, "out": tmp_path, key: value})
