"""Tensors of unfinished work in one safetensors file, with a header in JSON and a checksum over all of it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from fewlabel.core.artifact.files import write_bytes
from fewlabel.core.errors import ArtifactError, Fault

_HEADER, _CHECKSUM = "fewlabel", "sha256"


def write_tensors(path: Path, tensors: Mapping[str, Tensor], header: Mapping[str, Any]) -> None:
    """Write tensors and JSON values, atomically.

    Args:
        path: Where to.
        tensors: On any device.
        header: JSON-ready values.
    """
    plain = {key: tensor.detach().cpu().contiguous().clone() for key, tensor in tensors.items()}
    text = json.dumps(dict(header))
    write_bytes(path, save(plain, metadata={_HEADER: text, _CHECKSUM: _checksum(plain, text)}))


def read_tensors_of_run(path: Path, remedy: str) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Tensors, on the CPU, and header of a file.

    Args:
        path: As :func:`write_tensors` wrote it.
        remedy: What to do where it is damaged.

    Raises:
        ArtifactError: If it cannot be read, or a bit of it is another.
    """
    try:
        with safe_open(path, framework="pt") as stream:
            metadata = stream.metadata() or {}
            tensors = {key: stream.get_tensor(key) for key in stream.keys()}  # noqa: SIM118
    except (OSError, SafetensorError, ValueError, TypeError) as error:
        raise _damaged(path, str(error), remedy) from error
    header = metadata.get(_HEADER, "")
    if metadata.get(_CHECKSUM) != _checksum(tensors, header):
        raise _damaged(path, "its content does not fit its checksum", remedy)
    return tensors, json.loads(header)


def _damaged(path: Path, why: str, remedy: str) -> ArtifactError:
    return ArtifactError("The run cannot be resumed:", [Fault(f"{path} is damaged: {why}", remedy=remedy)])


def _checksum(tensors: Mapping[str, Tensor], header: str) -> str:
    digest = hashlib.sha256(header.encode())
    for key in sorted(tensors):
        tensor = tensors[key]
        digest.update(f"{key} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()
