"""What ``pose.json`` holds, and what is said of it."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from fewlabel.core.errors import ArtifactError
from fewlabel.data.pose import Pose
from fewlabel.data.pose_record import Poses, read_poses, turn_between, write_poses
from fewlabel.data.store import PreparedStore
from kit.stores import make_store


def pose(
    name: str, turn: float | None = 0.0, shift: tuple[float, float] | None = (0.0, 0.0), size: float = 1.0
) -> Pose:
    return Pose(name, (f"{name}_ED", f"{name}_ES"), shift, size if shift else None, turn)


def poses(*scans: Pose, phases: int = 0) -> Poses:
    return Poses(scans, phases, (100, 80), (2.0, 1.5))


def test_a_record_comes_back(tmp_path: Path) -> None:
    found = poses(pose("a", 12.5, (1.5, -2.0), 1.1), pose("b", None), pose("c", None, None), phases=3)
    assert Poses.load(json.loads(json.dumps(found.record()))) == found
    assert found.record()["unknown"] == 2


def test_differences_are_those_of_19_of_20_pairs() -> None:
    scans = [pose(str(at), 10.0 * at, (3.0 * at, 0.0), 1.1**at) for at in range(5)]
    found = poses(*scans).between()
    # Pairs differ by 4, 3, 2 and 1 steps, once to four times.
    assert found.rotation == pytest.approx(35.5)
    assert found.shift == pytest.approx(3.55 * 3 * 2.0)
    assert found.size == pytest.approx(1.1**3.5, rel=0.01)


def test_turns_go_the_short_way_round() -> None:
    assert turn_between(170, -170) == -20
    assert turn_between(-170, 170) == 20
    assert poses(*(pose(str(at), turn) for at, turn in enumerate((170, -170, 175, -175)))).between().rotation < 20


def test_too_few_turns_do_not_speak_for_the_others() -> None:
    scans = [pose(str(at), 5.0 * at if at < 4 else None, (float(at), 0.0)) for at in range(8)]
    four_of_eight = poses(*scans)
    assert four_of_eight.turned == ()
    assert len(four_of_eight.placed) == 8
    five = poses(*scans[:4], replace(scans[4], turn=1.0), *scans[5:])
    # A scan whose turn is not clear may be somewhere else altogether.
    assert len(five.turned) == len(five.placed) == 5
    assert poses(*scans[:3]).placed == ()


def test_sentences_say_what_is_known() -> None:
    scans = [pose(str(at), 10.0 * at, (3.0 * at, 0.0), 1.1**at) for at in (0, 0, 0, 4, 4)]
    assert poses(*scans, phases=5).sentence() == (
        "scans differ by up to 40 degrees in orientation, 24 mm in position and a factor of 1.46 in size (19 of 20 "
        "pairs of 5 scans, estimated from the phases of 5)"
    )
    unclear = [*scans, pose("x", None)]
    assert (
        poses(*unclear)
        .sentence()
        .endswith("(19 of 20 pairs of 6 scans, estimated from single phases); the orientation of 1 is unclear")
    )
    still = poses(*(replace(scan, turn=None) for scan in scans)).sentence()
    assert still.startswith("scans differ by up to 24 mm in position and")
    assert still.endswith("; their orientation is unclear")
    nothing = poses(*(pose(str(at), None, None) for at in range(5))).sentence()
    assert nothing == "the 5 scans are too unlike to say how they differ in position, size and orientation"
    assert poses(*scans[:3]).sentence().startswith("fewer than 4 scans")


def test_a_store_gets_its_file_beside_its_content(tmp_path: Path) -> None:
    store = PreparedStore(make_store(tmp_path / "p", subjects=8))
    assert read_poses(store.folder) is None
    found = write_poses(store, store.folder)
    assert read_poses(store.folder) == found
    assert found.phases == 6
    # No part of what the manifest counts: nothing made of the store is out of date.
    assert PreparedStore(store.folder).manifest == store.manifest
    again = write_poses(PreparedStore(store.folder), tmp_path)
    assert again == found


@pytest.mark.parametrize("content", ["{", "[]", "{}", '{"scans": [{}]}', '{"scans": [], "side": 3, "spacing": [1, 1]}'])
def test_a_damaged_file_is_named(tmp_path: Path, content: str) -> None:
    (tmp_path / "pose.json").write_text(content)
    with pytest.raises(ArtifactError, match=r"pose\.json"):
        read_poses(tmp_path)
