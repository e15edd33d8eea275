"""What is done with the weights of a training once it is over: several rows of a table share them."""

from __future__ import annotations

from pathlib import Path

from fewlabel.core.artifact.artifact_folder import Artifact, finish_artifact
from fewlabel.core.artifact.files import MANIFEST
from fewlabel.data.store import PreparedStore
from fewlabel.engine.weight_files import load_segmenter, save_segmenter
from fewlabel.stages._batch_norm_statistics import KEY, statistics_images, statistics_record, take_statistics
from fewlabel.stages._shape_checks import patch_size
from fewlabel.stages.finetune import FinetuneSettings


def with_statistics(prepared: Path, segmenter: Path, out: Path) -> Path:
    """A copy of a segmenter whose batch normalisation has the statistics of unlabelled training slices, or patches.

    Args:
        prepared: Prepared folder.
        segmenter: Segmenter trained on it, without any.
        out: Where the copy goes; one that is there already is kept.
    """
    if (out / MANIFEST).is_file():
        return out
    store = PreparedStore(prepared)
    opened = Artifact.open(segmenter, "segmenter")
    network, facts = load_segmenter(opened)
    parts = store.split["parts"]
    held = {*parts["test"], *parts["validation"]}
    subjects = {subject for part in ("train", "pretrain") for subject in parts[part]} - held
    usual = FinetuneSettings.parse({"data": prepared, "out": out, "regime": facts["regime"]})
    share, patch = usual.recalibrate_share, patch_size(facts.get("patch"))
    images = statistics_images(
        "always", usual.regime, network.config, store, subjects, patch, opened.manifest.seed or 0
    )
    if images is not None:
        take_statistics(network, images, share, frozen=False)
    out.mkdir(parents=True)
    save_segmenter(out, network, {**facts, KEY: statistics_record(images, share)})
    finish_artifact(
        out,
        "segmenter",
        ["segmenter.safetensors", "segmenter.json"],
        parents=[store.artifact, opened],
        settings=opened.manifest.settings,
        seed=opened.manifest.seed,
    )
    return out
