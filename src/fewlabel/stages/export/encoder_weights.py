"""The weights of an encoder under the names of another library, and how to build its network there."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from torch import Tensor

from fewlabel.core.artifact.artifact_folder import Artifact, is_artifact
from fewlabel.core.artifact.files import MANIFEST, write_bytes, write_json
from fewlabel.core.errors import ArtifactError, Fault
from fewlabel.core.progress import say
from fewlabel.core.provenance import library_versions
from fewlabel.engine.foreign_names import Foreign, Target, foreign
from fewlabel.engine.weight_files import load_encoder
from fewlabel.nets.unet import UNetConfig
from fewlabel.stages.export.output_destination import check_file
from fewlabel.stages.export.settings import ExportSettings

SUFFIXES = (".safetensors", ".pth", ".pt")


def write_encoder(settings: ExportSettings, target: Target) -> Path:
    """Write the weights and, beside them, a JSON of the network that they fit.

    A ``.safetensors`` file holds every name on its own; a ``.pth`` or ``.pt`` file is a checkpoint of ``torch.save``,
    for nnU-Net with the weights under ``network_weights``.

    Args:
        settings: What and where to.
        target: The library.

    Raises:
        ArtifactError: If there is no encoder, or its weights do not fit its architecture.
        SettingsError: If the other library cannot build the network, or a file must not be written; nothing is then.
    """
    check_file(settings.out, SUFFIXES, "encoder.pth", overwrite=settings.overwrite)
    folder = find_encoder(settings.source)
    artifact = Artifact.open(folder, "encoder")
    encoder, facts = load_encoder(artifact)
    theirs = foreign(target, encoder.config, settings.pool)
    tensors = theirs.renamed(encoder.state_dict())
    write_bytes(settings.out, packed(tensors, settings.out.suffix, key="network_weights" * (target == "nnunet")))
    description = {
        "format": target,
        "weights": settings.out.name,
        **architecture(theirs, encoder.config),
        "input": _inputs(artifact, facts, encoder.config),
        "pretraining": {
            "method": facts.get("method"),
            "steps": facts.get("steps"),
            "content_hash": artifact.content_hash,
            "fewlabel": library_versions()["fewlabel"],
        },
    }
    write_json(settings.out.with_suffix(".json"), description)
    say(f"{len(theirs.names)} tensors in {settings.out}, the network in {settings.out.with_suffix('.json').name}")
    say(f"{'The same maps' if theirs.exact else 'Not the same maps'}: {theirs.note}.")
    return settings.out


def find_encoder(place: Path) -> Path:
    """The encoder folder that ``place`` is or, as a run folder, holds.

    Raises:
        ArtifactError: If there is none.
    """
    candidates = [folder for folder in (place, place / "encoder") if (folder / MANIFEST).is_file()]
    if candidates:
        # Of several, none of the kind, the first says what is wrong.
        return next((folder for folder in candidates if is_artifact(folder, "encoder")), candidates[0])
    what = "is neither a finished encoder nor a run folder with one" if place.exists() else "does not exist"
    remedy = "Give the folder made by pretrain, or by train with pretraining=true"
    fault = Fault(f"{place} {what}", remedy=remedy)
    raise ArtifactError("There is no encoder:", [fault])


def packed(tensors: dict[str, Tensor], suffix: str, *, key: str = "") -> bytes:
    """The content of a weight file.

    Args:
        tensors: By name; one tensor may have several.
        suffix: ``.safetensors`` or a suffix of ``torch.save``.
        key: Where a checkpoint of ``torch.save`` keeps them; empty for the top.
    """
    plain = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    if suffix == ".safetensors":
        # Its files do not share memory between names.
        content: bytes = safetensors.torch.save({name: tensor.clone() for name, tensor in plain.items()})
        return content
    stream = io.BytesIO()
    torch.save({key: plain} if key else plain, stream)
    return stream.getvalue()


def architecture(theirs: Foreign, config: UNetConfig) -> dict[str, Any]:
    """How to build the other library's network; ``architecture`` has the form of nnU-Net's plans files."""
    return {
        "exact": theirs.exact,
        "note": theirs.note,
        "architecture": {
            "network_class_name": theirs.network,
            "arch_kwargs": dict(theirs.arguments),
            "_kw_requires_import": list(theirs.imported),
        },
        "input_channels": config.in_channels,
        "pool": theirs.pool,
    }


def _inputs(artifact: Artifact, facts: dict[str, Any], config: UNetConfig) -> dict[str, Any]:
    """What the encoder was trained to see; the percentiles only while the prepared folder is there."""
    prepared = artifact.parent_folder("prepared")
    plan = Artifact.bare(prepared).json("plan.json") if prepared is not None else {}
    return {
        "channels": facts.get("channels"),
        "spacing_mm": facts.get("spacing"),
        "size": facts.get("image_size"),
        "sides_are_multiples_of": config.stride,
        "percentiles_of_a_volume": plan.get("normalise"),
        "slices": "each channel of a slice at mean 0 and standard deviation 1",
    }
