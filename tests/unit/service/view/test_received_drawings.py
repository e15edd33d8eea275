"""Masks from the page: on the scan's own grid, never over the source, and what was there before is kept."""

from __future__ import annotations

import json
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest

from fewlabel.core.errors import DataError
from fewlabel.data import annotation_saving
from fewlabel.data.added_mask_reading import NOT_LOOKED_AT
from fewlabel.data.annotation_saving import HISTORY, JOURNAL, saved_by
from fewlabel.data.io.volume_reading import read_mask, read_volume
from fewlabel.service.view.received_drawings import drawing_of, save_drawing, slices_alone
from fewlabel.service.view.viewed_scans import ViewedScans, viewed_scans
from fewlabel.service.view.volumes_for_browser import nifti_bytes
from kit.dicom import write_slices
from kit.pictures import write_picture
from kit.scans import PERMUTED, TILTED, noise, write_scan
from kit.segmenters import LABELS
from kit.viewing import discs_run

SHAPE = (4, 9, 7)


def drawing(shape: tuple[int, ...] = SHAPE) -> np.ndarray:
    """Class indices, different along every axis."""
    made = np.zeros(shape, np.uint8)
    made[0, 2:4, 1] = 1
    made[-1, 1, 2:5] = 2
    return made


def scans_of(folder: Path, suffix: str = ".nii.gz", direction: np.ndarray | None = TILTED) -> ViewedScans:
    where = {"spacing": (1.5, 2, 8), "origin": (5, -7, 11), "direction": direction}
    write_scan(folder / "scans" / f"p01{suffix}", noise(SHAPE), **where)
    return viewed_scans(folder / "scans", folder / "masks", ("core", "ring"))


@pytest.mark.parametrize("direction", [None, PERMUTED, TILTED])
@pytest.mark.parametrize("suffix", [".nii.gz", ".nii", ".nrrd", ".mha"])
def test_a_mask_lies_on_the_grid_of_its_scan(tmp_path: Path, suffix: str, direction: np.ndarray | None) -> None:
    scans = scans_of(tmp_path, suffix, direction)
    source = scans.scans[0].images[0]
    before = source.read_bytes()
    volume = read_volume(source)
    received = drawing_of(nifti_bytes(drawing(), volume.geometry), volume.geometry, scans.plan)
    saved = save_drawing(scans, scans.scans[0], received)
    assert saved.file == tmp_path / "masks" / f"p01{suffix}"
    mask = read_volume(saved.file)
    assert np.array_equal(mask.array[0], drawing())
    np.testing.assert_allclose(mask.geometry.corners(), volume.geometry.corners(), atol=1e-4)
    if suffix.startswith(".nii"):
        assert np.array_equal(nibabel.load(saved.file).affine, nibabel.load(source).affine)
    assert source.read_bytes() == before
    assert scans.added_masks() == {"p01": saved.file}


def test_masks_of_series_and_pictures(tmp_path: Path) -> None:
    write_slices(tmp_path / "dicom", noise(SHAPE).clip(0, 255).astype(np.uint16), PatientName="Zyx^Abc")
    write_picture(tmp_path / "pictures" / "leaf.png", noise(SHAPE)[0].clip(0, 255).astype(np.uint8))
    for place, suffix in (("dicom", ".nii.gz"), ("pictures", ".png")):
        scans = viewed_scans(tmp_path / place, tmp_path / f"{place}-masks", ("core", "ring"))
        (scan,) = scans.scans
        volume = read_volume(scan.images)
        saved = save_drawing(scans, scan, drawing(volume.geometry.shape))
        assert saved.file.name == f"{scan.case.id}{suffix}"
        assert np.array_equal(read_mask(saved.file), drawing(volume.geometry.shape))
        assert scans.added_masks() == {scan.case.id: saved.file}
        assert "Zyx" not in str(saved)


