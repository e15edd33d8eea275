"""What a fine-tuning works on: data, labels, encoder, network and augmentation; opened once, for model and control."""

from __future__ import annotations

from collections.abc import Iterable

from fewlabel.core.artifact.manifest import Artifact
from fewlabel.core.progress import say
from fewlabel.data.store import PreparedCase, PreparedStore
from fewlabel.nets.unet import UNetConfig
from fewlabel.protocol.label_draws import drawn_labels
from fewlabel.protocol.splits import LabelDraw
from fewlabel.stages._statistics import check_statistics
from fewlabel.stages._volumes import architecture_of, check_encoder, check_slices, say_depth
from fewlabel.stages.finetune.augmentation import fitted_augment
from fewlabel.stages.finetune.network import check_network, say_network
from fewlabel.stages.finetune.settings import FinetuneSettings


class Inputs:
    """The inputs of a fine-tuning.

    Args:
        settings: Settings of the stage.

    Raises:
        SettingsError: If settings do not fit the data or the encoder.
        DataError: If there are not the labels that are asked for.
        ArtifactError: If ``data`` or ``encoder`` is no finished artifact of its kind.
    """

    def __init__(self, settings: FinetuneSettings) -> None:
        self.store = PreparedStore(settings.data)
        self.draw: LabelDraw = drawn_labels(self.store, settings.labelled, settings.draw, settings.subjects)
        self.encoder = None if settings.encoder is None else Artifact.open(settings.encoder, "encoder")
        if self.encoder is not None:
            check_encoder(settings.patch, self.encoder.folder, architecture_of(self.encoder))
        size = self.store.images.shape[2:]
        self.augmentation = fitted_augment(settings, self.store.folder, self.draw.labelled)
        self.network = self._architecture(settings)
        check_network(settings, self.network)
        check_statistics(settings.recalibrate, self.network)
        say_network(settings.network, self.network, settings.encoder)
        if settings.encoder is None:
            say_depth(settings.network, self.network, settings.patch or size)
        if self.augmentation.said:
            say(self.augmentation.said)
        if settings.patch is None:
            check_slices(size, self.network, str(settings.data), settings.view)

    @property
    def hashes(self) -> dict[str, str]:
        """What was opened, as it belongs to the identity of a run."""
        encoder = {} if self.encoder is None else {"encoder_hash": self.encoder.content_hash}
        return {"data_hash": self.store.manifest.content_hash, **encoder}

    def as_built(self, settings: FinetuneSettings) -> FinetuneSettings:
        """The settings with the network and the augmentation that they come to; what is recorded is what is built."""
        return settings.model_copy(update={"network": self.network, "augment": self.augmentation.augment})

    def check(self) -> None:
        """Make sure that the encoder is still the one that was opened.

        Raises:
            ArtifactError: If another one lies there by now.
        """
        if self.encoder is not None:
            self.encoder.check_unchanged()

    def unlabelled(self) -> set[str]:
        """Subjects whose slices may serve without their masks; those of the draw too."""
        parts = self.store.split["parts"]
        held = set(self.draw.validation) | set(parts.get("test", []))
        return (set(parts["train"]) | set(parts["pretrain"])) - held

    def met(self, labelled: Iterable[str], validation: Iterable[PreparedCase]) -> set[str]:
        """Subjects whose images may be met, masks unread, and those whose labels are.

        Args:
            labelled: Whose labels are learnt from.
            validation: Scans that are validated on, and so not met.
        """
        return (self.unlabelled() - {case.subject for case in validation}) | set(labelled)

    def _architecture(self, settings: FinetuneSettings) -> UNetConfig:
        kind = {"in_channels": int(self.store.images.shape[1]), "ndim": 2 if settings.patch is None else 3}
        size = settings.patch or self.store.images.shape[2:]
        network = settings.network.fitted(size) if self.encoder is None else architecture_of(self.encoder)
        return network.model_copy(update=kind)
