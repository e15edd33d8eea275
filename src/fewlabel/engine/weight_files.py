"""Weights on disk: safetensors beside a JSON of facts that rebuilds the network; nothing is unpickled."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import safetensors.torch
from torch import Tensor, nn

from fewlabel.core.artifact.artifact_folder import Artifact
from fewlabel.core.artifact.files import write_bytes, write_json
from fewlabel.core.errors import ArtifactError, Fault, SettingsError
from fewlabel.core.output_paths import as_file_name
from fewlabel.engine.weight_matching import load_strictly, read_tensors
from fewlabel.nets.unet import UNet, UNetConfig, UNetDecoder, UNetEncoder


def member_file(member: int) -> str:
    """The weights of a segmenter's member, relative to its folder; those of the first lie where those of one do."""
    return "segmenter.safetensors" if member == 0 else f"member-{member}/segmenter.safetensors"


def left_out_file(subject: str) -> str:
    """The weights of the network that left a patient out, relative to the folder of the segmenter."""
    return f"left-out-{as_file_name(subject)}/segmenter.safetensors"


def save_left_out(folder: Path, subject: str, weights: Mapping[str, Tensor]) -> None:
    """Write the weights of the network that left a patient out, as its ``state_dict`` gives them."""
    _write(folder, left_out_file(subject).removesuffix(".safetensors"), weights)


def save_member(folder: Path, member: int, network: UNet) -> None:
    """Write the weights of one member of a segmenter, by number from 0."""
    _write(folder, member_file(member).removesuffix(".safetensors"), network.state_dict())


def save_segmenter_facts(folder: Path, config: UNetConfig, classes: int, facts: Mapping[str, Any]) -> None:
    """Write ``segmenter.json``; the architecture and classes are added to the facts."""
    write_json(folder / "segmenter.json", {**facts, "architecture": config.record(), "classes": classes})


def save_segmenter(folder: Path, network: UNet, facts: Mapping[str, Any]) -> None:
    """Write ``segmenter.safetensors`` and ``segmenter.json`` of a segmenter of one network."""
    save_member(folder, 0, network)
    save_segmenter_facts(folder, network.config, network.classes, facts)


def load_segmenter(source: Path | Artifact, member: int = 0, *, file: str | None = None) -> tuple[UNet, dict[str, Any]]:
    """The network of a segmenter, in eval mode on the CPU, and its facts.

    Args:
        source: The segmenter, or its folder.
        member: Which of its networks, from 0; ``members`` of the facts says how many there are, without it one.
        file: Other weights in its folder, such as :func:`left_out_file`; None for those of the member.

    Raises:
        ArtifactError: If a file is missing, damaged or changed since, or the weights do not fit the architecture; it
            lists what is missing, reshaped or left over.
    """
    artifact = _opened(source)
    facts = _facts(artifact, "segmenter", ("architecture", "classes"))
    network = UNet(_architecture(artifact, "segmenter", facts), int(facts["classes"]))
    path = artifact.verified(file or member_file(member))
    load_strictly(network, read_tensors(path), where=str(path))
    return network.eval(), facts


def load_members(source: Path | Artifact) -> tuple[tuple[UNet, ...], dict[str, Any]]:
    """All networks of a segmenter, the first member first, and its facts.

    Raises:
        ArtifactError: As :func:`load_segmenter`, for any of them.
    """
    artifact = _opened(source)
    first, facts = load_segmenter(artifact)
    others = (load_segmenter(artifact, member)[0] for member in range(1, int(facts.get("members", 1))))
    return (first, *others), facts


def save_encoder(
    folder: Path, encoder: UNetEncoder, facts: Mapping[str, Any], decoder: UNetDecoder | None = None
) -> None:
    """Write ``encoder.safetensors``, ``encoder.json`` and, for pre-trained decoder blocks, ``decoder.safetensors``.

    The architecture and the number of decoder blocks are added to the facts.
    """
    blocks = 0 if decoder is None else len(decoder.blocks)
    _save(folder, "encoder", encoder, {**facts, "architecture": encoder.config.record(), "decoder_blocks": blocks})
    if decoder is not None:
        _write(folder, "decoder", decoder.state_dict())