def test_what_was_there_is_kept_with_who_and_when(tmp_path: Path) -> None:
    scans = scans_of(tmp_path)
    scan, first, second = scans.scans[0], drawing(), drawing()
    second[1] = 1
    save_drawing(scans, scan, first)
    saved = save_drawing(scans, scan, second)
    assert np.array_equal(read_mask(saved.file), second)
    history = tmp_path / "masks" / HISTORY
    (kept,) = history.glob("*.nii.gz")
    assert np.array_equal(read_mask(kept), first)
    lines = [json.loads(line) for line in (history / JOURNAL).read_text().splitlines()]
    assert [line["before"] for line in lines] == ["", kept.name]
    assert saved_by(tmp_path / "masks") == {"p01": {"who": saved.who, "when": saved.when}}
    with (history / JOURNAL).open("a") as stream:
        stream.write('{"case": "p')
    assert saved_by(tmp_path / "masks").keys() == {"p01"}
    # Nothing is left half written, and the history is no annotation.
    assert sorted(path.name for path in (tmp_path / "masks").iterdir()) == [HISTORY, "p01.nii.gz"]


def test_of_two_that_are_saved_at_once_the_first_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scans = scans_of(tmp_path)
    masks = [drawing(), drawing(), drawing()]
    masks[1][1], masks[2][1] = 1, 2
    save_drawing(scans, scans.scans[0], masks[0])
    both, keep = threading.Barrier(2), annotation_saving._keep

    def keep_and_wait_for_the_other(*words: Any) -> str:
        kept = keep(*words)
        with suppress(threading.BrokenBarrierError):
            both.wait(0.5)
        return kept

    monkeypatch.setattr(annotation_saving, "_keep", keep_and_wait_for_the_other)
    with ThreadPoolExecutor(2) as threads:
        list(threads.map(lambda mask: save_drawing(scans, scans.scans[0], mask), masks[1:]))
    folder = tmp_path / "masks"
    there = {read_mask(path).tobytes() for path in (folder / "p01.nii.gz", *(folder / HISTORY).glob("*.nii.gz"))}
    assert there == {mask.astype(read_mask(folder / "p01.nii.gz").dtype).tobytes() for mask in masks}


def test_a_mask_of_another_name_is_replaced_and_kept(tmp_path: Path) -> None:
    scans = scans_of(tmp_path)
    other = write_scan(tmp_path / "masks" / "p01_seg.nrrd", drawing())
    saved = save_drawing(scans, scans.scans[0], drawing())
    assert scans.added_masks() == {"p01": saved.file}
    assert not other.exists()
    assert [path.name[23:] for path in (tmp_path / "masks" / HISTORY).glob("*.nrrd")] == ["p01_seg.nrrd"]


@pytest.mark.parametrize(
    ("name", "saved_as"),
    [
        ("5% dose", "5%25 dose"),
        ("tab\there", "tab%09here"),
        ("two\nlines", "two%0alines"),
        ("back\\slash", "back%5cslash"),
        ("x" * 200, None),
        ("ü" * 100, None),
        ("5%25 dose", "5%2525 dose"),
    ],
)
def test_whatever_a_scan_is_called_its_mask_is_saved_and_found(tmp_path: Path, name: str, saved_as: str | None) -> None:
    write_scan(tmp_path / "scans" / f"{name}.nii.gz", noise(SHAPE))
    scans = scans_of(tmp_path)
    scan = next(each for each in scans.scans if each.case.id == name)
    for _ in range(2):
        saved = save_drawing(scans, scan, drawing())
    assert saved_as is None or saved.file.name == f"{saved_as}.nii.gz"
    assert scans.added_masks() == {name: saved.file}


def test_scans_of_one_name_in_several_folders_keep_their_masks_apart(tmp_path: Path) -> None:
    for folder in ("a", "b", "5% dose", "a%2f"):
        write_scan(tmp_path / "scans" / folder / "scan.nii.gz", noise(SHAPE))
    # By its name, the mask of a/scan could be that of this one.
    write_scan(tmp_path / "scans" / "a%2fscan.nii.gz", noise(SHAPE))
    scans = viewed_scans(tmp_path / "scans", tmp_path / "masks", ("core", "ring"))
    saved = {scan.case.id: save_drawing(scans, scan, drawing()).file for scan in scans.scans}
    assert len(set(saved.values())) == 5
    assert scans.added_masks() == saved
    assert {path.parent for path in saved.values()} == {tmp_path / "masks"}


