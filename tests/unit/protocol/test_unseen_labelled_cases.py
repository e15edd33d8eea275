"""Only scans that no segmenter under test has met are scored, and all that stands against it is told at once."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from fewlabel.core.artifact.artifact_folder import Artifact, finish_artifact
from fewlabel.core.errors import DataError, SettingsError
from fewlabel.data.store import PreparedStore
from fewlabel.protocol.unseen_labelled_cases import scorable_cases, subjects_of
from kit.stores import make_store, resealed


@dataclass(frozen=True)
class Arm:
    artifact: Artifact
    facts: dict[str, Any]


@pytest.fixture
def store(tmp_path: Path) -> PreparedStore:
    """Eight subjects, one scan each; patient007 and patient008 to test on, of whom the second has no mask."""
    folder = make_store(tmp_path / "p", subjects=8, depth=2, size=(8, 8), phases=1, unlabelled=("patient008",))
    cases = json.loads((folder / "cases.json").read_text())
    for case in cases:
        case["record"] = {"spacing": [1, 1, 1]}
        if case["label"]:
            label = tmp_path / case["label"]
            label.write_bytes(b"mask")
            case["label"] = str(label)
    (folder / "cases.json").write_text(json.dumps(cases))
    return PreparedStore(resealed(folder))


def arm(store: PreparedStore, name: str = "model", parents: tuple[Path, ...] = (), **facts: Any) -> Arm:
    folder = store.folder.parent / name
    folder.mkdir()
    content = {"plan": store.plan, "image_subjects": [], **facts}
    content = {key: value for key, value in content.items() if value is not None}
    (folder / "segmenter.json").write_text(json.dumps(content))
    finish_artifact(folder, "segmenter", ["segmenter.json"], parents=parents)
    return Arm(Artifact.open(folder), content)


def scored(store: PreparedStore, *arms: Arm, part: str = "test", label_files: bool = True) -> list[str]:
    named = {each.artifact.folder.name: each for each in arms}
    return [case.id for case in scorable_cases(store, part, subjects_of(store, part), named, label_files=label_files)]


def told(store: PreparedStore, *arms: Arm, **more: Any) -> list[str]:
    with pytest.raises(DataError) as caught:
        scored(store, *arms, **more)
    assert caught.value.message == "The evaluation cannot be done:"
    return [str(fault) for fault in caught.value.faults]


def test_subjects_of_a_part(store: PreparedStore) -> None:
    assert subjects_of(store, "test") == ("patient007", "patient008")
    with pytest.raises(SettingsError) as caught:
        subjects_of(store, "tset")
    assert caught.value.message == "These settings are not valid:"
    (fault,) = caught.value.faults
    assert (fault.where, fault.problem) == ("part", 'the split has no part "tset"')
    assert "test" in fault.remedy


def test_labelled_scans_are_scored_and_others_are_told(store: PreparedStore, said: list[str]) -> None:
    assert scored(store, arm(store, labelled_subjects=["patient001"])) == ["patient007_phase0"]
    assert said == ["1 of 2 scans have no label and are not scored."]
    assert scored(store, part="validation") == ["patient006_phase0"]
    assert len(said) == 1


def test_a_part_without_labels_cannot_be_scored(store: PreparedStore) -> None:
    store.split = {"parts": {"test": ["patient008"], "none": []}}
    where = f"{store.folder}: part"
    assert told(store) == [f"{where} test must hold labelled scans, but holds 1 scans, none labelled."]
    assert told(store, part="none") == [f"{where} none must hold labelled scans, but holds no scans."]


@pytest.mark.parametrize(
    ("facts", "how"),
    [
        ({"labelled_subjects": ["patient007", "x"]}, "labels were trained on"),
        ({"validation_subjects": ["patient007"]}, "labels chose the model"),
        ({"image_subjects": ["patient007"]}, "images entered training"),
    ],
)
def test_who_was_learnt_from_is_not_scored(store: PreparedStore, facts: dict[str, Any], how: str) -> None:
    made, clean = arm(store, "control", **facts), arm(store)
    wanted = (
        f"{made.artifact.folder}: the control cannot be scored on patient007, whose {how}. "
        "Score on other subjects, or train again without them."
    )
    assert told(store, clean, made) == [wanted]
    # Those without a label are not scored anyway.
    other = {key: ["patient008"] for key in facts}
    assert scored(store, arm(store, "other", **other)) == ["patient007_phase0"]


def test_several_subjects_are_named_in_order(store: PreparedStore) -> None:
    store.split = {"parts": {"test": ["patient007", "patient003", "patient005"]}}
    (fault,) = told(store, arm(store, labelled_subjects=["patient007", "patient005", "patient003"]))
    assert "cannot be scored on patient003, patient005, patient007, whose" in fault


def test_images_count_for_the_test_part_alone(store: PreparedStore) -> None:
    met = arm(store, image_subjects=["patient006", "patient007"])
    assert scored(store, met, part="validation") == ["patient006_phase0"]
    assert len(told(store, met)) == 1


def test_a_segmenter_that_does_not_say_whom_it_met_is_judged_by_its_encoder(store: PreparedStore) -> None:
    encoder = store.folder.parent / "encoder"
    encoder.mkdir()
    (encoder / "encoder.json").write_text('{"image_subjects": ["patient007"]}')
    finish_artifact(encoder, "encoder", ["encoder.json"])
    assert "images entered training" in told(store, arm(store, "a", (encoder,), image_subjects=None))[0]
    assert scored(store, arm(store, "b", (encoder,), image_subjects=[])) == ["patient007_phase0"]
    assert scored(store, arm(store, "c", image_subjects=None)) == ["patient007_phase0"]


def test_subjects_of_merged_stores_are_known_by_the_name_of_the_set(store: PreparedStore) -> None:
    store.plan["dataset"] = "hearts"
    (fault,) = told(store, arm(store, "a", labelled_subjects=["hearts:patient007"]))
    assert "cannot be scored on patient007, whose labels were trained on" in fault
    assert scored(store, arm(store, "b", labelled_subjects=["livers:patient007"])) == ["patient007_phase0"]
    del store.plan["dataset"]
    assert scored(store, arm(store, "c", labelled_subjects=["hearts:patient007"])) == ["patient007_phase0"]


def test_other_pixels_are_told_for_each_arm(store: PreparedStore) -> None:
    made = arm(store, plan={**store.plan, "spacing": [9, 9]})
    (fault,) = told(store, made)
    assert fault == (
        f"{made.artifact.folder}: the model was trained on scans that were prepared differently: "
        "spacing [9, 9] then, [1.5, 1.5] now. Prepare these scans with the segmenter's spacing."
    )


def test_a_label_that_is_gone_and_a_record_that_is_none(store: PreparedStore) -> None:
    (case,) = [case for case in store.cases if case.subject == "patient007"]
    Path(case.label or "").unlink()
    where = f"case {case.id}: its label file {case.label} is gone."
    (fault,) = told(store)
    assert fault.startswith(f"{where} Restore them or, if they have moved, say where: fewlabel prepare NEW_DATA --out ")
    assert fault.endswith("they were prepared with. To do without, score with grid=prepared.")
    assert scored(store, label_files=False) == [case.id]
    case.record.clear()
    wanted = f"case {case.id}: has no record of its geometry. Prepare the scans again."
    assert told(store) == told(store, label_files=False) == [wanted]


def test_everything_is_told_at_once(store: PreparedStore) -> None:
    (case,) = [case for case in store.cases if case.subject == "patient007"]
    Path(case.label or "").unlink()
    found = told(
        store,
        arm(store, "a", plan={**store.plan, "size": [4, 4]}, labelled_subjects=["patient007"]),
        arm(store, "b", validation_subjects=["patient007"]),
    )
    assert len(found) == 4
