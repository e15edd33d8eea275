"""Weights on disk: safetensors beside a JSON of facts that rebuilds the network; nothing is unpickled."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import safetensors.torch
from torch import Tensor, nn

from fewlabel.core.artifact.files import read_json, write_bytes, write_json
from fewlabel.core.artifact.unchanged import check_file
from fewlabel.core.errors import ArtifactError, Fault, SettingsError
from fewlabel.engine.transfer import load_strictly, read_tensors
from fewlabel.nets.unet import UNet, UNetConfig, UNetDecoder, UNetEncoder


def member_file(member: int) -> str:
    """The weights of a segmenter's member, relative to its folder; those of the first lie where those of one do."""
    return "segmenter.safetensors" if member == 0 else f"member-{member}/segmenter.safetensors"


def save_member(folder: Path, member: int, network: UNet) -> None:
    """Write the weights of one member of a segmenter, by number from 0."""
    _write(folder, member_file(member).removesuffix(".safetensors"), network)


def save_segmenter_facts(folder: Path, config: UNetConfig, classes: int, facts: Mapping[str, Any]) -> None:
    """Write ``segmenter.json``; the architecture and classes are added to the facts."""
    write_json(folder / "segmenter.json", {**facts, "architecture": config.record(), "classes": classes})


def save_segmenter(folder: Path, network: UNet, facts: Mapping[str, Any]) -> None:
    """Write ``segmenter.safetensors`` and ``segmenter.json`` of a segmenter of one network."""
    save_member(folder, 0, network)
    save_segmenter_facts(folder, network.config, network.classes, facts)


def load_segmenter(folder: Path, member: int = 0) -> tuple[UNet, dict[str, Any]]:
    """The network of a segmenter folder, in eval mode on the CPU, and its facts.

    Args:
        folder: The segmenter.
        member: Which of its networks, from 0; ``members`` of the facts says how many there are, without it one.

    Raises:
        ArtifactError: If a file is missing, damaged or changed since, or the weights do not fit the architecture; it
            lists what is missing, reshaped or left over.
    """
    facts = _facts(folder, "segmenter", ("architecture", "classes"))
    network = UNet(_architecture(folder, "segmenter", facts), int(facts["classes"]))
    name = member_file(member)
    load_strictly(network, read_made(folder, name), where=str(folder / name))
    return network.eval(), facts


def load_members(folder: Path) -> tuple[tuple[UNet, ...], dict[str, Any]]:
    """All networks of a segmenter folder, the first member first, and its facts.

    Raises:
        ArtifactError: As :func:`load_segmenter`, for any of them.
    """
    first, facts = load_segmenter(folder)
    others = (load_segmenter(folder, member)[0] for member in range(1, int(facts.get("members", 1))))
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
        _write(folder, "decoder", decoder)


def load_encoder(folder: Path) -> tuple[UNetEncoder, dict[str, Any]]:
    """The encoder of an encoder folder, in eval mode on the CPU, and its facts.

    Raises:
        ArtifactError: As :func:`load_segmenter`.
    """
    facts = _facts(folder, "encoder", ("architecture",))
    encoder = UNetEncoder(_architecture(folder, "encoder", facts))
    load_strictly(encoder, _tensors(folder, "encoder"), where=str(folder / "encoder.safetensors"))
    return encoder.eval(), facts


def load_encoder_into(folder: Path, encoder: UNetEncoder) -> dict[str, Any]:
    """Give the weights of an encoder folder to an encoder of the same architecture; returns the facts.

    Raises:
        ArtifactError: If any tensor is missing, reshaped or left over, or the encoder has another normalisation or
            slope, which tensors alone may not tell; the encoder is then unchanged.
    """
    facts = _facts(folder, "encoder", ("architecture",))
    made, wanted = _architecture(folder, "encoder", facts), encoder.config
    pairs = {"norm": (made.norm, wanted.norm), "slope": (made.slope, wanted.slope)}
    faults = [
        Fault(f"is {new}, but the encoder has {old}", f"network.{key}")
        for key, (old, new) in pairs.items()
        if old != new
    ]
    if faults:
        raise ArtifactError(
            f"The weights of {folder} do not fit the network; use the architecture of its encoder.json:", faults
        )
    load_strictly(encoder, _tensors(folder, "encoder"), where=str(folder / "encoder.safetensors"))
    return facts


def load_decoder_into(folder: Path, decoder: UNetDecoder) -> int:
    """Give the pre-trained blocks of an encoder folder to the first blocks of a decoder; returns how many, maybe 0.

    Raises:
        ArtifactError: If they do not fit in full; the decoder is then unchanged.
    """
    count = int(_facts(folder, "encoder", ("architecture",)).get("decoder_blocks", 0))
    if count:
        part = UNetDecoder(decoder.config, min(count, len(decoder.blocks)))
        load_strictly(part, _tensors(folder, "decoder"), where=str(folder / "decoder.safetensors"))
        decoder.load_state_dict({**decoder.state_dict(), **part.state_dict()})
    return count


def _write(folder: Path, name: str, module: nn.Module) -> None:
    tensors = {key: tensor.detach().cpu().contiguous() for key, tensor in module.state_dict().items()}
    write_bytes(folder / f"{name}.safetensors", safetensors.torch.save(tensors))


def _save(folder: Path, name: str, module: nn.Module, facts: Mapping[str, Any]) -> None:
    _write(folder, name, module)
    write_json(folder / f"{name}.json", dict(facts))


def read_made(folder: Path, name: str) -> dict[str, Tensor]:
    """The tensors of an artifact's safetensors file, which must be as it was made.

    Args:
        folder: The artifact; of a folder without a manifest the file is taken as it is.
        name: The file.

    Raises:
        ArtifactError: If the file is missing, damaged or not that of the manifest.
    """
    check_file(folder, name)
    return read_tensors(folder / name)


def _tensors(folder: Path, name: str) -> dict[str, Tensor]:
    return read_made(folder, f"{name}.safetensors")


def _facts(folder: Path, name: str, keys: tuple[str, ...]) -> dict[str, Any]:
    path = folder / f"{name}.json"
    facts = read_json(path)
    missing = [key for key in keys if not isinstance(facts, dict) or key not in facts]
    if missing:
        fault = Fault(f"{path} lacks {', '.join(missing)}", remedy="Make the artifact again")
        raise ArtifactError("An artifact is damaged:", [fault])
    return dict(facts)


def _architecture(folder: Path, name: str, facts: Mapping[str, Any]) -> UNetConfig:
    try:
        return UNetConfig.parse(facts["architecture"])
    except SettingsError as error:
        found = " ".join(map(str, error.faults))
        problem = f"{folder / name}.json holds an architecture that this version does not know: {found}"
        fault = Fault(problem, remedy="Use the version of fewlabel that made it")
        raise ArtifactError("An artifact cannot be used:", [fault]) from error
