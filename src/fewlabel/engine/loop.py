"""The training loop shared by pre-training and fine-tuning."""

from __future__ import annotations

import math
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import FrameType
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from fewlabel.core.collective import any_rank, rank, sum_across, world_size
from fewlabel.core.errors import MemoryLimitError, RunStoppedError
from fewlabel.core.progress import task
from fewlabel.core.rng import stream_seed
from fewlabel.engine.checkpoint import Checkpointer
from fewlabel.engine.collapse_monitor import not_finite
from fewlabel.engine.optim import OptimiserConfig, learning_rate, set_rate
from fewlabel.engine.record import Record
from fewlabel.engine.stalled_processes import stacks_if_stalled
from fewlabel.engine.step import apply_gradients, total_norm


@dataclass
class StepResult:
    """What a stage's step function gives back.

    Attributes:
        loss: This rank's scalar loss, detached.
        gradients: One tensor per parameter, already averaged over ranks and combined; None for one that rests.
        slices: Store indices in the batch, for messages.
        values: Figures for the record; computed on logged steps only.
    """

    loss: Tensor
    gradients: Sequence[Tensor | None]
    slices: Tensor
    values: Callable[[], Mapping[str, Any]] = dict


@dataclass
class Loop:
    """Runs optimisation steps from ``first_step`` to ``total_steps``.

    Attributes:
        title: Shown beside the progress bar.
        optimiser: Its optimiser.
        config: Learning rate, clipping.
        total_steps: Length of the run.
        stop: Step at which to end earlier on the same schedule; None runs it all.
        seed: Seed of the run; reseeds the global generator each step (dropout).
        checkpointer: Saves the state by time.
        record: Receives logged steps.
        log_every: Steps between two rows of the record.
        after_step: What belongs to a step and follows the update, e.g. momentum twins; called with the step.
        between: What comes between two steps and is none of them, e.g. validation; called with the step just done.
        schedule: First step and length of the stage that a step belongs to; None for one from the first step to the
            last. A stage has a schedule of the rate and moments of the optimiser of its own.
        facts: JSON values kept in checkpoints; ``after_step`` and ``between`` may change them.
    """

    title: str
    optimiser: Optimizer
    config: OptimiserConfig
    total_steps: int
    seed: int
    checkpointer: Checkpointer
    record: Record
    log_every: int = 10
    after_step: Callable[[int], None] | None = None
    between: Callable[[int], None] | None = None
    schedule: Callable[[int], tuple[int, int]] | None = None
    facts: dict[str, Any] = field(default_factory=dict)
    stop: int | None = None

    def run(self, step_function: Callable[[int], StepResult], first_step: int = 0) -> None:
        """Train.

        Raises:
            DivergedError: At the first non-finite loss or gradient, or by the step function.
            RunStoppedError: After Ctrl-C or SIGTERM, once the state is saved.
            MemoryLimitError: If the device runs out of memory.
        """
        parameters = [p for group in self.optimiser.param_groups for p in group["params"]]
        end = self.total_steps if self.stop is None else min(self.stop, self.total_steps)
        with task(self.title, end, first_step) as bar, _stop_flag() as stopped, stacks_if_stalled() as alive:
            step = first_step
            try:
                while step < end:
                    alive()
                    started = time.perf_counter()
                    torch.manual_seed(stream_seed(self.seed, "global", step, rank()))
                    begun, length = (0, self.total_steps) if self.schedule is None else self.schedule(step)
                    if 0 < step == begun:
                        # Moments of another loss's gradients, often far larger, would shrink this stage's steps.
                        self.optimiser.state.clear()
                    set_rate(self.optimiser, learning_rate(self.config, step - begun, length))
                    result = step_function(step)
                    norm = total_norm(result.gradients)
                    loss = float(sum_across(result.loss.float()) / world_size())
                    self._guard(loss, norm, step, result.slices)
                    apply_gradients(parameters, result.gradients, norm, self.config.clip)
                    self.optimiser.step()
                    self.optimiser.zero_grad(set_to_none=True)
                    logged = step % self.log_every == 0 or step == end - 1
                    values = result.values() if logged else {}
                    if self.after_step is not None:
                        self.after_step(step)
                    if logged:
                        self._log(step, loss, float(norm), values, time.perf_counter() - started)
                    if self.between is not None:
                        self.between(step)
                    step += 1
                    bar.advance(1, f"loss {loss:.3f}")
                    if any_rank(stopped.is_set()):
                        self.checkpointer.save(step, self.facts)
                        done = f"Stopped after step {step} of {end}"
                        raise RunStoppedError(f"{done}; the state is saved, continue with --resume.")
                    if step < end and self.checkpointer.due():
                        self.checkpointer.save(step, self.facts)
            except torch.OutOfMemoryError as error:
                raise MemoryLimitError(
                    f"The device ran out of memory at step {step}: lower batch, size or network.width ({error})."
                ) from error

    def _guard(self, loss: float, norm: Tensor, step: int, slices: Tensor) -> None:
        # Loss and gradients were averaged over ranks, so all ranks see the same numbers and stop together.
        value = float(norm)
        if not (math.isfinite(loss) and math.isfinite(value)):
            # Nothing is saved: buffers have already seen the activations of this step.
            raise not_finite(loss, value, step, slices.tolist(), self.checkpointer.saved)

    def _log(self, step: int, loss: float, norm: float, values: Mapping[str, Any], seconds: float) -> None:
        own = {"loss": loss, "lr": self.optimiser.param_groups[0]["lr"], "gradient_norm": norm, "seconds": seconds}
        self.record.add(step, {**own, **values})


@contextmanager
def _stop_flag() -> Iterator[threading.Event]:
    """An event set by the first Ctrl-C or SIGTERM; a second Ctrl-C stops at once."""
    flag = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield flag
        return
    before = {sign: signal.getsignal(sign) for sign in (signal.SIGINT, signal.SIGTERM)}

    def handle(number: int, frame: FrameType | None) -> None:
        if flag.is_set() and callable(before[signal.SIGINT]):
            signal.default_int_handler(number, frame)
        flag.set()

    for sign in before:
        signal.signal(sign, handle)
    try:
        yield flag
    finally:
        for sign, handler in before.items():
            signal.signal(sign, handler)
