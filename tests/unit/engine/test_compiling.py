"""Whether steps are compiled: the decision, what a resumed run makes of it, and what a trial of the compiler says."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch

from fewlabel.core.errors import SettingsError
from fewlabel.engine import compiling
from fewlabel.engine.compiling import PAYS_FROM, Decision, compile_blocks, decide, plain_seconds, plainly, settle
from fewlabel.nets.unet import ConvBlock, UNet, UNetConfig

AMX = frozenset({"amx_tile", "amx_bf16", "avx512_bf16"})
LONG, SHORT = PAYS_FROM, PAYS_FROM - 1


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """A machine as it is said to be: one with AMX, triton and a compiler, but for what is said."""

    def made(flags: frozenset[str] = AMX, triton: bool = True, fault: str = "") -> None:
        monkeypatch.setattr(compiling, "cpu_flags", lambda: flags)
        monkeypatch.setattr("fewlabel.engine.runtime.cpu_flags", lambda: flags)
        monkeypatch.setattr("fewlabel.engine.runtime.has_bf16", lambda kind: kind == "cuda" or "avx512_bf16" in flags)
        monkeypatch.setattr(compiling.importlib.util, "find_spec", lambda name: object() if triton else None)
        monkeypatch.setattr(compiling, "broken", lambda kind: fault)

    made()
    return made


def settled(asked: Any, begun: bool | None = None, seconds: float = LONG, **over: Any) -> bool:
    return settle(asked, begun, **{"kind": "cpu", "precision": "auto", "seconds": lambda: seconds, **over})


@pytest.mark.parametrize(
    ("asked", "kind", "precision", "seconds", "processes", "flags", "triton", "against"),
    [
        ("auto", "cpu", "auto", LONG, 1, AMX, False, ""),
        ("auto", "cpu", "bf16", LONG, 1, AMX, False, ""),
        ("auto", "cpu", "auto", SHORT, 1, AMX, False, "the run takes about 14:59, and compiling pays from 15:00 on"),
        ("auto", "cpu", "32", LONG, 1, AMX, False, "AMX does not speed up float32"),
        ("auto", "cpu", "auto", LONG, 1, AMX - {"amx_bf16"}, True, "without AMX"),
        ("auto", "cpu", "auto", LONG, 1, AMX - {"amx_tile"}, True, "without AMX"),
        ("auto", "cpu", "auto", LONG, 2, AMX, False, "several processes"),
        ("auto", "cuda", "32", LONG, 1, frozenset(), True, ""),
        ("auto", "cuda", "auto", SHORT, 1, AMX, True, "the run takes about"),
        ("auto", "cuda", "auto", LONG, 1, AMX, False, "triton"),
        ("auto", "cuda", "auto", LONG, 2, AMX, True, "several processes"),
        ("auto", "mps", "auto", LONG, 1, AMX, True, "never measured on mps"),
        (True, "mps", "32", 0.0, 2, frozenset(), False, ""),
    ],
)
def test_it_is_automatic_where_it_pays(
    machine: Any,
    asked: Any,
    kind: str,
    precision: Any,
    seconds: float,
    processes: int,
    flags: frozenset[str],
    triton: bool,
    against: str,
) -> None:
    machine(flags, triton)
    found = decide(asked, kind, precision, lambda: seconds, processes)
    assert found.on == (not against)
    assert against in found.why
    assert bool(found.why) != found.on


def test_a_no_is_no_and_nobody_is_asked_how_long_the_run_is(machine: Any) -> None:
    def never() -> float:
        raise AssertionError

    assert decide(False, "cpu", "auto", never) == Decision(on=False)
    assert decide(True, "cpu", "auto", never) == Decision(on=True)
    machine(frozenset())
    assert not decide("auto", "cpu", "auto", never).on


def test_one_line_says_what_was_decided_and_none_what_was_asked_for(machine: Any, said: list[str]) -> None:
    assert settled("auto")
    assert said == ["Steps are compiled when they first run, which takes a minute or two."]
    said.clear()
    assert not settled("auto", seconds=SHORT)
    assert said == ["Steps are not compiled: the run takes about 14:59, and compiling pays from 15:00 on."]
    said.clear()
    assert not settled(False)
    assert not settled("auto", seconds=SHORT, quiet=True)
    assert settled("auto", quiet=True)
    assert said == []


def test_without_a_working_compiler_it_is_off_and_that_is_said(machine: Any, said: list[str]) -> None:
    machine(fault="no working compiler (g++: not found)")
    assert not settled("auto")
    assert said == ["Steps are not compiled: no working compiler (g++: not found)."]
    assert not settled(False)
    with pytest.raises(SettingsError, match=r"compile.*g\+\+: not found.*compile=false"):
        settled(True)


@pytest.mark.parametrize("begun", [True, False])
def test_a_resumed_run_does_as_it_began(machine: Any, said: list[str], begun: bool) -> None:
    """On a machine and of a length that would have it otherwise, which is said."""
    assert settled("auto", begun, LONG if begun else SHORT) == begun
    assert said == []
    assert settled("auto", begun, SHORT if begun else LONG) == begun
    assert said == [f"The run began {'with' if begun else 'without'} compiled steps and continues that way."]


def test_a_run_that_was_begun_with_a_compiler_goes_on_with_one_or_not_at_all(machine: Any) -> None:
    machine(fault="no working compiler (none)")
    with pytest.raises(
        SettingsError, match=r"began with compiled steps, and there is no working compiler \(none\)\. Start again"
    ):
        settled("auto", True)
    assert not settled("auto", False)


def test_a_compiler_that_fails_is_found_out_by_a_trial(monkeypatch: pytest.MonkeyPatch) -> None:
    def compile(function: Any, **words: Any) -> Any:
        def run(values: torch.Tensor) -> torch.Tensor:
            raise RuntimeError("\nno g++ here.\nand a long story")

        return run

    compiling.broken.cache_clear()
    try:
        with monkeypatch.context() as patch:
            patch.setattr(torch, "compile", compile)
            assert compiling.broken("cpu") == "no working compiler (no g++ here)"
        compiling.broken.cache_clear()
        with monkeypatch.context() as patch:
            patch.setattr(torch, "compile", lambda function, **words: function)
            assert compiling.broken("cpu") == ""
    finally:
        compiling.broken.cache_clear()


def _multiplications(config: UNetConfig, classes: int | None, side: int) -> int:
    """Of a pass over one image: 9 for each pair of channels and pixel, 4 where a map is made twice as large."""
    pixels = [(side // 2**level) ** 2 for level in range(config.depth)]
    ins = [config.in_channels, *config.widths[:-1]]
    total = sum(9 * p * w * (i + w) for p, w, i in zip(pixels, config.widths, ins, strict=True))
    if classes is not None:
        for level in range(config.depth - 1):
            width = config.widths[level]
            total += 4 * pixels[level + 1] * width * config.widths[level + 1] + 9 * pixels[level] * width * 3 * width
        total += pixels[0] * config.width * classes
    return total


@pytest.mark.parametrize("classes", [None, 4])
def test_the_length_of_a_run_follows_from_its_arithmetic(classes: int | None) -> None:
    config = UNetConfig(width=4, depth=3)
    before = torch.get_rng_state()
    found = plain_seconds(config, classes, (16, 16), 10, "cuda")
    assert found == pytest.approx(2 * 3 * 10 * _multiplications(config, classes, 16) / compiling._PACE["cuda"])
    assert plain_seconds(config, classes, (16, 16), 20, "cuda") == pytest.approx(2 * found)
    on_cpu = plain_seconds(config, classes, (16, 16), 10, "cpu")
    ratio = compiling._PACE["cuda"] / compiling._PACE["cpu"] / torch.get_num_threads()
    assert on_cpu == pytest.approx(ratio * found)
    assert torch.equal(torch.get_rng_state(), before)


def test_blocks_are_compiled_for_their_shapes_and_copies_are_plain(monkeypatch: pytest.MonkeyPatch) -> None:
    """By a stand-in of the compiler: the real one takes its time."""
    from torch._dynamo import config as dynamo
    from torch._functorch import config as functorch

    words: list[dict[str, Any]] = []

    def compile(function: Any, **settings: Any) -> Any:
        words.append(settings)
        return function

    monkeypatch.setattr(torch, "compile", compile)
    network = UNet(UNetConfig(width=4, depth=3), 4)
    with dynamo.patch(recompile_limit=8, accumulated_recompile_limit=256), functorch.patch(donated_buffer=True):
        compile_blocks(network)
        assert functorch.donated_buffer is False
        assert dynamo.recompile_limit == dynamo.accumulated_recompile_limit >= 1000
    blocks = [module for module in network.modules() if isinstance(module, ConvBlock)]
    assert words == [{"dynamic": False}] * len(blocks) == [{"dynamic": False}] * 5
    assert all(block._compiled_call_impl is not None for block in blocks)
    assert all(module._compiled_call_impl is None for module in copy.deepcopy(network).modules())
    assert set(network.state_dict()) == set(UNet(UNetConfig(width=4, depth=3), 4).state_dict())


def test_predictions_run_as_if_nothing_was_compiled(monkeypatch: pytest.MonkeyPatch) -> None:
    """And where nothing is, the compiler is not even loaded."""
    seen: list[str] = []
    real = torch.compiler.set_stance
    monkeypatch.setattr(torch.compiler, "set_stance", lambda stance: seen.append(stance) or real(stance))
    with plainly(compiled=False):
        assert seen == []
    with plainly(compiled=True):
        assert seen == ["force_eager"]
