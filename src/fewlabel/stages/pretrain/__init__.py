"""``pretrain``: an encoder learns from slices without labels and their metadata."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save

from fewlabel.core.artifact.artifact_folder import Artifact
from fewlabel.core.artifact.files import write_bytes, write_json
from fewlabel.core.collective import rank
from fewlabel.core.plugin_discovery import load_plugin
from fewlabel.core.progress import say
from fewlabel.core.rng import numpy_stream
from fewlabel.data.store import PreparedStore
from fewlabel.engine.lock import sole_run
from fewlabel.engine.run_folder_state import check_begun, close_run, finished_before, identity, mark_run
from fewlabel.engine.weight_files import save_encoder
from fewlabel.protocol.exposure import KEY
from fewlabel.stages._batch_norm_statistics import KEY as STATISTICS
from fewlabel.stages._batch_norm_statistics import statistics_record
from fewlabel.stages._shape_checks import say_depth
from fewlabel.stages.pretrain.checking import check, steps_faults
from fewlabel.stages.pretrain.settings import PretrainSettings
from fewlabel.stages.pretrain.trainer import PretrainingTrainer

__all__ = ["EMBEDDED", "SETTINGS", "PretrainSettings", "PretrainingTrainer", "check", "run", "steps_faults"]

#: Slices whose embeddings are left beside the encoder, at most.
EMBEDDED = 2000
SETTINGS = PretrainSettings


def run(settings: PretrainSettings) -> Path:
    """Pre-train an encoder and leave it as an artifact of kind ``encoder``.

    Raises:
        SettingsError: If settings do not fit the data, or ``out`` holds another run.
        ArtifactError: If ``data`` is not a prepared folder.
        DivergedError: If a number is not finite, or embeddings stay collapsed.
        RunStoppedError: After Ctrl-C, once the state is saved.
    """
    started = time.monotonic()
    store = PreparedStore(settings.data)
    parents = {"data": store.artifact}
    if settings.encoder is not None:
        parents["encoder"] = Artifact.open(settings.encoder, "encoder")
    hashes = {f"{role}_hash": parent.content_hash for role, parent in parents.items()}
    asked = settings.network
    # What is recorded is what is built.
    settings = settings.model_copy(update={"network": check(settings, store).network})
    say_depth(asked, settings.network, store.images.shape[2:])
    same = identity(_deciding(settings), **hashes)
    if finished_before(settings.out, "encoder", same, resume=settings.resume):
        say(f"{settings.out} is finished and kept.")
        return settings.out
    training = PretrainingTrainer.begin(settings, same, store, parents.get("encoder"))
    for parent in parents.values():
        parent.check_unchanged()
    with sole_run(settings.out, lambda: check_begun(settings.out, "encoder", same, resume=settings.resume)):
        training.settle()
        mark_run(settings.out, same, compiled=training.compiled)
        training.train()
        files = write_encoder(training)
        close_run(
            settings.out,
            "encoder",
            files,
            parents=list(parents.values()),
            settings=settings,
            same=same,
            device=training.fabric.device,
            started=started,
            compiled=training.compiled,
        )
        training.checkpointer.remove()
    return settings.out


def _deciding(settings: PretrainSettings) -> dict[str, Any]:
    """The settings that change the result: for a method without labels, not which labels there would be."""
    record = settings.record()
    if load_plugin("fewlabel.methods", settings.method.name).uses_labels:
        return record
    return {key: value for key, value in record.items() if key not in {"labelled", "draw", "subjects"}}


def write_encoder(training: PretrainingTrainer) -> list[str]:
    """Write the files of the artifact, but its manifest, on rank 0; their names."""
    settings, method = training.settings, training.model
    decoder = method.pretrained_decoder()
    files = ["encoder.safetensors", "encoder.json", "embeddings.safetensors", "details.json", "metrics.jsonl"]
    if decoder is not None:
        files.append("decoder.safetensors")
    if rank() != 0:
        return files
    facts = {
        "method": settings.method.name,
        "meta_labels": list(method.uses_metadata),
        "shuffled_metadata": settings.shuffled_metadata,
        "channels": training.store.plan["channels"],
        "spacing": training.store.plan["spacing"],
        "image_size": list(method.facts.image_size),
        "steps": settings.steps,
        "parameters": sum(parameter.numel() for parameter in method.encoder.parameters()),
        "labelled_subjects": list(training.label_subjects),
        STATISTICS: statistics_record(training.take_statistics(), 1.0),
        KEY: training.met,
    }
    save_encoder(settings.out, method.encoder, facts, decoder)
    write_json(settings.out / "details.json", training.combiner.details())
    method.eval()
    embedded = np.sort(numpy_stream(settings.seed, "embed").permutation(training.indices)[:EMBEDDED])
    embeddings = training.embeddings(embedded)
    tensors = {"embeddings": embeddings, "slices": torch.from_numpy(embedded)}
    write_bytes(settings.out / "embeddings.safetensors", save(tensors))
    return files
