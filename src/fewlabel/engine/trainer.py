"""A trainer: a model with its optimiser, checkpoint, record and loop, resumed where it stopped."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar, cast

import torch
from torch import Tensor, nn

from fewlabel.engine.checkpoint import Checkpointer
from fewlabel.engine.compiling import compile_blocks, settle
from fewlabel.engine.loop import Loop, StepResult
from fewlabel.engine.optim import build_optimiser, check_warmup
from fewlabel.engine.record import Record
from fewlabel.engine.run_folder_state import begun_compiled
from fewlabel.engine.step import gradients_of
from fewlabel.engine.trackers import Trackers
from fewlabel.gradients.combine import Combiner, MeanCombiner

if TYPE_CHECKING:
    from lightning_fabric import Fabric


class TrainedModel(Protocol):
    """What is trained, as the trainer sees it: a torch module such as a pre-training method or a fine-tuning regime."""

    def losses(self, batch: Any) -> Any:
        """Losses of this rank's rows."""

    def training_phase(self, step: int, total_steps: int) -> tuple[int, int]:
        """First step and length of the phase that a step belongs to."""

    def after_step(self, step: int, total_steps: int) -> None:
        """Called once the optimiser has stepped."""


Model = TypeVar("Model", bound=TrainedModel)


class Trainer(ABC, Generic[Model]):
    """Trains one model in one folder.

    Subclasses say where batches come from, which terms are differentiated and what is followed; everything else a
    training needs is here.

    Args:
        model: On the device; parameters that require gradients are trained.
        settings: Settings of a stage that trains.
        fabric: Device and precision.
        folder: Where checkpoints and the record go.
        same: Identity of the run, for resuming.
        title: Shown beside the progress bar.
        combiner: How the gradients of several terms become one; None for their mean.
        factors: Parameters whose rate is a multiple of everyone's.
        undecayed: Parameters without weight decay, beside biases and normalisation.

    Raises:
        SettingsError: If the warm-up is longer than a phase of the training.
    """

    def __init__(
        self,
        model: Model,
        settings: Any,
        fabric: Fabric,
        folder: Path,
        same: Mapping[str, Any],
        *,
        title: str,
        combiner: Combiner | None = None,
        factors: Mapping[Tensor, float] | None = None,
        undecayed: Iterable[Tensor] = (),
    ) -> None:
        check_warmup(settings.optimiser, model.training_phase, settings.steps)
        self.model = model
        self.settings: Any = settings
        self.fabric = fabric
        self.folder = folder
        self.title = title
        self.combiner = combiner or MeanCombiner()
        self._module = cast(nn.Module, model)
        names = {tensor: name for name, tensor in self._module.named_parameters()}
        self.optimiser = build_optimiser(settings.optimiser, names, factors, undecayed)
        # The loop and the combiner see parameters in the optimiser's order.
        self.parameters = [tensor for group in self.optimiser.param_groups for tensor in group["params"]]
        self.names = [names[tensor] for tensor in self.parameters]
        self.checkpointer = Checkpointer(
            folder, same, self._module, self.optimiser, self.combiner, settings.checkpoint_seconds
        )
        #: JSON values that checkpoints keep.
        self.facts: dict[str, Any] = {}
        #: Whether steps are compiled.
        self.compiled = False

    def compile(self) -> None:
        """Compile the steps, before the first of them."""
        compile_blocks(self._module)
        self.compiled = True

    def train(self, stop: int | None = None) -> None:
        """Take all steps that are left, or those up to step ``stop`` of the same schedule.

        Raises:
            FewlabelError: As :meth:`fewlabel.engine.loop.Loop.run`, and as loading a checkpoint.
        """
        first, facts = self.checkpointer.load() if self.settings.resume else (0, {})
        self.facts.update(facts)
        self.train_mode()
        loop, whole = self.loop(first, stop), False
        try:
            loop.run(self.step, first)
            whole = stop is None or stop >= self.settings.steps
        finally:
            loop.record.close(whole=whole)

    def loop(self, first: int, stop: int | None = None) -> Loop:
        """The loop over the steps from ``first`` to the end, or to ``stop`` of the same schedule."""
        settings = self.settings
        asked = settings.tracking
        trackers = Trackers(asked, self.folder, first, settings.record()) if asked else None
        record = Record(self.folder, first, trackers)
        return Loop(
            title=self.title,
            optimiser=self.optimiser,
            config=settings.optimiser,
            total_steps=settings.steps,
            stop=stop,
            seed=settings.seed,
            checkpointer=self.checkpointer,
            record=record,
            log_every=settings.log_every,
            schedule=lambda step: self.model.training_phase(step, settings.steps),
            after_step=self.after_step,
            between=lambda step: self.between(step, record),
            facts=self.facts,
        )

    def step(self, step: int) -> StepResult:
        """Batch, forward pass and gradients."""
        batch = self.batch(step)
        with self.fabric.autocast():
            losses = self.model.losses(batch)
        terms = self.terms(losses)
        loss = torch.stack([term.detach().float() for term in terms.values()]).mean()
        gradients = gradients_of(terms, self.names, self.parameters, self.combiner, batch.generator)
        return StepResult(loss, gradients, batch.slices, self.followed(step, losses, loss))

    @abstractmethod
    def batch(self, step: int) -> Any:
        """This rank's part of the batch of a step, with its store indices and the generator of the step."""

    @abstractmethod
    def terms(self, losses: Any) -> Mapping[str, Tensor]:
        """The scalar terms to differentiate, of which the mean is the loss.

        Args:
            losses: What the model gave.
        """

    @abstractmethod
    def followed(self, step: int, losses: Any, loss: Tensor) -> Callable[[], Mapping[str, Any]]:
        """Look at what a step gave, and say how to find its figures for the record.

        Args:
            step: The step.
            losses: What the model gave.
            loss: This rank's loss, detached.

        Raises:
            DivergedError: If the training should stop.
        """

    def train_mode(self) -> None:
        """Make the model ready for steps."""
        self._module.train()

    def after_step(self, step: int) -> None:
        """What belongs to a step and follows the update."""
        self.model.after_step(step, self.settings.steps)

    def between(self, step: int, record: Record) -> None:
        """What comes after a step and is none, such as validation; by default nothing.

        Args:
            step: The step just done.
            record: Takes rows.
        """


def compiles(settings: Any, folder: Path, kind: str, seconds: Callable[[], float], *, quiet: bool = False) -> bool:
    """Whether the steps of a run are compiled: as it began if it is resumed, else as the settings say.

    Args:
        settings: Settings of a stage that trains.
        folder: Of the run.
        kind: The device.
        seconds: Gives about what the run would take without.
        quiet: Say nothing of a run that begins.

    Raises:
        SettingsError: If they are to be and there is no working compiler.
    """
    begun = begun_compiled(folder) if settings.resume else None
    return settle(settings.compile, begun, kind=kind, precision=settings.precision, seconds=seconds, quiet=quiet)
