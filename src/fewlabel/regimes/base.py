"""The contract of a fine-tuning regime."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from torch import Tensor, nn

from fewlabel.core.errors import Fault, SettingsError
from fewlabel.core.settings.base import Settings
from fewlabel.data.batch import SegmentationBatch
from fewlabel.nets.unet import UNet, UNetConfig, UNetEncoder


class Regime(nn.Module, ABC):
    """One way to train a segmentation network from few labels.

    ``losses`` may depend on the batch, the regime's tensors and ``batch.generator`` alone: all state is parameters or
    buffers (teachers, memories, a discriminator and the moments of its optimiser), so that a checkpoint holds it.
    Parameters that require gradients are trained by the stage's optimiser; all others are the regime's own business.
    The examples of regimes begin with ``docs/examples.py``.

    Args:
        config: The regime's own settings.
        network: The network to train; kept as ``self.network``.
        pretrained: Whether its encoder comes from pre-training; a second network then shares those weights.

    Raises:
        SettingsError: With the :meth:`faults` of the settings and the network.
    """

    class Config(Settings):
        """Settings of a regime; ``name`` is its id."""

        name: str = ""

    #: Whether the regime asks for slices without labels.
    uses_unlabelled: ClassVar[bool] = False
    #: Views of each unlabelled slice: 1, or more that share their geometry and differ in intensities.
    unlabelled_views: ClassVar[int] = 1
    #: Whether the first of them is weak: in the geometry of the others, with the intensities of the slice itself.
    weak_view: ClassVar[bool] = False
    #: Whether volumes work as well as slices.
    supports_3d: ClassVar[bool] = False
    #: Settings under which the regime is supervised training exactly.
    supervised_when: ClassVar[Mapping[str, Any]] = {}
    #: Where the regime comes from, for ``fewlabel regimes``.
    paper: ClassVar[str] = ""

    def __init__(self, config: Config, network: UNet, *, pretrained: bool = False) -> None:
        super().__init__()
        self.settings = config
        self._architecture = network.config
        self.refuse()
        self.network = network
        self.pretrained = pretrained
        #: Whether the last :meth:`after_step` put other weights in place, so that the optimiser's moments are void.
        self.replaced = False

    @classmethod
    def faults(cls, config: Any, network: UNetConfig, size: Sequence[int] | None = None) -> list[Fault]:  # noqa: ARG003
        """What the regime cannot work with; by default there is no such thing.

        It is asked before any training, even that of an encoder, and again when the regime is built. Keys are those of
        ``finetune``, such as ``regime.NAME`` and ``network.depth``.

        Args:
            config: The regime's own settings.
            network: Architecture of the network, as it is built.
            size: Sides of the slices (height, width) or patches (depth, height, width) of a batch, in pixels or voxels;
                None where they are not known.
        """
        return []

    def refuse(self, size: Sequence[int] | None = None) -> None:
        """Raise the :meth:`faults`, if there are any.

        Args:
            size: As for :meth:`faults`.

        Raises:
            SettingsError: With all of them.
        """
        faults = self.faults(self.settings, self._architecture, size)
        if faults:
            raise SettingsError("These settings do not suit the regime:", faults)

    @classmethod
    def data_faults(cls, config: Any, meta_labels: Mapping[str, int], rows: int) -> list[Fault]:  # noqa: ARG003
        """What the regime cannot work with in the data; asked before any training, usually nothing.

        Args:
            config: The regime's own settings.
            meta_labels: Name → number of classes of each meta label among the slices that are trained on.
            rows: Unlabelled rows of a joined batch.
        """
        return []

    @property
    def uses_metadata(self) -> tuple[str, ...]:
        """Meta labels of the unlabelled rows that batches have to bring."""
        return ()

    @abstractmethod
    def losses(self, batch: SegmentationBatch) -> dict[str, Tensor]:
        """Named scalar terms whose sum is minimised.

        Each is this rank's share: the mean over ranks is the term of the joined batch (``fewlabel.core.collective``).
        A batch without labelled or without unlabelled rows is fine.
        """

    @classmethod
    def phase_lengths(cls, config: Any, total_steps: int, *, pretrained: bool = False) -> tuple[int, ...]:  # noqa: ARG003
        """Steps of each stage of a run, in order; by default the whole run is one.

        In every stage the rate runs through its whole schedule, and the optimiser starts without moments: for papers
        whose stages are trainings of their own. It is asked before any training, for a warm-up must be shorter than
        every stage.

        Args:
            config: The regime's own settings.
            total_steps: Steps of the run, 1 or more.
            pretrained: Whether the encoder comes from pre-training.

        Returns:
            Numbers of 1 or more, whose sum is ``total_steps``.
        """
        return (total_steps,)

    def training_phase(self, step: int, total_steps: int) -> tuple[int, int]:
        """First step and length of the stage, of :meth:`phase_lengths`, that a step belongs to."""
        begun, lengths = 0, self.phase_lengths(self.settings, total_steps, pretrained=self.pretrained)
        for length in lengths[:-1]:
            if step < begun + length:
                return begun, length
            begun += length
        return begun, lengths[-1]

    def meet_labels(self, pixels: Tensor) -> None:
        """Told before the first step what the labelled slices show; by default nothing comes of it.

        What a regime keeps of it follows from the labels alone, so it belongs in no checkpoint.

        Args:
            pixels: (classes,) int64, labelled pixels of each class in all labelled slices, the same on all processes.
        """

    def metrics(self) -> dict[str, float]:
        """Further figures of the last :meth:`losses` for the log."""
        return {}

    def outcome(self, names: Mapping[int, str], steps: int) -> Mapping[str, Any]:  # noqa: ARG002
        """What the run made of itself that whoever uses the network should know, as JSON values; usually nothing.

        It goes to ``segmenter.json``. ``sentence`` among them, if there is one, is shown to the user at the end of the
        run and in the report. It follows from buffers, so that a resumed run says the same.

        Args:
            names: Class to its name.
            steps: Number of steps that the weights which are kept have seen.
        """
        return {}

    def inference_network(self) -> UNet:
        """The network that predicts after training."""
        return self.network

    def encoders(self) -> tuple[UNetEncoder, ...]:
        """Trained encoders that began as the pre-trained one: those a frozen run keeps, a slower rate is for."""
        return (self.network.encoder,)

    def further_classifiers(self) -> tuple[nn.Module, ...]:
        """Classifiers beside that of the network, of the same classes, that begin at the same biases."""
        return ()

    def undecayed(self) -> tuple[nn.Module, ...]:
        """Modules without weight decay: those that only a very small term reaches.

        Adam adds the decay to the gradient and divides the sum by its own size, so where the gradient is smaller than
        the decay, weights go to 0 at the full rate.
        """
        return ()

    def after_step(self, step: int, total_steps: int) -> None:
        """Called once the optimiser has stepped: teachers, memories, a discriminator's own step."""


PLUGIN_BASE = Regime
