"""A drawing without any structure: asked about, saved where somebody says that it is right, and learnt from then."""

from __future__ import annotations

import gzip
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from starlette.testclient import TestClient

from fewlabel.core.errors import DataError
from fewlabel.data.annotation_saving import said_to_be_empty, saved_by
from fewlabel.data.empty_masks import EmptyMaskError
from fewlabel.data.io.volume_reading import read_mask, read_volume
from fewlabel.data.masks_added_later import FOLDER
from fewlabel.data.store import PreparedStore
from fewlabel.service.view.page_routes import view_app
from fewlabel.service.view.page_state import Viewing
from fewlabel.service.view.predictions_on_demand import PredictionQueue
from fewlabel.service.view.received_drawings import save_drawing
from fewlabel.service.view.viewed_scans import ViewedScans, viewed_scans
from fewlabel.service.view.volumes_for_browser import nifti_bytes
from fewlabel.stages import relabel
from kit.scans import blob, noise, write_scan
from kit.viewing import discs_run

SHAPE = (5, 21, 17)


def page(scans: ViewedScans) -> TestClient:
    return TestClient(view_app(Viewing(scans, PredictionQueue()), "scans"))


def sent(scans: ViewedScans, number: int, array: np.ndarray | None = None) -> bytes:
    volume = read_volume(scans.scans[number].images)
    return nifti_bytes(np.zeros(volume.geometry.shape, np.uint8) if array is None else array, volume.geometry)


def scans_in(folder: Path, *stems: str) -> ViewedScans:
    for stem in stems:
        write_scan(folder / "in" / f"{stem}.nii.gz", noise(SHAPE))
    return viewed_scans(folder / "in", folder / "masks", classes=["organ"])


def test_of_scans_alone_an_empty_mask_is_asked_about_and_saved_when_confirmed(tmp_path: Path) -> None:
    scans = scans_in(tmp_path, "a", "b")
    client = page(scans)
    assert client.post("/api/scans/0/annotation", content=sent(scans, 0, blob(SHAPE))).status_code == 201
    refused = client.post("/api/scans/1/annotation", content=sent(scans, 1))
    assert refused.status_code == 422
    assert refused.json()["asks"] == "empty"
    assert "b: is all background, as no other mask is" in refused.json()["detail"]
    assert not (tmp_path / "masks" / "b.nii.gz").exists()
    assert client.post("/api/scans/1/annotation?empty=true", content=sent(scans, 1)).status_code == 201
    assert not read_mask(tmp_path / "masks" / "b.nii.gz").any()
    assert set(saved_by(tmp_path / "masks")) == {"a", "b"}


def test_an_empty_mask_that_somebody_put_there_by_hand_excuses_no_other(tmp_path: Path) -> None:
    """Nobody said that it is right: it may be the slip that asking is for, and then the second one is, too."""
    scans = scans_in(tmp_path, "a", "b", "c")
    write_scan(tmp_path / "masks" / "a.nii.gz", np.zeros(SHAPE, np.uint8))
    (tmp_path / "masks" / "c.nii.gz").write_bytes(b"no mask")
    client = page(scans)
    for number in (0, 1):
        assert client.post(f"/api/scans/{number}/annotation", content=sent(scans, number)).json()["asks"] == "empty"
    assert client.post("/api/scans/1/annotation?empty=true", content=sent(scans, 1)).status_code == 201
    assert {scan for scan, _ in said_to_be_empty(tmp_path / "masks")} == {"b"}


def test_an_empty_mask_beside_a_scan_counts_until_it_is_drawn_anew(tmp_path: Path) -> None:
    for stem, mask in (("a", np.zeros(SHAPE, np.uint8)), ("b", blob(SHAPE)), ("c", blob(SHAPE))):
        write_scan(tmp_path / "in" / f"{stem}.nii.gz", noise(SHAPE))
        write_scan(tmp_path / "in" / f"{stem}_seg.nii.gz", mask)
    scans = viewed_scans(tmp_path / "in", tmp_path / "masks", classes=["organ"])
    numbers = {scan.case.id: number for number, scan in enumerate(scans.scans)}
    client = page(scans)

    def status(stem: str, *, empty: bool) -> int:
        body = sent(scans, numbers[stem], None if empty else blob(SHAPE))
        return client.post(f"/api/scans/{numbers[stem]}/annotation", content=body).status_code

    assert status("b", empty=True) == 201
    assert status("a", empty=False) == 201
    assert status("c", empty=True) == 422


