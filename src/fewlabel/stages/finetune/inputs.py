"""What a fine-tuning works on: data, labels, encoder, network and augmentation; opened once, for model and control."""

from __future__ import annotations

from collections.abc import Collection, Iterable

from fewlabel.core.artifact.artifact_folder import Artifact
from fewlabel.core.progress import say
from fewlabel.data.store import PreparedCase, PreparedStore
from fewlabel.protocol.splits import LabelDraw
from fewlabel.stages._shape_checks import say_depth
from fewlabel.stages.finetune.checking import check
from fewlabel.stages.finetune.fitted_augmentation import fitted_augment
from fewlabel.stages.finetune.network import say_network
from fewlabel.stages.finetune.settings import FinetuneSettings
from fewlabel.stages.finetune.starting_point import StartingPoint


class Inputs:
    """The inputs of a fine-tuning.

    Args:
        settings: Settings of the stage.
        user_network: Settings of the network that the user gave, as for :func:`check`.

    Raises:
        SettingsError: If settings do not fit the data or the encoder.
        DataError: If there are not the labels that are asked for.
        ArtifactError: If ``data``, ``encoder`` or ``start`` is no finished artifact of its kind.
    """

    def __init__(self, settings: FinetuneSettings, user_network: Collection[str] | None = None) -> None:
        self.store = PreparedStore(settings.data)
        self.encoder = None if settings.encoder is None else Artifact.open(settings.encoder, "encoder")
        self.start = StartingPoint.of(settings.start)
        self.network, self.labels = check(
            settings, self.store, self.encoder, start=self.start, user_network=user_network
        )
        self.draw: LabelDraw = self.labels.draw
        self.augmentation = fitted_augment(settings, self.store.folder, self.draw.labelled)
        say_network(settings.network, self.network, settings.encoder or settings.start)
        if settings.encoder is None and settings.start is None:
            say_depth(settings.network, self.network, settings.patch or self.store.images.shape[2:])
        if self.augmentation.said:
            say(self.augmentation.said)

    @property
    def hashes(self) -> dict[str, str]:
        """What was opened, as it belongs to the identity of a run."""
        encoder = {} if self.encoder is None else {"encoder_hash": self.encoder.content_hash}
        start = {} if self.start is None else {"start_hash": self.start.artifact.content_hash}
        return {"data_hash": self.store.manifest.content_hash, **encoder, **start}

    def as_built(self, settings: FinetuneSettings) -> FinetuneSettings:
        """The settings with the network and the augmentation that they come to; what is recorded is what is built."""
        return settings.model_copy(update={"network": self.network, "augment": self.augmentation.augment})

    def check_unchanged(self) -> None:
        """Make sure that what training starts from is still what was opened.

        Raises:
            ArtifactError: If something else lies there by now.
        """
        for origin in self.origins:
            origin.check_unchanged()

    @property
    def origins(self) -> list[Artifact]:
        """The encoder or the segmenter that training starts from, if any."""
        start = None if self.start is None else self.start.artifact
        return [origin for origin in (self.encoder, start) if origin is not None]

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
