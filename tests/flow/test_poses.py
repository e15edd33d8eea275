"""How scans lie in the plane, from the raw data to the report, and held against real hearts."""

from __future__ import annotations

import errno
import json
from pathlib import Path

import numpy as np
import pytest

from fewlabel.data import poses_before_preparation
from fewlabel.data.phantom.scans import write_phantom
from fewlabel.data.pose_record import POSES, Poses, read_poses, write_poses
from fewlabel.data.store import PreparedCase, PreparedStore
from fewlabel.protocol.acdc_splits import develop
from fewlabel.reporting.sections.data import data_section
from fewlabel.stages import merge
from fewlabel.stages import prepare as prepare_stage
from fewlabel.stages.prepare import PrepareSettings, run
from kit.poses import around
from kit.stores import make_store
from kit.tiny import checked


def prepare(data: Path, out: Path, **values: object) -> PreparedStore:
    return PreparedStore(run(PrepareSettings.parse({"data": data, "out": out, "workers": 1, **values})))


def in_the_plane(data: Path) -> str:
    (found,) = [text for topic, text in checked(data, workers=1).rows if topic == "in the plane"]
    return found


def test_prepare_leaves_what_it_found_and_an_older_store_gets_it(tmp_path: Path) -> None:
    data = write_phantom(tmp_path / "data", patients=7, test=2)
    store = prepare(data, tmp_path / "p", size=[48, 48], spacing=[3.0, 3.0])
    found = read_poses(store.folder)
    assert found is not None
    assert [pose.subject for pose in found.scans] == [f"patient{at:02d}" for at in range(1, 6)]
    assert (found.phases, found.side, found.spacing) == (5, (48, 48), (3.0, 3.0))
    before = (store.folder / POSES).read_bytes()
    (store.folder / POSES).unlink()
    again = prepare(data, tmp_path / "p", size=[48, 48], spacing=[3.0, 3.0])
    assert (store.folder / POSES).read_bytes() == before
    assert again.manifest == store.manifest
    terms = dict(data_section(store, []).blocks[0].items)
    assert terms["In the plane"] == found.sentence()


def test_an_older_store_that_cannot_be_written_to_stays_as_good_as_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = {"size": [48, 48], "spacing": [3.0, 3.0]}
    data = write_phantom(tmp_path / "data", patients=7, test=2)
    store = prepare(data, tmp_path / "p", **words)
    found = read_poses(store.folder)
    assert found is not None
    (store.folder / POSES).unlink()
    said: list[str] = []

    def refuse(path: Path, content: object) -> None:
        raise PermissionError(errno.EACCES, "Permission denied", str(path))

    # Whoever runs tests as root may write anywhere.
    monkeypatch.setattr(prepare_stage, "write_json", refuse)
    monkeypatch.setattr(prepare_stage, "say", said.append)
    assert prepare(data, tmp_path / "p", **words).manifest == store.manifest
    assert not (store.folder / POSES).exists()
    assert said[1:] == [
        f"In the plane, {found.sentence()}.",
        f"pose.json cannot be written to {store.folder} (Permission denied): fine-tuning will not know how "
        "the scans lie.",
    ]


def test_check_reads_a_sample_and_none_of_the_test_part(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = write_phantom(tmp_path / "data", patients=8, test=2)
    read: list[str] = []
    original = poses_before_preparation.read_volume
    monkeypatch.setattr(
        poses_before_preparation, "read_volume", lambda paths: (read.append(paths[0].name), original(paths))[1]
    )
    assert "5 scans" not in in_the_plane(data)
    assert {name.split("_")[0] for name in read} == {f"patient{at:02d}" for at in range(1, 7)}
    read.clear()
    monkeypatch.setattr(poses_before_preparation, "MOST_SUBJECTS", 5)
    assert "5 scans" in in_the_plane(data)
    assert len(read) == 10


def test_check_says_what_prepare_finds(tmp_path: Path) -> None:
    data = write_phantom(tmp_path / "data", patients=6, test=1)
    found = read_poses(prepare(data, tmp_path / "p").folder)
    assert found is not None
    assert in_the_plane(data) == found.sentence()


def test_check_passes_over_a_scan_that_it_cannot_read(tmp_path: Path) -> None:
    data = write_phantom(tmp_path / "data", patients=7, test=1)
    (data / "images" / "patient03_ED.nii.gz").write_bytes(b"no scan")
    report = checked(data, workers=1)
    assert report.faults
    assert any(topic == "in the plane" for topic, _ in report.rows)


def test_merged_scans_are_compared_anew(tmp_path: Path) -> None:
    folders = [make_store(tmp_path / name, subjects=4, size=(32, 32), seed=at) for at, name in enumerate("ab")]
    settings = merge.MergeSettings.parse({"data": folders[0], "others": [str(folders[1])], "out": tmp_path / "both"})
    found = read_poses(merge.run(settings))
    assert found is not None
    assert len(found.scans) == 6


def direction(store: PreparedStore, case: PreparedCase) -> tuple[np.ndarray, float]:
    """Centre (row, column) of the left ventricle with its wall, and degrees from there to the right one's."""
    masks = np.asarray(store.labels[case.start : case.stop])
    middle = masks[len(masks) // 4 : len(masks) - len(masks) // 4]
    shown = [mask for mask in middle if (mask == 1).sum() > 20 and (mask > 1).sum() > 20]
    left, right = (np.mean([np.argwhere(which(mask)).mean(axis=0) for mask in shown], axis=0) for which in
                   (lambda mask: mask > 1, lambda mask: mask == 1))  # fmt: skip
    return left, float(np.degrees(np.arctan2(*(right - left))))


@pytest.mark.slow
@pytest.mark.parametrize("both", [True, False])
def test_poses_of_real_hearts(tmp_path: Path, shared_data: Path, both: bool) -> None:
    # The patients on whom neither split of the literature tests.
    parts = develop()["parts"]
    split = tmp_path / "split.json"
    split.write_text(json.dumps({"parts": {"train": parts["train"], "validation": parts["test"], "test": []}}))
    store = prepare(shared_data / "acdc", tmp_path / "p", split=str(split), size=[128, 128], spacing=[1.5, 1.5])
    if not both:
        # One phase of each, as data sets without a second one have it.
        store.cases = tuple(case for at, case in enumerate(store.cases) if at % 2 == 0)
    found: Poses = write_poses(store, tmp_path)
    assert found.phases == (len(found.scans) if both else 0)
    by_id = {case.id: case for case in store.cases}
    truth = {pose.subject: direction(store, by_id[pose.cases[0]]) for pose in found.scans}
    turned = found.turned
    errors = around([pose.turn - truth[pose.subject][1] for pose in turned])
    spread = np.quantile(np.abs(around([pose.turn for pose in turned])), 0.95)
    actual = np.quantile(np.abs(around([angle for _, angle in truth.values()])), 0.95)
    places = np.array([np.array(pose.shift) - truth[pose.subject][0] for pose in found.placed])
    off = np.sqrt(((places - places.mean(axis=0)) ** 2).mean(axis=0))
    print(json.dumps({
        "scans": len(found.scans), "turned": len(turned), "rms_degrees": round(float(np.sqrt((errors**2).mean())), 1),
        "reach_found": round(float(spread), 1), "reach": round(float(actual), 1), "rms_pixels": off.round(1).tolist(),
    }))  # fmt: skip
    assert len(turned) > 0.6 * len(found.scans)
    assert np.sqrt((errors**2).mean()) < (13 if both else 25)
    assert abs(spread - actual) < 15
    assert off.max() < 5
