"""Whether the settings of a fine-tuning fit the prepared data and the encoder; nothing is trained or written."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from fewlabel.core.artifact.artifact_folder import Artifact
from fewlabel.core.errors import FewlabelError, SettingsError
from fewlabel.data.store import PreparedStore
from fewlabel.nets.unet import UNetConfig
from fewlabel.protocol.model_selection import Selection, choose_selection
from fewlabel.protocol.splits import LabelDraw
from fewlabel.protocol.training_eligibility import drawn_labels, labels_of_encoder
from fewlabel.stages._batch_norm_statistics import statistics_faults
from fewlabel.stages._encoder_to_be_trained import PlannedEncoder
from fewlabel.stages._shape_checks import slice_faults
from fewlabel.stages.finetune.leave_one_out_choice import choose_expectation
from fewlabel.stages.finetune.network import architecture_of, built_network, encoder_faults, network_faults
from fewlabel.stages.finetune.settings import FinetuneSettings


@dataclass(frozen=True)
class LabelUse:
    """What the labels of a fine-tuning serve for.

    Attributes:
        draw: Labelled and validation patients.
        selection: How the weights are selected.
        expects: Whether labelled patients are left out in turn to estimate what to expect of new ones.
    """

    draw: LabelDraw
    selection: Selection
    expects: bool

    @property
    def subjects(self) -> set[str]:
        """Subjects whose labels are learnt from or selected by."""
        return {*self.draw.labelled, *(self.draw.validation if self.selection == "held_out" else ())}


def check(
    settings: FinetuneSettings,
    store: PreparedStore,
    encoder: Artifact | PlannedEncoder | None = None,
    *,
    user_network: Collection[str] | None = None,
) -> tuple[UNetConfig, LabelUse]:
    """The network to build and the use of the labels, once it is sure that the settings fit the data and the encoder.

    Args:
        settings: Settings of the stage.
        store: The prepared data.
        encoder: What training starts from, or will once it is trained; None for random weights.
        user_network: Settings of the network that the user gave, which the encoder must not contradict; None for all
            that are set.

    Raises:
        SettingsError: With every fault: of the draw, its selection, the network, the encoder, and sides of the images.
        DataError: If there are not the labels that are asked for; with all other faults.
    """
    size = store.images.shape[2:]
    network = built_network(settings, int(store.images.shape[1]), size, encoder)
    faults = [*network_faults(settings, network, user_network), *statistics_faults(settings.recalibrate, network)]
    if encoder is not None:
        faults += encoder_faults(settings.patch, settings.encoder, architecture_of(encoder))
    if settings.patch is None:
        faults += slice_faults(size, network, str(settings.data), settings.view)
    try:
        labels = _label_use(settings, store, encoder)
    except FewlabelError as error:
        if not faults:
            raise
        raise type(error)("These settings do not fit the data:", [*faults, *error.faults]) from error
    if faults:
        raise SettingsError("These settings are not valid:", faults)
    return network, labels


def _label_use(settings: FinetuneSettings, store: PreparedStore, encoder: Artifact | PlannedEncoder | None) -> LabelUse:
    draw = drawn_labels(store, settings.labelled, settings.draw, settings.subjects)
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
    return LabelUse(draw, selection, choose_expectation(settings.expect, draw, selection, store, known))
