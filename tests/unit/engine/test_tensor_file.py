"""No bit of a checkpoint is another without being missed."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
import torch

from fewlabel.core.errors import ArtifactError
from fewlabel.engine.tensor_file import read_tensors_of_run, write_tensors

TENSORS = {
    "weight": torch.arange(12.0).reshape(3, 4).T,
    "half": torch.tensor([1.5, -2.0], dtype=torch.bfloat16),
    "step": torch.tensor(7),
    "none": torch.zeros(0, 3),
    "flags": torch.tensor([True, False]),
}


def test_what_is_read_is_what_was_written(tmp_path: Path) -> None:
    write_tensors(tmp_path / "c", TENSORS, {"step": 3, "identity": {"seed": 0}})
    tensors, header = read_tensors_of_run(tmp_path / "c", "")
    assert header == {"step": 3, "identity": {"seed": 0}}
    assert tensors.keys() == TENSORS.keys()
    assert all(tensors[key].dtype == TENSORS[key].dtype and torch.equal(tensors[key], TENSORS[key]) for key in TENSORS)


def test_no_bit_is_another(tmp_path: Path) -> None:
    path = tmp_path / "c.safetensors"
    write_tensors(path, TENSORS, {"step": 3})
    content = path.read_bytes()
    rng = np.random.default_rng(0)
    spoilt = [content[:size] for size in (0, 7, 100, len(content) - 1)]
    spoilt += [content + b"x", b"\0" * len(content)]
    for place in rng.integers(0, len(content), 300):
        flipped = bytearray(content)
        flipped[place] ^= 1 << int(rng.integers(8))
        spoilt.append(bytes(flipped))
    accepted = 0
    for changed in spoilt:
        path.write_bytes(changed)
        with suppress(ArtifactError):
            tensors, header = read_tensors_of_run(path, "Delete it")
            # Blanks of the header, and the order of its entries, say nothing.
            assert header == {"step": 3}
            assert all(torch.equal(tensors[key], TENSORS[key]) for key in TENSORS)
            accepted += 1
    assert accepted < 10


def test_a_file_of_another_kind_is_no_checkpoint(tmp_path: Path) -> None:
    from safetensors.torch import save_file

    save_file(TENSORS | {"weight": TENSORS["weight"].contiguous()}, tmp_path / "c")
    with pytest.raises(ArtifactError, match="does not fit its checksum") as caught:
        read_tensors_of_run(tmp_path / "c", "Delete it")
    assert caught.value.faults[0].remedy == "Delete it"
    with pytest.raises(ArtifactError, match="damaged"):
        read_tensors_of_run(tmp_path / "nowhere", "")
