"""The loop with a person on a tree of DICOM series: the next scan, its mask by the viewer, back into the data."""

from __future__ import annotations

import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from fastapi.testclient import TestClient

from fewlabel.core.artifact.files import write_json
from fewlabel.data.store import PreparedStore
from fewlabel.service.monai_label.server import application, parts_of
from fewlabel.service.monai_label.settings import ServeSettings
from fewlabel.stages import prepare, relabel
from kit.dicom import uid, write_segmentation, write_slices
from kit.segmenters import make_segmenter

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


def test_a_series_is_asked_for_drawn_and_taken_back(run: Path, tmp_path: Path, said: list[str]) -> None:
    settings = ServeSettings.parse({"run": run, "device": "cpu"})
    (tmp_path / "temporary").mkdir()
    parts = parts_of(settings, TOKEN, tmp_path / "temporary")
    app = application(settings, parts, TOKEN)
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
