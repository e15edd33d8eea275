"""The contract of a pre-training method."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

from torch import Tensor, nn
from torch.nn import functional

from fewlabel.core.errors import Fault, SettingsError
from fewlabel.core.full_precision import full_precision
from fewlabel.core.settings.base import Settings, setting
from fewlabel.data.batch import PretrainBatch
from fewlabel.gradients.aggregators import build_combiner
from fewlabel.gradients.combine import Combine, Combiner
from fewlabel.nets.unet import UNetConfig, UNetDecoder, UNetEncoder


@dataclass(frozen=True)
class Losses:
    """What one forward pass of a method gives.

    Attributes:
        terms: Named scalar losses. Several terms are reconciled by the method's combiner.
        embeddings: Detached (rows, dim) unit vectors of this rank, watched for collapse.
        collapsed: Value of the mean of the terms if all embeddings were equal; None if the method has no such value.
        lower_bound: Smallest value the mean of the terms can take on this batch; None if unknown.
        scalars: Further figures for the log.
    """

    terms: dict[str, Tensor]
    embeddings: Tensor
    collapsed: float | None = None
    lower_bound: float | None = None
    scalars: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class StepPlan:
    """What one step of a method needs, for methods that train in stages.

    Attributes:
        labelled: Draw the batch from the labelled slices of the draw, with masks, instead of from all slices.
        same_geometry: Both views of a slice share their geometry and differ in intensities only.
        slices: Slices of the joined batch; None for the run's ``batch``.
    """

    labelled: bool = False
    same_geometry: bool = False
    slices: int | None = None


@dataclass(frozen=True)
class DataFacts:
    """What a method may know of the data before the first batch.

    Attributes:
        meta_labels: Name → number of classes of each slice meta label in the pre-training part, missing ones apart.
        slices: Number of slices in the pre-training part.
        image_size: (height, width) of a view, in pixels.
        store_slices: Number of slices in the whole store; ``PretrainBatch.slices`` are below it.
        classes: Number of segmentation classes, background included; 0 if the store has no labels.
        missing: Name → share of slices of the pre-training part without that meta label; 0 where it is not given.
    """

    meta_labels: Mapping[str, int]
    slices: int
    image_size: tuple[int, int]
    store_slices: int = 0
    classes: int = 0
    missing: Mapping[str, float] = field(default_factory=dict)


class PretrainMethod(nn.Module, ABC):
    """One pre-training method: its heads on a given encoder, and its losses.

    ``losses`` may depend on the batch, the method's tensors and ``batch.generator`` alone: all state is parameters or
    buffers, so that a checkpoint holds it. The examples of methods begin with ``docs/examples.py``.

    Args:
        config: The method's own settings.
        encoder: The U-Net encoder to train; kept as ``self.encoder``.
        facts: What is known of the data.

    Raises:
        SettingsError: With the :meth:`faults` of the settings, the network and the data.
    """

    class Config(Settings):
        """Settings of a method; ``name`` is its id."""

        name: str = ""
        combine: Combine = setting(
            "mean",
            "how the gradients of several loss terms become one on the encoder; no effect where there is one term",
            source="PCGrad 2001.06782, GradVac 2010.05874, MGDA 1810.04650, UPGrad 2406.16232, mitigator: GCL Alg. 1",
        )

    #: Meta labels without which the method cannot run at all.
    needs_metadata: ClassVar[tuple[str, ...]] = ()
    #: Whether pre-training uses segmentation labels.
    uses_labels: ClassVar[bool] = False
    #: What of the augmentation would give the task a label that nothing can tell, and its value instead, by the names
    #: of ``AugmentConfig``; whatever the settings say.
    augment_changes: ClassVar[Mapping[str, float]] = {}
    #: Whether training hides parts of slices, so that statistics of batch normalisation have to be taken anew from
    #: whole ones in the end; a call of the method is then the pass to take them in.
    hides_pixels: ClassVar[bool] = False
    #: Where the method comes from, for ``fewlabel methods``.
    paper: ClassVar[str] = ""

    def __init__(self, config: Config, encoder: UNetEncoder, facts: DataFacts) -> None:
        self.refuse(config, encoder.config, facts)
        super().__init__()
        self.settings = config
        self.encoder = encoder
        self.facts = facts

    @classmethod
    def faults(cls, config: Any, network: UNetConfig, facts: DataFacts) -> list[Fault]:  # noqa: ARG003
        """What the method cannot work with; by default there is no such thing.

        It is asked before any training, and again when the method is built. Keys are those of ``pretrain``, such as
        ``method.NAME`` and ``network.depth``.

        Args:
            config: The method's own settings.
            network: Architecture of the encoder, as it is built.
            facts: What is known of the data.
        """
        return []

    @classmethod
    def refuse(cls, config: Any, network: UNetConfig, facts: DataFacts) -> None:
        """Raise the :meth:`faults`, if there are any; for methods that make parts of themselves out of the facts.

        Args:
            config: As for :meth:`faults`.
            network: As for :meth:`faults`.
            facts: As for :meth:`faults`.

        Raises:
            SettingsError: With all of them.
        """
        faults = cls.faults(config, network, facts)
        if faults:
            raise SettingsError("These settings do not suit the method:", faults)

    @abstractmethod
    def losses(self, batch: PretrainBatch) -> Losses:
        """Losses of this rank's rows, as means over its own anchors (see ``fewlabel.core.collective``)."""

    @property
    def uses_metadata(self) -> tuple[str, ...]:
        """Meta labels that change the loss under the present settings; they decide what ``sampler.kind=auto`` is."""
        return ()

    def embed(self, images: Tensor) -> Tensor:
        """Unit vectors (n, dim) of slices (n, channels, height, width): pooled bottleneck map of the encoder."""
        return functional.normalize(pooled(self.encoder(images)[-1]), dim=1)

    def combiner(self) -> Combiner:
        """How the gradients of several terms become one: ``settings.combine``, with the defaults of its paper."""
        return build_combiner(self.settings.combine)

    def plan(self, step: int, total_steps: int) -> StepPlan:  # noqa: ARG002
        """What a step needs; by default a batch of all slices, everything trained."""
        return StepPlan()

    @classmethod
    def phase_lengths(cls, config: Any, total_steps: int) -> tuple[int, ...]:  # noqa: ARG003
        """Steps of each stage of a run, in order; by default the whole run is one.

        In every stage the rate runs through its whole schedule, warm-up included, and the optimiser starts without
        moments: for papers whose stages are trainings of their own. It is asked before any training, for a warm-up must
        be shorter than every stage.

        Args:
            config: The method's own settings.
            total_steps: Steps of the run, 1 or more.

        Returns:
            Numbers of 1 or more, whose sum is ``total_steps``.
        """
        return (total_steps,)

    def training_phase(self, step: int, total_steps: int) -> tuple[int, int]:
        """First step and length of the stage, of :meth:`phase_lengths`, that a step belongs to."""
        begun, lengths = 0, self.phase_lengths(self.settings, total_steps)
        for length in lengths[:-1]:
            if step < begun + length:
                return begun, length
            begun += length
        return begun, lengths[-1]

    def pretrained_decoder(self) -> UNetDecoder | None:
        """Decoder blocks to leave beside the encoder; None for methods that train the encoder alone."""
        return None

    def after_step(self, step: int, total_steps: int) -> None:
        """Called once the optimiser has stepped: momentum twins, queues, schedules."""


def pooled(features: Tensor) -> Tensor:
    """Mean over space of a map (n, channels, *space), in full precision: (n, channels)."""
    return full_precision(features).flatten(2).mean(dim=2)


PLUGIN_BASE = PretrainMethod
