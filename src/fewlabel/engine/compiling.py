"""Compiled training steps: where they pay, what a run has decided, and the compiling itself.

Compiled and plain steps round otherwise. So a run decides once, before its first step, all its processes alike; it
writes that down in its folder, and goes by it whenever it is resumed.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from typing import Literal

import torch
from torch import nn

from fewlabel.core.collective import any_rank, rank, world_size
from fewlabel.core.errors import Fault, SettingsError
from fewlabel.core.progress import say
from fewlabel.core.settings.durations import clock
from fewlabel.engine.runtime import Precision, cpu_flags, resolved_precision
from fewlabel.nets.unet import ConvBlock, UNet, UNetConfig, UNetEncoder

Compile = Literal["auto"] | bool
#: Seconds of plain training from which compiling pays: it takes one to two minutes, and about a sixth of a step goes.
PAYS_FROM = 900.0
#: Floating-point operations a second that plain steps of such networks get out of a device: of a CPU with AMX per
#: thread, and of a GPU.
_PACE = {"cpu": 2e11, "cuda": 1e13}
#: Graphs of one piece of code. All blocks share theirs, and one that found no room would be run uncompiled: another
#: one in a resumed run, which compiles in another order.
_GRAPHS = 4096


@dataclass(frozen=True)
class Decision:
    """Whether to compile.

    Attributes:
        on: Whether.
        why: The reason against it where the setting is ``auto``; empty otherwise.
    """

    on: bool
    why: str = ""


def decide(
    asked: Compile, kind: str, precision: Precision, seconds: Callable[[], float], processes: int = 1
) -> Decision:
    """Whether steps are to be compiled on this machine, if there is a compiler.

    Args:
        asked: The setting; ``auto`` compiles where it was measured to pay.
        kind: The device, such as ``cpu`` or ``cuda``.
        precision: The setting of the precision.
        seconds: Gives what the run would take without, about; asked for only where that decides.
        processes: How many train together.
    """
    if asked != "auto":
        return Decision(asked)
    against = unpaid(kind, precision, processes)
    if not against and (length := seconds()) < PAYS_FROM:
        against = f"the run takes about {clock(length)}, and compiling pays from {clock(PAYS_FROM)} on"
    return Decision(not against, against)


def unpaid(kind: str, precision: Precision, processes: int = 1) -> str:
    """Why compiled steps are no faster on this machine, however long the run; empty where they are.

    Args:
        kind: The device.
        precision: The setting of the precision.
        processes: How many train together.
    """
    if processes > 1:
        return "several processes share statistics inside the code to be compiled"
    if kind == "cpu":
        if not {"amx_tile", "amx_bf16"} <= cpu_flags():
            return "on a processor without AMX they were no faster in trials"
        return "" if resolved_precision(precision, kind) == "bf16-mixed" else "AMX does not speed up float32"
    if kind != "cuda":
        return f"they were never measured on {kind}"
    return "" if importlib.util.find_spec("triton") else "triton, which compiles for a GPU, is not installed"


def plain_seconds(network: UNetConfig, classes: int | None, size: tuple[int, ...], rows: int, kind: str) -> float:
    """About what a plain training step takes where compiling pays, by its arithmetic: the same in every run.

    A measured time would decide otherwise from run to run.

    Args:
        network: Architecture.
        classes: Of a segmentation network; None for an encoder alone.
        size: Sides of what it learns from, in pixels or voxels.
        rows: Slices or patches of a step, of one process.
        kind: The device.
    """
    # It takes its time to load, and mostly nobody asks.
    from torch.utils.flop_counter import FlopCounterMode

    with torch.device("meta"):
        built = (UNetEncoder(network) if classes is None else UNet(network, classes)).eval()
        one = torch.empty(1, network.in_channels, *size)
    with FlopCounterMode(display=False) as counted, torch.no_grad():
        built(one)
    pace = _PACE.get(kind, _PACE["cpu"]) * (torch.get_num_threads() if kind == "cpu" else 1)
    # Gradients of maps and of weights cost as much again, each.
    return float(3 * rows * counted.get_total_flops() / pace)


def settle(
    asked: Compile,
    begun: bool | None,
    *,
    kind: str,
    precision: Precision,
    seconds: Callable[[], float],
    quiet: bool = False,
) -> bool:
    """Whether the steps of a run are compiled, and says so. All processes call it, and all get the same.

    A resumed run does what it did when it began, whatever this machine would have it do.

    Args:
        asked: The setting.
        begun: Whether the steps of the run that is resumed are compiled; None for a run that begins. The word of the
            first process counts.
        kind: The device.
        precision: The setting of the precision.
        seconds: As for :func:`decide`.
        quiet: Say nothing of a run that begins.

    Raises:
        SettingsError: If there is no working compiler and somebody asked for one, or the run was begun with one.
    """
    first = rank() == 0
    decision = decide(asked, kind, precision, seconds, world_size())
    resumed = any_rank(first and begun is not None)
    # Machines may differ, and so may what they would decide.
    wanted = any_rank(first and (decision.on if begun is None else begun))
    why = broken(kind) if wanted else ""
    fails = any_rank(bool(why))
    if fails and (resumed or asked != "auto"):
        lack = why or "no working compiler for another process"
        problem = f"the run began with compiled steps, and there is {lack}" if resumed else f"there is {lack}"
        remedy = "Start again in another --out with compile=false" if resumed else "Install one, or give compile=false"
        fault = Fault(problem, "compile", remedy)
        raise SettingsError("Nothing was trained:", [fault])
    on = wanted and not fails
    if resumed and on != decision.on:
        say(f"The run began {'with' if on else 'without'} compiled steps and continues that way.")
    elif not (resumed or quiet):
        if on:
            say("Steps are compiled when they first run, which takes a minute or two.")
        elif asked == "auto":
            say(f"Steps are not compiled: {why or decision.why}.")
    return on


@cache
def broken(kind: str) -> str:
    """What keeps this machine from compiling for a device, as a trial shows; empty where it works."""

    def trial(values: torch.Tensor) -> torch.Tensor:
        return torch.relu(values) + 1

    try:
        torch.compile(trial, dynamic=False)(torch.zeros(8, device=kind))
    except Exception as error:  # noqa: BLE001 whatever a tool chain that is not whole does
        lines = str(error).strip().splitlines() or [type(error).__name__]
        return f"no working compiler ({lines[0].rstrip('.')})"
    return ""


def compile_blocks(module: nn.Module) -> None:
    """Compile the convolution blocks of all networks in a module, for the shapes that come.

    Shapes are never generalised: what a graph computes would hang on what came before it. Nor are buffers of a graph
    taken for other ends, which would forbid a second pass backwards through it.
    """
    import torch._dynamo as dynamo
    from torch._functorch import config as functorch

    dynamo.config.recompile_limit = dynamo.config.accumulated_recompile_limit = _GRAPHS
    functorch.donated_buffer = False
    for block in module.modules():
        if isinstance(block, ConvBlock):
            block.compile(dynamic=False)


@contextmanager
def plainly(compiled: bool) -> Iterator[None]:
    """Within, compiled blocks run as if they were not: predictions come in all shapes, each of which would be compiled.

    Args:
        compiled: Whether there are any.
    """
    if not compiled:
        yield
        return
    with torch.compiler.set_stance("force_eager"):
        yield
