"""Runs of compiled steps: what is recorded of them, and that a resumed one goes on bit for bit.

The compiler is PyTorch's own up to the machine code, which would take its time: graphs are traced, their gradients are
derived, and all of it is run as it stands.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from fewlabel.core.artifact.artifact_folder import Artifact
from fewlabel.core.artifact.files import read_json
from fewlabel.core.artifact.sealed import write_sealed
from fewlabel.core.errors import SettingsError
from fewlabel.engine import compiling
from fewlabel.engine.checkpoint import CHECKPOINT
from fewlabel.engine.loop import Loop
from fewlabel.engine.run_folder_state import IDENTITY
from fewlabel.stages import finetune, pretrain
from kit.stores import make_store
from kit.tiny import finetune_settings, pretrain_settings

NETWORK = {"width": 4, "depth": 2}
#: The compiler looks at things that warn about it, and hides that where warnings are no errors.
pytestmark = pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf")


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_store(tmp_path_factory.mktemp("compiled") / "prepared", subjects=6, depth=3, size=(16, 16), phases=1)


@pytest.fixture
def graphs(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[tuple[int, ...]]]:
    """Shapes of the maps for which a block was compiled."""
    from torch._dynamo import config as dynamo
    from torch._dynamo.backends.debugging import aot_eager
    from torch._functorch import config as functorch

    seen: list[tuple[int, ...]] = []
    real = torch.compile

    def backend(graph: Any, inputs: Any) -> Any:
        seen.extend(tuple(each.shape) for each in inputs if each.dim() == 4 and each.shape[-1] > 3)
        return aot_eager(graph, inputs)

    monkeypatch.setattr(torch, "compile", lambda function, **words: real(function, backend=backend, **words))
    monkeypatch.setattr(compiling, "broken", lambda kind: "")
    with dynamo.patch(recompile_limit=8, accumulated_recompile_limit=256), functorch.patch(donated_buffer=True):
        torch._dynamo.reset()
        yield seen
        torch._dynamo.reset()


class PowerCut(BaseException):
    """Stands for the machine going away: nothing may catch it."""


def cut_after(monkeypatch: pytest.MonkeyPatch, steps: int) -> None:
    original = Loop._log

    def log(self: Loop, step: int, *rest: Any) -> None:
        original(self, step, *rest)
        if step == steps:
            raise PowerCut

    monkeypatch.setattr(Loop, "_log", log)


def test_fine_tuning_by_compiled_steps(
    store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, graphs: list[tuple[int, ...]]
) -> None:
    """Both phases, a teacher, validation in between; cut in the second phase and resumed."""
    told: dict[str, Any] = {
        "regime": {"name": "fixmatch", "guard": 0},
        "network": NETWORK,
        "steps": 4,
        "labelled": 3,
        "batch": 2,
        "validation": "held_out",
        "expect": "never",
        "precision": "bf16",
    }

    def settings(name: str, **over: Any) -> Any:
        return finetune_settings(store, tmp_path / name, **{**told, "compile": True, **over})

    finetune.run(settings("whole"))
    whole = list(graphs)
    # Two encoder blocks and one of the decoder: labelled slices alone, both streams, and the teacher's pass.
    assert sorted({shape[0] for shape in whole}) == [2, 4]
    assert len(whole) == 9
    # More networks of the same shapes find their graphs.
    with monkeypatch.context() as patch:
        cut_after(patch, 2)
        with pytest.raises(PowerCut):
            finetune.run(settings("cut", checkpoint_seconds=0))
    assert read_json(tmp_path / "cut" / IDENTITY)["compiled"] is True
    assert (tmp_path / "cut" / CHECKPOINT).is_file()
    torch._dynamo.reset()
    finetune.run(settings("cut", checkpoint_seconds=0, resume=True))
    # What is left of it needs the graphs of the second phase alone.
    assert sorted(graphs[len(whole) :]) == sorted(whole[3:])
    for name in ("segmenter.safetensors", "segmenter.json"):
        assert (tmp_path / "cut" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes(), name
    assert Artifact.open(tmp_path / "cut", "segmenter").manifest.compiled
    assert not (tmp_path / "cut" / IDENTITY).exists()
    finetune.run(settings("plain", compile=False))
    assert not Artifact.open(tmp_path / "plain", "segmenter").manifest.compiled
    ours, plain = (load_file(tmp_path / name / "segmenter.safetensors") for name in ("whole", "plain"))
    assert ours.keys() == plain.keys()
    for key, tensor in ours.items():
        torch.testing.assert_close(tensor, plain[key], rtol=0.1, atol=0.02)


def test_pre_training_by_compiled_steps(
    store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, graphs: list[tuple[int, ...]]
) -> None:
    """GCL goes back through one forward pass once for each of its terms."""

    def settings(name: str, **over: Any) -> Any:
        return pretrain_settings(store, tmp_path / name, network=NETWORK, steps=3, batch=4, compile=True, **over)

    pretrain.run(settings("whole"))
    count = len(graphs)
    with monkeypatch.context() as patch:
        cut_after(patch, 1)
        with pytest.raises(PowerCut):
            pretrain.run(settings("cut", checkpoint_seconds=0))
    pretrain.run(settings("cut", checkpoint_seconds=0, resume=True))
    for name in ("encoder.safetensors", "embeddings.safetensors", "details.json"):
        assert (tmp_path / "cut" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes(), name
    assert Artifact.open(tmp_path / "cut", "encoder").manifest.compiled
    assert 0 < count == len(graphs)


def test_a_run_that_was_begun_goes_on_as_it_began(store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a machine that would compile, without; and a compiled one not at all where there is no compiler."""

    def settings(**over: Any) -> Any:
        return pretrain_settings(store, tmp_path / "out", network=NETWORK, steps=3, batch=4, method="simclr", **over)

    with monkeypatch.context() as patch:
        cut_after(patch, 1)
        with pytest.raises(PowerCut):
            pretrain.run(settings(checkpoint_seconds=0))
    mark = tmp_path / "out" / IDENTITY
    content = read_json(mark)
    assert content["compiled"] is False
    assert content["compile"] == "auto"
    monkeypatch.setattr(compiling, "unpaid", lambda *machine: "")
    monkeypatch.setattr(compiling, "PAYS_FROM", 0.0)
    monkeypatch.setattr(compiling, "broken", lambda kind: "no working compiler (none)")
    write_sealed(mark, {**content, "compiled": True})
    with pytest.raises(SettingsError, match="the run began with compiled steps, and there is no working compiler"):
        pretrain.run(settings(resume=True))
    write_sealed(mark, content)
    pretrain.run(settings(resume=True))
    assert not Artifact.open(tmp_path / "out", "encoder").manifest.compiled
