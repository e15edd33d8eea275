"""A finished segmenter that a fine-tuning goes on from, and which of its weights have never met a patient's labels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fewlabel.core.artifact.artifact_folder import Artifact
from fewlabel.core.errors import Fault
from fewlabel.data.store import PreparedStore
from fewlabel.engine.weight_files import left_out_file, load_segmenter, member_file
from fewlabel.nets.unet import UNet, UNetConfig
from fewlabel.protocol.exposure import KEY as MET
from fewlabel.protocol.segmenter_store_compatibility import plan_differences

#: Key of ``segmenter.json``: what training went on from, and what that was worth.
KEY = "continued"
#: Most patients that are left out again, the last ones of the draw: each costs a training.
MOST_LEFT_OUT = 4


@dataclass(frozen=True)
class StartingPoint:
    """A segmenter to go on from.

    A patient that it never learnt from can be scored by it as by a network of the others. For one that it learnt from,
    that takes the network that left the patient out, where the segmenter has kept it.

    Attributes:
        artifact: As it was opened.
        facts: Content of ``segmenter.json``.
    """

    artifact: Artifact
    facts: dict[str, Any]

    @classmethod
    def of(cls, folder: Path | None) -> StartingPoint | None:
        """The segmenter in a folder; None without a folder.

        Raises:
            ArtifactError: If it is no finished segmenter.
        """
        if folder is None:
            return None
        artifact = Artifact.open(folder, "segmenter")
        return cls(artifact, dict(artifact.json("segmenter.json")))

    @property
    def network(self) -> UNetConfig:
        """Its architecture."""
        return UNetConfig.parse(self.facts["architecture"])

    @property
    def labelled(self) -> tuple[str, ...]:
        """Subjects whose labels it learnt from."""
        return tuple(self.facts.get("labelled_subjects", ()))

    @property
    def met(self) -> set[str]:
        """Subjects whose images it has met."""
        return set(self.facts.get(MET, ()))

    @property
    def known(self) -> set[str]:
        """Subjects whose labels it learnt from or was selected by."""
        return {*self.labelled, *self.facts.get("validation_subjects", ())}

    def unseen(self, subjects: Sequence[str]) -> tuple[str, ...]:
        """Those of whose labels it knows nothing."""
        return tuple(subject for subject in subjects if subject not in self.known)

    def can_leave_out(self, subjects: Sequence[str]) -> tuple[str, ...]:
        """Those that can be scored by a network which never met their labels: at most so many as it takes to train."""
        if len(subjects) < 2:
            return ()
        kept = [subject for subject in subjects if left_out_file(subject) in self.artifact.manifest.files]
        return (*kept[-MOST_LEFT_OUT:], *self.unseen(subjects))

    def faults(self, store: PreparedStore, members: int, where: str) -> list[Fault]:
        """What keeps a fine-tuning on these data from going on from it.

        Args:
            store: The prepared data.
            members: Networks of the fine-tuning.
            where: How the user named it.
        """
        faults = [
            Fault(f"{where} was made for {key}={then!r}, but the data have {now!r}", "start", "Give data of its own")
            for key, (then, now) in plan_differences(self.facts, store.plan).items()
        ]
        there = int(self.facts.get("members", 1))
        if members > there:
            problem = f"{where} has {there} networks, fewer than the {members} asked for"
            faults.append(Fault(problem, "members", f"Give members={there}"))
        return faults

    def load_into(self, network: UNet, member: int, left_out: str = "") -> None:
        """Give its weights to a network of its architecture.

        Args:
            network: Whose weights are replaced.
            member: Which of its networks, from 0.
            left_out: A patient that the weights must not have learnt from; empty for none.
        """
        file = left_out_file(left_out) if left_out and left_out in self.known else member_file(member)
        network.load_state_dict(load_segmenter(self.artifact, file=file)[0].state_dict())