def test_a_run_saves_values_of_its_data_and_255_where_nobody_looked(tmp_path: Path) -> None:
    scans = viewed_scans(discs_run(tmp_path))
    scan = next(each for each in scans.scans if each.case.id == "c")
    made = drawing(read_volume(scan.images).geometry.shape)
    made[2] = NOT_LOOKED_AT
    saved = save_drawing(scans, scan, made)
    assert saved.file == tmp_path / "run" / "annotations" / "c.nii.gz"
    values = read_mask(saved.file)
    assert set(np.unique(values).tolist()) == {*LABELS.values(), 255}
    assert np.array_equal(values == LABELS["ring"], made == 2)
    assert (values[2] == 255).all()


def test_a_run_takes_no_drawing_without_any_structure_unless_that_is_said_to_be_right(tmp_path: Path) -> None:
    scans = viewed_scans(discs_run(tmp_path))
    scan = next(each for each in scans.scans if each.case.id == "c")
    nothing = np.zeros(read_volume(scan.images).geometry.shape, np.uint8)
    for drawn in (nothing, slices_alone(nothing, [1], 0)):
        with pytest.raises(DataError, match=r"c: is all background, as no other mask is.*learn.empty_masks=true"):
            save_drawing(scans, scan, drawn)
        assert not scans.added_masks()
    assert save_drawing(scans, scan, nothing, empty_masks=True).file.is_file()


def test_slices_that_do_not_count_are_marked() -> None:
    made = slices_alone(drawing(), [1, 3], 0)
    assert np.array_equal(made[[1, 3]], drawing()[[1, 3]])
    assert (made[[0, 2]] == NOT_LOOKED_AT).all()
    across = slices_alone(drawing(), [3], 2)
    assert np.array_equal(across[..., 3], drawing()[..., 3])
    assert (across != NOT_LOOKED_AT).sum() == across[..., 3].size
    with pytest.raises(DataError, match="no slice was changed"):
        slices_alone(drawing(), [], 0)
    with pytest.raises(DataError, match="there is no slice 4; they are 0 to 3"):
        slices_alone(drawing(), [0, 4], 0)


def test_what_is_no_drawing_of_the_scan_is_refused(tmp_path: Path) -> None:
    scans = scans_of(tmp_path)
    geometry = read_volume(scans.scans[0].images).geometry

    def sent(array: np.ndarray, **over: object) -> bytes:
        image = nibabel.Nifti1Image.from_bytes(nifti_bytes(array, geometry))
        affine = image.affine.copy()
        affine[0, 3] += float(over.get("shift", 0))  # type: ignore[arg-type]
        return bytes(nibabel.Nifti1Image(np.asanyarray(image.dataobj), affine).to_bytes())

    for body, problem in (
        (b"", "is no NIfTI file"),
        (b"x" * 1000, "is no NIfTI file"),
        (nifti_bytes(drawing(), geometry)[:400], "is no NIfTI file"),
        (sent(drawing((3, 9, 7))), r"has shape \(7, 9, 3\), but the scan has \(7, 9, 4\)"),
        (sent(drawing(), shift=3.0), "lies elsewhere"),
        (sent(drawing().astype(np.float32)), "not whole ones"),
        (sent(drawing().astype(np.int16) - 1), "holds -1 to 1"),
        (sent(drawing() * 2), r"holds 4; classes are 0 to 2"),
    ):
        with pytest.raises(DataError, match=problem):
            drawing_of(body, geometry, scans.plan)
    assert np.array_equal(drawing_of(sent(drawing()), geometry, scans.plan), drawing())


def test_nothing_is_saved_without_a_folder_or_an_annotation(tmp_path: Path) -> None:
    scans = scans_of(tmp_path)
    with pytest.raises(DataError, match="nothing is annotated"):
        save_drawing(scans, scans.scans[0], np.full(SHAPE, NOT_LOOKED_AT, np.uint8))
    nowhere = viewed_scans(tmp_path / "scans", None, ("core",))
    with pytest.raises(DataError, match="Start view with --masks DIR"):
        save_drawing(nowhere, nowhere.scans[0], drawing())
    assert not (tmp_path / "masks").exists()
