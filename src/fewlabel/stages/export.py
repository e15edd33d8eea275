"""``export``: the weights of an encoder under the names of another library, and how to build its network there."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any, Literal

import safetensors.torch
import torch
from torch import Tensor

from fewlabel.core.artifact.files import MANIFEST, write_bytes, write_json
from fewlabel.core.artifact.manifest import Artifact, is_artifact
from fewlabel.core.errors import ArtifactError, Fault, SettingsError
from fewlabel.core.output_paths import RUN_FILE, conflict_sentence, unwritable
from fewlabel.core.progress import say
from fewlabel.core.provenance import library_versions
from fewlabel.core.settings.config import PathSetting, Settings, setting
from fewlabel.engine.foreign_names import Foreign, foreign
from fewlabel.engine.weight_files import load_encoder
from fewlabel.nets.unet import UNetConfig

SUFFIXES = (".safetensors", ".pth", ".pt")


class ExportSettings(Settings):
    """Settings of ``fewlabel export``."""

    encoder: PathSetting = setting(..., "encoder folder, or run folder made by train or demo")
    out: PathSetting = setting(..., "file to write: .safetensors, .pth or .pt; a .json of the same name goes beside it")
    to: Literal["nnunet", "monai"] = setting(..., "library to export to: nnU-Net (PlainConvUNet) or MONAI (BasicUNet)")
    pool: Literal["max", "conv"] = setting(
        "max",
        "for nnunet: max names a network with the same maps, conv one as nnU-Net builds it, whose maps differ",
        source="pool of PlainConvEncoder",
    )
    overwrite: bool = setting(False, "replace files that are there already")


SETTINGS = ExportSettings


def run(settings: ExportSettings) -> Path:
    """Write the weights and, beside them, a JSON of the network that they fit.

    A ``.safetensors`` file holds every name on its own; a ``.pth`` or ``.pt`` file is a checkpoint of ``torch.save``,
    for nnU-Net with the weights under ``network_weights``.

    Raises:
        ArtifactError: If there is no encoder, or its weights do not fit its architecture.
        SettingsError: If the other library cannot build the network, or a file must not be written; nothing is then.
    """
    _check_out(settings)
    folder = find_encoder(settings.encoder)
    artifact = Artifact.open(folder, "encoder")
    encoder, facts = load_encoder(artifact)
    theirs = foreign(settings.to, encoder.config, settings.pool)
    tensors = theirs.renamed(encoder.state_dict())
    write_bytes(settings.out, packed(tensors, settings.out.suffix, key="network_weights" * (settings.to == "nnunet")))
    description = {
        "format": settings.to,
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


def _check_out(settings: ExportSettings) -> None:
    out = settings.out
    faults = []
    if out.suffix not in SUFFIXES:
        problem = f"must end in {', '.join(SUFFIXES[:-1])} or {SUFFIXES[-1]}, not {out}"
        faults.append(Fault(problem, "out", "Give a file name, such as --out encoder.pth"))
    if obstacle := unwritable(out.parent):
        faults.append(Fault(conflict_sentence(out, obstacle), remedy="Give another --out"))
    elif any((out.parent / name).is_file() for name in (MANIFEST, RUN_FILE)):
        what = "an artifact" if (out.parent / MANIFEST).is_file() else "a run"
        faults.append(Fault(f"{out.parent} is {what} and takes no other files", "out", "Give a place outside of it"))
    faults.extend(
        Fault(f"{path} exists already", "out", "Give another --out, or overwrite=true to replace it")
        for path in dict.fromkeys((out, out.with_suffix(".json")))
        if path.exists() and not settings.overwrite
    )
    if out.is_dir():
        faults.append(Fault(f"must be a file, and {out} is a folder", "out", "Name a file in it"))
    if faults:
        raise SettingsError("Nothing was written:", faults)
