"""How long work takes: steps from the middle of each part of a run, weighed by the parts' lengths."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from torch import nn

from fewlabel.regimes.semi_supervised import resting_steps

#: Length of the run that measured steps are taken from; what counts are the shares of its stages.
NOMINAL = 100_000
#: Measured steps of a stage: as many as go into so many seconds, after one that does not count.
SECONDS, FEWEST, MOST = 3.0, 3, 7

Parts = Sequence[tuple[int, int]]


def parts_of(stage: Callable[[int, int], tuple[int, int]], rest: float = 0.0) -> list[tuple[int, int]]:
    """First step and length of each part of a run whose steps cost alike: its stages, and its rest.

    Args:
        stage: First step and length of the stage that a step of so many belongs to.
        rest: Share of the run, from its start, in which unlabelled slices are left alone.
    """
    borders = {resting_steps(rest, NOMINAL)}
    at = 0
    while at < NOMINAL:
        begun, length = stage(at, NOMINAL)
        borders.add(begun)
        at = begun + length
    firsts = sorted({0, *(border for border in borders if border < NOMINAL)})
    return [(first, last - first) for first, last in zip(firsts, [*firsts[1:], NOMINAL], strict=True)]


def mean_seconds(work: Callable[[int], object], parts: Parts, module: nn.Module) -> float:
    """Seconds of a step as a mean over the run: the fastest of some steps in the middle of each part, by their shares.

    What else the machine does makes steps longer and none shorter. A burst of it, taken for the usual pace, would leave
    a run of an hour with the steps of a few minutes.

    Every step meets the module as it is now: what it would make of itself later, such as a guard that gives up on
    pseudo-labels of random weights, is none of what a run does.

    Args:
        work: Takes one step, given its number.
        parts: First step and length of each part.
        module: Holds all state.
    """
    state = {key: tensor.clone() for key, tensor in module.state_dict().items()}

    def fastest(step: int) -> float:
        def timed() -> float:
            module.load_state_dict(state)
            return seconds_of(lambda: work(step))

        # Kernels are tuned and memory is mapped in the first.
        first = timed()
        measured: list[float] = []
        while len(measured) < min(max(int(SECONDS / max(min([first, *measured]), 1e-6)), FEWEST), MOST):
            measured.append(timed())
        return min(measured)

    return sum(length / NOMINAL * fastest(first + length // 2) for first, length in parts)


def first_seconds(work: Callable[[int], object], parts: Parts, module: nn.Module) -> float:
    """Seconds of the first step in each part of a run, one after the other: what compiling them takes.

    Args:
        work: As for :func:`mean_seconds`, and what it is given leaves the module as it was, too.
        parts: First step and length of each part.
        module: Holds all state.
    """
    state = {key: tensor.clone() for key, tensor in module.state_dict().items()}
    total = 0.0
    for first, length in parts:
        module.load_state_dict(state)
        total += seconds_of(lambda step=first + length // 2: work(step))  # type: ignore[misc]
    module.load_state_dict(state)
    return total


def seconds_of(work: Callable[[], object]) -> float:
    """Seconds that some work takes."""
    started = time.perf_counter()
    work()
    return time.perf_counter() - started