def load_encoder(source: Path | Artifact) -> tuple[UNetEncoder, dict[str, Any]]:
    """The encoder of an artifact or its folder, in eval mode on the CPU, and its facts.

    Raises:
        ArtifactError: As :func:`load_segmenter`.
    """
    artifact = _opened(source)
    facts = _facts(artifact, "encoder", ("architecture",))
    encoder = UNetEncoder(_architecture(artifact, "encoder", facts))
    _load(artifact, "encoder", encoder)
    return encoder.eval(), facts


def load_encoder_into(source: Path | Artifact, encoder: UNetEncoder) -> dict[str, Any]:
    """Give the weights of an encoder, or of its folder, to an encoder of the same architecture; returns the facts.

    Raises:
        ArtifactError: If any tensor is missing, reshaped or left over, or the encoder has another normalisation or
            slope, which tensors alone may not tell; the encoder is then unchanged.
    """
    artifact = _opened(source)
    facts = _facts(artifact, "encoder", ("architecture",))
    made, wanted = _architecture(artifact, "encoder", facts), encoder.config
    pairs = {"norm": (made.norm, wanted.norm), "slope": (made.slope, wanted.slope)}
    faults = [
        Fault(f"is {new}, but the encoder has {old}", f"network.{key}")
        for key, (old, new) in pairs.items()
        if old != new
    ]
    if faults:
        raise ArtifactError(
            f"The weights of {artifact.folder} do not fit the network; use the architecture of its encoder.json:",
            faults,
        )
    _load(artifact, "encoder", encoder)
    return facts


def load_decoder_into(source: Path | Artifact, decoder: UNetDecoder) -> int:
    """Give the pre-trained blocks of an encoder, or of its folder, to the first blocks of a decoder.

    Returns:
        How many, maybe 0.

    Raises:
        ArtifactError: If they do not fit in full; the decoder is then unchanged.
    """
    artifact = _opened(source)
    count = int(_facts(artifact, "encoder", ("architecture",)).get("decoder_blocks", 0))
    if count:
        part = UNetDecoder(decoder.config, min(count, len(decoder.blocks)))
        _load(artifact, "decoder", part)
        decoder.load_state_dict({**decoder.state_dict(), **part.state_dict()})
    return count


def _write(folder: Path, name: str, weights: Mapping[str, Tensor]) -> None:
    tensors = {key: tensor.detach().cpu().contiguous() for key, tensor in weights.items()}
    write_bytes(folder / f"{name}.safetensors", safetensors.torch.save(tensors))


def _save(folder: Path, name: str, module: nn.Module, facts: Mapping[str, Any]) -> None:
    _write(folder, name, module.state_dict())
    write_json(folder / f"{name}.json", dict(facts))


def _opened(source: Path | Artifact) -> Artifact:
    return source if isinstance(source, Artifact) else Artifact.bare(source)


def _load(artifact: Artifact, name: str, module: nn.Module) -> None:
    """Weights that several networks begin with, and that are read once for all of them."""
    file = f"{name}.safetensors"
    load_strictly(module, artifact.once(file, read_tensors), where=str(artifact.folder / file))


def _facts(artifact: Artifact, name: str, keys: tuple[str, ...]) -> dict[str, Any]:
    path = artifact.folder / f"{name}.json"
    facts = artifact.json(path.name)
    missing = [key for key in keys if not isinstance(facts, dict) or key not in facts]
    if missing:
        fault = Fault(f"{path} lacks {', '.join(missing)}", remedy="Make the artifact again")
        raise ArtifactError("An artifact is damaged:", [fault])
    return dict(facts)


def _architecture(artifact: Artifact, name: str, facts: Mapping[str, Any]) -> UNetConfig:
    try:
        return UNetConfig.parse(facts["architecture"])
    except SettingsError as error:
        reasons = " ".join(map(str, error.faults))
        path = artifact.folder / f"{name}.json"
        problem = f"{path} holds an architecture that this version does not know: {reasons}"
        fault = Fault(problem, remedy="Use the version of fewlabel that made it")
        raise ArtifactError("An artifact cannot be used:", [fault]) from error
