"""Weights on disk: safetensors beside a JSON of facts that rebuilds the network; nothing is unpickled."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import safetensors.torch
from safetensors import SafetensorError
from torch import Tensor, nn

from fewlabel.core.artifact import read_json, write_bytes, write_json
from fewlabel.core.errors import ArtifactError, Fault, SettingsError
from fewlabel.nets.unet import UNet, UNetConfig, UNetDecoder, UNetEncoder

_SHOWN = 12


def save_segmenter(folder: Path, network: UNet, facts: Mapping[str, Any]) -> None:
    """Write ``segmenter.safetensors`` and ``segmenter.json``; the architecture and classes are added to the facts."""
    _save(folder, "segmenter", network, {**facts, "architecture": network.config.record(), "classes": network.classes})


def load_segmenter(folder: Path) -> tuple[UNet, dict[str, Any]]:
    """The network of a segmenter folder, in eval mode on the CPU, and its facts.

    Raises:
        ArtifactError: If a file is missing or damaged, or the weights do not fit the architecture; it lists what is
            missing, reshaped or left over.
    """
    facts = _facts(folder, "segmenter", ("architecture", "classes"))
    network = UNet(_architecture(folder, "segmenter", facts), int(facts["classes"]))
    load_strictly(network, _tensors(folder, "segmenter"), where=str(folder / "segmenter.safetensors"))
    return network.eval(), facts


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
        Fault(f"the encoder has {old}", str(new), f"network.{key}") for key, (old, new) in pairs.items() if old != new
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


def load_strictly(module: nn.Module, tensors: Mapping[str, Tensor], *, where: str) -> None:
    """Load a state that must fit in full.

    Args:
        module: Receives the state; untouched if it does not fit.
        tensors: Name to tensor.
        where: File, for the message.

    Raises:
        ArtifactError: With a line per tensor that is missing, reshaped or left over, and how many match.
    """
    wanted = module.state_dict()
    missing = [name for name in wanted if name not in tensors]
    spare = [name for name in tensors if name not in wanted]
    reshaped = [name for name in wanted if name in tensors and wanted[name].shape != tensors[name].shape]
    if not missing and not spare and not reshaped:
        module.load_state_dict(dict(tensors))
        return
    faults = [
        *(Fault(f"a tensor {tuple(wanted[name].shape)} is needed", "none", name) for name in missing),
        *(
            Fault(f"a tensor {tuple(wanted[name].shape)} is needed", f"shape {tuple(tensors[name].shape)}", name)
            for name in reshaped
        ),
        *(Fault("the network has no such tensor", f"shape {tuple(tensors[name].shape)}", name) for name in spare),
    ]
    matched = len(wanted) - len(missing) - len(reshaped)
    shown = "" if len(faults) <= _SHOWN else f" The first {_SHOWN}:"
    raise ArtifactError(
        f"The weights of {where} do not fit the network: {matched} of {len(wanted)} tensors match, {len(missing)} "
        f"missing, {len(reshaped)} reshaped, {len(spare)} left over; use the architecture they were made with.{shown}",
        faults[:_SHOWN],
    )


def _write(folder: Path, name: str, module: nn.Module) -> None:
    tensors = {key: tensor.detach().cpu().contiguous() for key, tensor in module.state_dict().items()}
    write_bytes(folder / f"{name}.safetensors", safetensors.torch.save(tensors))


def _save(folder: Path, name: str, module: nn.Module, facts: Mapping[str, Any]) -> None:
    _write(folder, name, module)
    write_json(folder / f"{name}.json", dict(facts))


def _tensors(folder: Path, name: str) -> dict[str, Tensor]:
    path = folder / f"{name}.safetensors"
    try:
        tensors: dict[str, Tensor] = safetensors.torch.load_file(path)
    except (OSError, SafetensorError) as error:
        fault = Fault("a weight file must be readable", str(error), str(path), "make the artifact again")
        raise ArtifactError("Weights cannot be loaded:", [fault]) from error
    return tensors


def _facts(folder: Path, name: str, keys: tuple[str, ...]) -> dict[str, Any]:
    path = folder / f"{name}.json"
    facts = read_json(path)
    missing = [key for key in keys if not isinstance(facts, dict) or key not in facts]
    if missing:
        fault = Fault(f"{name}.json must hold {', '.join(keys)}", f"no {', '.join(missing)}", str(path))
        raise ArtifactError("An artifact is damaged:", [fault])
    return dict(facts)


def _architecture(folder: Path, name: str, facts: Mapping[str, Any]) -> UNetConfig:
    try:
        return UNetConfig.parse(facts["architecture"])
    except SettingsError as error:
        found = "; ".join(map(str, error.faults))
        fault = Fault("this version must know the architecture", found, str(folder / f"{name}.json"))
        raise ArtifactError("An artifact cannot be used:", [fault]) from error
