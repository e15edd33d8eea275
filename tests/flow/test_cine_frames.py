"""Frames of ACDC's cines: unlabelled slices of pre-training and of regimes, those of scored patients nowhere."""

from __future__ import annotations

import json
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import nibabel
import numpy as np
import pytest

from fewlabel.data.sampling import MetaSampler
from fewlabel.data.store import PreparedStore
from fewlabel.stages import finetune, prepare
from fewlabel.stages.pretrain import PretrainingTrainer
from kit.scans import write_scan
from kit.stores import heart_slice
from kit.tiny import finetune_settings, pretrain_settings

FRAMES, SHAPE = 8, (3, 32, 32)
TRAINED, SCORED, VALIDATING = ("patient001", "patient002", "patient003"), ("patient004",), ("patient005",)


def beating(root: Path, number: int) -> None:
    """A patient whose heart is contracted in frame 4 and relaxed in frame 1, with all frames in one file."""
    home = root / f"patient{number:03d}"
    home.mkdir(parents=True)
    generator = np.random.default_rng(number)
    shape = {"x": 0.1, "y": 0, "radius": 0.4 + number / 60, "round": 1, "angle": number / 5, "gain": 1, "bias": 0}
    frames, masks = [], []
    for frame in range(FRAMES):
        slices = [heart_slice(generator, shape, z / 2, int(2 <= frame <= 4), SHAPE[1:]) for z in range(SHAPE[0])]
        frames.append(np.stack([200 * image for image, _ in slices]))
        masks.append(np.stack([mask for _, mask in slices]))
    for frame in (1, 4):
        name = f"{home.name}_frame{frame:02d}"
        write_scan(home / f"{name}.nii.gz", frames[frame - 1].astype(np.int16), (1.5, 1.5, 10.0))
        write_scan(home / f"{name}_gt.nii.gz", masks[frame - 1], (1.5, 1.5, 10.0))
    image = nibabel.Nifti1Image(np.stack(frames).transpose(3, 2, 1, 0).astype(np.int16), np.diag([1.5, 1.5, 10, 1]))
    nibabel.save(image, home / f"{home.name}_4d.nii.gz")
    (home / "Info.cfg").write_text("ED: 1\nES: 4\nGroup: NOR\n")


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("cine")
    for number in range(1, 6):
        beating(root / "acdc", number)
    (root / "split.json").write_text(
        json.dumps(
            {"parts": {"train": list(TRAINED), "pretrain": list(TRAINED), "test": SCORED, "validation": VALIDATING}}
        )
    )
    settings = {"reader": {"name": "acdc", "cine": True}, "split": str(root / "split.json"), "size": (32, 32)}
    parsed = prepare.PrepareSettings.parse({"data": root / "acdc", "out": root / "prepared", "workers": 1, **settings})
    return prepare.run(parsed)


def cases_of(store: Path, slices: Sequence[int]) -> set[str]:
    return set(PreparedStore(store).slices["case"].iloc[slices])


def frames_of(patients: tuple[str, ...], frames: range | tuple[int, ...] = range(1, FRAMES + 1)) -> set[str]:
    return {f"{patient}_frame{frame:02d}" for patient in patients for frame in frames}


def test_pre_training_sees_every_frame_of_its_patients_by_their_time(store: Path, tmp_path: Path) -> None:
    training = PretrainingTrainer.begin(pretrain_settings(store, tmp_path, method="gcl"))
    assert cases_of(store, training.indices) == frames_of(TRAINED)
    assert training.met == list(TRAINED)
    # Most frames are neither ED nor ES.
    assert training.model.uses_metadata == ("patient", "position", "quarter")
    batch = training.batch(0)
    assert set(batch.metadata["quarter"].tolist()) <= {0, 1, 2, 3}
    table = PreparedStore(store).slices
    times = dict(zip(table["case"], table["meta_quarter"], strict=True))
    assert [times[case] for case in sorted(frames_of(("patient002",)))] == [0, 0, 1, 1, 2, 2, 3, 3]
    assert isinstance(training.loader.sampler, MetaSampler)


def test_a_patient_s_second_volume_of_a_batch_is_of_another_time(store: Path, tmp_path: Path) -> None:
    table = PreparedStore(store).slices
    sampler = PretrainingTrainer.begin(pretrain_settings(store, tmp_path, method="gcl")).loader.sampler
    for step in range(10):
        rows = table.loc[sampler.batch(step)]
        for _, own in rows.groupby("subject"):
            numbers = sorted({int(case[-2:]) for case in own["case"]})
            assert all(3 <= later - one <= 5 for one, later in pairwise(numbers))


@pytest.mark.parametrize("labelled", [1, 3])
def test_regimes_learn_from_all_frames_but_those_with_the_draw_s_masks(
    store: Path, tmp_path: Path, labelled: int
) -> None:
    settings = finetune_settings(store, tmp_path / "out", regime="fixmatch", labelled=labelled, steps=40)
    loader = finetune.begin(settings).loader
    slices = PreparedStore(store).slices
    learnt, bare = (
        {int(index) for step in range(40) for index in getattr(loader.batch(step), stream)}
        for stream in ("slices", "unlabelled_slices")
    )
    drawn = tuple(slices["subject"].iloc[sorted(learnt)].unique())
    assert len(drawn) == labelled
    assert cases_of(store, sorted(learnt)) == frames_of(drawn, (1, 4))
    assert cases_of(store, sorted(bare)) == frames_of(TRAINED) - frames_of(drawn, (1, 4))