def test_each_of_several_empty_masks_is_asked_about_and_noted(tmp_path: Path) -> None:
    scans = scans_in(tmp_path, "a", "b")
    client = page(scans)
    for number in (0, 1):
        refused = client.post(f"/api/scans/{number}/annotation", content=sent(scans, number))
        assert refused.status_code == 422
        assert refused.json()["asks"] == "empty"
        assert client.post(f"/api/scans/{number}/annotation?empty=true", content=sent(scans, number)).status_code == 201
    assert {scan for scan, _ in said_to_be_empty(tmp_path / "masks")} == {"a", "b"}


def test_masks_beside_the_scans_count(tmp_path: Path) -> None:
    for stem, mask in (("a", np.zeros(SHAPE, np.uint8)), ("b", blob(SHAPE)), ("c", blob(SHAPE))):
        write_scan(tmp_path / "in" / f"{stem}.nii.gz", noise(SHAPE))
        write_scan(tmp_path / "in" / f"{stem}_seg.nii.gz", mask)
    scans = viewed_scans(tmp_path / "in", tmp_path / "masks", classes=["organ"])
    nothing = np.zeros(SHAPE, np.uint8)
    by_id = {scan.case.id: scan for scan in scans.scans}
    with pytest.raises(EmptyMaskError):
        save_drawing(scans, by_id["a"], nothing)
    assert save_drawing(scans, by_id["b"], nothing).file.is_file()


def test_what_is_no_empty_mask_is_not_asked_about(tmp_path: Path) -> None:
    scans = scans_in(tmp_path, "a")
    refused = page(scans).post("/api/scans/0/annotation?slices=99", content=sent(scans, 0))
    assert refused.status_code == 422
    assert "asks" not in refused.json()


def test_a_confirmed_one_of_a_run_is_learnt_from_until_it_is_another_file(tmp_path: Path) -> None:
    run = discs_run(tmp_path)
    scans = viewed_scans(run)
    number = next(at for at, scan in enumerate(scans.scans) if scan.case.id == "c")
    client = page(scans)
    assert client.post(f"/api/scans/{number}/annotation", content=sent(scans, number)).json()["asks"] == "empty"
    assert client.post(f"/api/scans/{number}/annotation?empty=true", content=sent(scans, number)).status_code == 201

    def taken(out: str) -> PreparedStore:
        values = {"data": run / "prepared", "masks": run / FOLDER, "out": tmp_path / out}
        return PreparedStore(relabel.run(relabel.RelabelSettings.parse(values)))

    assert next(case for case in taken("first").cases if case.id == "c").label is not None
    # Written anew by somebody else, who was not asked.
    (run / FOLDER / "c.nii.gz").write_bytes(gzip.compress(sent(scans, number)))
    with pytest.raises(DataError, match="is all background, as no other mask is"):
        taken("second")


def test_in_a_run_an_empty_mask_that_was_redrawn_excuses_no_other(tmp_path: Path) -> None:
    """``learn`` takes the new mask in its place, and would refuse the second empty one."""
    run = discs_run(tmp_path, empty=("a",))
    scans = viewed_scans(run)
    numbers = {scan.case.id: number for number, scan in enumerate(scans.scans)}
    client = page(scans)

    def save(stem: str, array: np.ndarray | None = None) -> Any:
        number = numbers[stem]
        return client.post(f"/api/scans/{number}/annotation", content=sent(scans, number, array))

    assert save("c").status_code == 201
    shape = read_volume(scans.scans[numbers["a"]].images).geometry.shape
    assert save("a", blob(shape)).status_code == 201
    assert save("c").json()["asks"] == "empty"
    masks = {"data": run / "prepared", "masks": run / FOLDER, "out": tmp_path / "next"}
    with pytest.raises(DataError, match=r"c\.nii\.gz: is all background, as no other mask is"):
        relabel.run(relabel.RelabelSettings.parse(masks))


def test_an_empty_mask_that_was_learnt_from_makes_others_usual(tmp_path: Path) -> None:
    """As in ``learn``, which takes no mask a second time."""
    run = discs_run(tmp_path)
    scans = viewed_scans(run)
    by_id = {scan.case.id: scan for scan in scans.scans}
    nothing = np.zeros(read_volume(by_id["c"].images).geometry.shape, np.uint8)
    save_drawing(scans, by_id["c"], nothing, empty_masks=True)
    masks = {"data": run / "prepared", "masks": run / FOLDER, "out": tmp_path / "next"}
    store = PreparedStore(relabel.run(relabel.RelabelSettings.parse(masks)))
    assert save_drawing(replace(scans, store=store), by_id["a"], nothing).file.is_file()
    with pytest.raises(EmptyMaskError):
        save_drawing(scans, by_id["a"], nothing)
