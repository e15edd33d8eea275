"""Whether the settings of a fine-tuning fit the prepared data and the encoder; nothing is trained or written."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from fewlabel.core.artifact.artifact_folder import Artifact
from fewlabel.core.errors import Fault, FewlabelError, SettingsError
from fewlabel.core.plugin_discovery import load_plugin
from fewlabel.data.empty_masks import subjects_without_structure
from fewlabel.data.store import PreparedStore
from fewlabel.engine.optim import warmup_faults
from fewlabel.engine.trackers import missing_trackers
from fewlabel.nets.unet import UNetConfig
from fewlabel.protocol.model_selection import Selection, choose_selection
from fewlabel.protocol.splits import LabelDraw
from fewlabel.protocol.training_eligibility import drawn_labels, labels_of_encoder, training_slices
from fewlabel.regimes.base import Regime
from fewlabel.stages._batch_norm_statistics import statistics_faults
from fewlabel.stages._encoder_to_be_trained import PlannedEncoder
from fewlabel.stages._shape_checks import slice_faults, view_size
from fewlabel.stages.finetune.leave_one_out_choice import choose_expectation, choose_expectation_again
from fewlabel.stages.finetune.network import architecture_of, built_network, encoder_faults, network_faults
from fewlabel.stages.finetune.settings import FinetuneSettings, mode_of, single_rows
from fewlabel.stages.finetune.starting_point import StartingPoint


@dataclass(frozen=True)
class LabelUse:
    """What the labels of a fine-tuning serve for.

    Attributes:
        draw: Labelled and validation patients.
        selection: How the weights are selected.
        left_out: Labelled patients that are left out in turn to estimate what to expect of new ones.
        unseen: Those of them whose labels the segmenter that training goes on from has not met: it scores them as it
            is, without a training.
    """

    draw: LabelDraw
    selection: Selection
    left_out: tuple[str, ...] = ()
    unseen: tuple[str, ...] = ()

    @property
    def expects(self) -> bool:
        """Whether there is an estimate."""
        return bool(self.left_out)

    @property
    def left_out_fits(self) -> int:
        """Trainings that leave a patient out."""
        every = self.selection == "leave_one_out"
        return len(self.draw.labelled) if every else len(self.left_out) - len(self.unseen)

    @property
    def subjects(self) -> set[str]:
        """Subjects whose labels are learnt from or selected by."""
        return {*self.draw.labelled, *(self.draw.validation if self.selection == "held_out" else ())}


def check(
    settings: FinetuneSettings,
    store: PreparedStore,
    encoder: Artifact | PlannedEncoder | None = None,
    *,
    start: StartingPoint | None = None,
    user_network: Collection[str] | None = None,
    steps_open: bool = False,
) -> tuple[UNetConfig, LabelUse]:
    """The network to build and the use of the labels, once it is sure that the settings fit the data and the encoder.

    Args:
        settings: Settings of the stage.
        store: The prepared data.
        encoder: What training starts from, or will once it is trained; None for random weights.
        start: The segmenter of ``settings.start``, where it is open already.
        user_network: Settings of the network that the user gave, which encoder or start must not contradict; None for
            all that are set.
        steps_open: Whether another number of steps is chosen later, so that the warm-up is held against none yet.

    Raises:
        SettingsError: With every fault: of the draw, its selection, the network, the encoder, sides of the images, what
            the regime cannot work with, and the warm-up.
        DataError: If there are not the labels that are asked for; with all other faults.
    """
    size = store.images.shape[2:]
    start = start or StartingPoint.of(settings.start)
    origin = encoder if start is None else PlannedEncoder(start.network)
    network = built_network(settings, int(store.images.shape[1]), size, origin)
    faults = [*network_faults(settings, network, user_network), *statistics_faults(settings.recalibrate, network)]
    faults += missing_trackers(settings.tracking)
    faults += [*_regime_faults(settings, network, size, steps_open=steps_open), *_data_faults(settings, store)]
    if origin is not None:
        faults += encoder_faults(
            settings.patch, settings.encoder or settings.start, architecture_of(origin), single_rows(settings)
        )
    if start is not None:
        faults += start.faults(store, settings.members, str(settings.start))
    if settings.patch is None:
        faults += slice_faults(size, network, str(settings.data), settings.view, single=single_rows(settings))
    try:
        labels = _label_use(settings, store, encoder, start)
    except FewlabelError as error:
        if not faults:
            raise
        raise type(error)("These settings do not fit the data:", [*faults, *error.faults]) from error
    if faults:
        raise SettingsError("These settings are not valid:", faults)
    return network, labels


def _regime_faults(
    settings: FinetuneSettings, network: UNetConfig, size: Sequence[int], *, steps_open: bool
) -> list[Fault]:
    """What the regime cannot work with, and a warm-up that one of its phases would not live to the end of.

    Args:
        settings: Settings of the stage.
        network: The network, as it is built.
        size: (height, width) of the prepared slices.
        steps_open: Whether the number of steps is open.
    """
    config = settings.regime
    regime: type[Regime] = load_plugin("fewlabel.regimes", config.name)
    learnt_from = settings.patch or view_size(settings.view, size) or size
    faults = regime.faults(config, network, learnt_from)
    return faults if steps_open else [*faults, *steps_faults(settings)]


def steps_faults(settings: FinetuneSettings) -> list[Fault]:
    """A fault where a phase of the run or of its control would not live to the end of the warm-up; needs no data.

    Args:
        settings: Settings of the stage, ``steps`` as they are to be.
    """
    config = settings.regime
    regime: type[Regime] = load_plugin("fewlabel.regimes", config.name)
    pretrained = {mode_of(settings) != "scratch", *([False] if settings.control else [])}
    lengths = [regime.phase_lengths(config, settings.steps, pretrained=each) for each in pretrained]
    return warmup_faults(settings.optimiser, [steps for each in lengths for steps in each])


def _data_faults(settings: FinetuneSettings, store: PreparedStore) -> list[Fault]:
    """What the regime cannot work with in the prepared data."""
    regime: type[Regime] = load_plugin("fewlabel.regimes", settings.regime.name)
    try:
        indices = training_slices(store, ("train", "pretrain"))
    except FewlabelError:
        # Told by whoever draws the labelled patients.
        return []
    meta_labels = {name: store.classes_among(name, indices) for name in store.meta_labels}
    return regime.data_faults(settings.regime, meta_labels, settings.unlabelled_batch or settings.batch)


def _label_use(
    settings: FinetuneSettings,
    store: PreparedStore,
    encoder: Artifact | PlannedEncoder | None,
    start: StartingPoint | None,
) -> LabelUse:
    draw = drawn_labels(store, settings.labelled, settings.draw, settings.subjects)
    if start is not None:
        selection = choose_selection(settings.validation, draw, sorted(start.known & set(draw.labelled)))
        left_out = start.can_leave_out(draw.labelled)
        if subjects_without_structure(store) >= set(left_out):
            # A mask without any structure says nothing of what to expect by itself.
            left_out = ()
        left_out = choose_expectation_again(settings.expect, selection, left_out, str(settings.start))
        return LabelUse(draw, selection, left_out, start.unseen(left_out))
    if encoder is None or settings.mode == "scratch":
        known: tuple[str, ...] = ()
    elif isinstance(encoder, PlannedEncoder):
        known = encoder.subjects
    else:
        known = labels_of_encoder(
            encoder,
            draw.labelled,
            rule="An encoder that learnt from labels may have seen those of this draw only",
            remedy=f"Pre-train with subjects=[{','.join(draw.labelled)}], or fine-tune on its draw",
        )
    selection = choose_selection(settings.validation, draw, known)
    expects = choose_expectation(settings.expect, draw, selection, store, known)
    return LabelUse(draw, selection, draw.labelled if expects else ())
