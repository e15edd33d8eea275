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


class Inputs:
    """The inputs of a fine-tuning.

    Args:
        settings: Settings of the stage.
        user_network: Settings of the network that the user gave, as for :func:`check`.

    Raises:
        SettingsError: If settings do not fit the data or the encoder.
        DataError: If there are not the labels that are asked for.
        ArtifactError: If ``data`` or ``encoder`` is no finished artifact of its kind.
    """

    def __init__(self, settings: FinetuneSettings, user_network: Collection[str] | None = None) -> None:
        self.store = PreparedStore(settings.data)
        self.encoder = None if settings.encoder is None else Artifact.open(settings.encoder, "encoder")
        self.network, self.labels = check(settings, self.store, self.encoder, user_network=user_network)
        self.draw: LabelDraw = self.labels.draw
        self.augmentation = fitted_augment(settings, self.store.folder, self.draw.labelled)
        say_network(settings.network, self.network, settings.encoder)
        if settings.encoder is None:
            say_depth(settings.network, self.network, settings.patch or self.store.images.shape[2:])
        if self.augmentation.said:
            say(self.augmentation.said)

    @property
    def hashes(self) -> dict[str, str]:
        """What was opened, as it belongs to the identity of a run."""
        encoder = {} if self.encoder is None else {"encoder_hash": self.encoder.content_hash}
        return {"data_hash": self.store.manifest.content_hash, **encoder}

    def as_built(self, settings: FinetuneSettings) -> FinetuneSettings:
        """The settings with the network and the augmentation that they come to; what is recorded is what is built."""
        return settings.model_copy(update={"network": self.network, "augment": self.augmentation.augment})

    def check_unchanged(self) -> None:
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
