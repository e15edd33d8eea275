"""The loop with a person on a tree of DICOM series: the next scan, its mask by the viewer, back into the data."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd
import pytest
from fastapi.testclient import TestClient

from fewlabel.core.artifact.files import read_json, write_json
from fewlabel.data.store import PreparedStore
from fewlabel.pipelines import learn
from fewlabel.service.monai_label.server import application, served_run
from fewlabel.service.monai_label.settings import ServeSettings
from fewlabel.service.view.page_routes import view_app
from fewlabel.service.view.page_state import Viewing
from fewlabel.service.view.predictions_on_demand import PredictionQueue
from fewlabel.service.view.viewed_scans import viewed_scans
from fewlabel.stages import finetune, prepare, relabel, suggest
from kit.dicom import uid, write_segmentation, write_slices
from kit.segmenters import make_segmenter
from kit.tiny import finetune_settings

SHAPE, TOKEN, NAME = (3, 16, 16), "a-token-of-the-test", "Zyxjane"


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A run on four patients, of whom two are annotated, with a network that has learnt nothing."""
    _, y, x = np.mgrid[: SHAPE[0], : SHAPE[1], : SHAPE[2]]
    for number in range(4):
        inside = (y - 8) ** 2 + (x - 8 + number) ** 2 < 16
        array = (200 + 500 * inside + np.random.default_rng(number).normal(0, 20, SHAPE)).clip(0).astype(np.uint16)
        tags = {
            "PatientID": f"{NAME}{number}", "PatientName": f"{NAME}^{number}", "Modality": "MR",
            "StudyInstanceUID": uid("study", number), "SeriesInstanceUID": uid("series", number),
            "FrameOfReferenceUID": uid("frame", number),
        }  # fmt: skip
        files = write_slices(tmp_path / "data" / f"{NAME}{number}" / "mr", array, **tags)
        if number < 2:
            write_segmentation(tmp_path / "data" / f"{NAME}{number}" / "seg.dcm", files, {"organ": inside})
    run = tmp_path / "run"
    values = {"data": tmp_path / "data", "out": run / "prepared", "reader": "dicom", "workers": 1}
    prepare.run(prepare.PrepareSettings.parse({**values, "test_fraction": 0, "validation_fraction": 0}))
    store = PreparedStore(run / "prepared")
    labelled = sorted({case.subject for case in store.cases if case.label is not None})
    make_segmenter(run / "segmenter", store.plan, [run / "prepared"], labelled_subjects=labelled)
    write_json(run / "run.json", {"kind": "run", "stages": {"finetune": {}}, "use": None})
    return run


def test_a_drawing_on_a_series_is_learnt_from(run: Path, said: list[str]) -> None:
    shutil.rmtree(run / "segmenter")
    finetune.run(finetune_settings(run / "prepared", run / "segmenter", recalibrate="auto", steps=2))
    suggest.run(suggest.SuggestSettings.parse({"run": run, "count": 1, "device": "cpu"}))
    chosen = pd.read_csv(run / "suggestions.csv", dtype=str)["case"][0]
    viewing = Viewing(viewed_scans(run), PredictionQueue())
    number = [scan.case.id for scan in viewing.scans.scans].index(chosen)
    browser = TestClient(view_app(viewing, "run"))
    scan = nib.Nifti1Image.from_bytes(browser.get(f"/api/scans/{number}/image").content)
    drawing = np.zeros(scan.shape, np.uint8)
    drawing[4:9, 3:12, 1] = 1
    sent = nib.Nifti1Image(drawing, scan.affine).to_bytes()
    assert browser.post(f"/api/scans/{number}/annotation?slices=1", content=sent).status_code == 201
    folder = learn.run(learn.learn_settings({"run": run, "steps": 2, "device": "cpu", "scans": 1, "take": "always"}))
    record = read_json(folder / "round.json")
    assert record["masks"].keys() == {chosen}
    assert len(record["labelled_subjects"]) == 3
    [mask] = (folder / "predictions").glob("*.nii.gz")
    assert nib.load(mask).shape == SHAPE[::-1]
    # The page shows the mask of the new network.
    [other] = [at for at, each in enumerate(viewing.scans.scans) if mask.name == f"{each.case.id}.nii.gz"]
    shown = nib.Nifti1Image.from_bytes(browser.get(f"/api/scans/{other}/prediction").content)
    assert np.array_equal(np.asarray(shown.dataobj), np.asarray(nib.load(mask).dataobj))
    assert not any(NAME in line for line in said)


def test_a_series_is_asked_for_drawn_and_taken_back(run: Path, tmp_path: Path, said: list[str]) -> None:
    settings = ServeSettings.parse({"run": run, "device": "cpu"})
    (tmp_path / "temporary").mkdir()
    served = served_run(settings, TOKEN, tmp_path / "temporary")
    app = application(settings, served, TOKEN)
    with TestClient(app, base_url=f"http://127.0.0.1:8000/{TOKEN}") as client:
        store = PreparedStore(run / "prepared")
        without = {case.id for case in store.cases if case.label is None}
        sample = client.post("/activelearning/coverage").json()
        assert sample["id"] in without
        # A series is no file that a viewer could open: it gets a NIfTI made of it.
        assert "path" not in sample
        image = client.get("/datastore/image", params={"image": sample["id"]})
        (tmp_path / "image.nii.gz").write_bytes(image.content)
        scan = nib.load(tmp_path / "image.nii.gz")
        assert scan.shape == SHAPE[::-1]
        # OHIF knows series by their UID alone.
        by_uid = {
            uid("series", number): client.get("/datastore/image/info", params={"image": uid("series", number)}).json()
            for number in range(4)
        }
        assert {info["name"] for info in by_uid.values()} == {f"{case.id}.nii.gz" for case in store.cases}
        [series] = [key for key, info in by_uid.items() if info["name"] == f"{sample['id']}.nii.gz"]
        asked = {"image": series, "output": "image"}
        answer = client.post("/infer/segmentation", params=asked, data={"params": "{}"})
        (tmp_path / "mask.nii.gz").write_bytes(answer.content)
        np.testing.assert_allclose(nib.load(tmp_path / "mask.nii.gz").affine, scan.affine, atol=1e-4)
        voxels = np.zeros(SHAPE, np.uint16)
        voxels[1, 4:9, 3:12] = 1
        sent = {"label": ("label.bin", voxels.tobytes())}
        params = {"params": json.dumps({"label_info": [{"name": "organ", "idx": 1}]})}
        saved = client.put("/datastore/label", params={"image": series}, files=sent, data=params)
        assert saved.json()["label"] == sample["id"]
        with_masks = client.get("/datastore/", params={"output": "train"}).json()
        assert len(with_masks) == 3
        assert NAME not in json.dumps([with_masks, client.get("/datastore/", params={"output": "all"}).json()])
    assert not any(NAME in line or series in line for line in said)
    values = {"data": run / "prepared", "masks": run / "annotations", "out": tmp_path / "relabelled"}
    taken = PreparedStore(relabel.run(relabel.RelabelSettings.parse(values)))
    case = next(case for case in taken.cases if case.id == sample["id"])
    # The grid of the store has a scale of its own; whatever that is, the rectangle is what is annotated.
    labels = np.asarray(taken.labels[case.start : case.stop])
    assert (labels == 1).any(axis=(1, 2)).tolist() == [False, True, False]
