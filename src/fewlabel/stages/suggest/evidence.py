"""What is known of each scan before anybody annotates it: where it lies, and how far networks disagree on it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from fewlabel.core.artifact.artifact_folder import Artifact
from fewlabel.core.errors import ArtifactError, DataError, Fault
from fewlabel.core.progress import say, task
from fewlabel.data.masks_added_later import FOLDER, look_through
from fewlabel.data.store import PreparedCase, PreparedStore
from fewlabel.engine.embedding import embed_scans, pixel_embedding
from fewlabel.engine.inference import WINDOW, predict_volume
from fewlabel.engine.runtime import Precision
from fewlabel.engine.weight_files import left_out_file, load_encoder, load_segmenter
from fewlabel.nets.unet import UNet
from fewlabel.protocol.segmenter_store_compatibility import plan_differences
from fewlabel.scoring.disagreement import pairwise_disagreement
from fewlabel.stages._model_or_control import FOLDERS, round_in_use, segmenter_in_use
from fewlabel.stages._segmenter import Segmenter

#: Networks beside the one in use that are asked, at most.
MOST_LEFT_OUT = 4


@dataclass(frozen=True)
class Evidence:
    """The training scans of a folder, and what was trained on them.

    Attributes:
        store: The prepared data.
        cases: Training scans, in store order; no scan of the test or validation part.
        annotated: Ids of those whose mask is known to the network, or waits to be.
        segmenters: The one in use first, then its rival, if any.
        encoder: The pre-trained encoder; None without.
    """

    store: PreparedStore
    cases: tuple[PreparedCase, ...]
    annotated: frozenset[str]
    segmenters: tuple[Segmenter, ...]
    encoder: Artifact | None

    @classmethod
    def of(cls, folder: Path) -> Evidence:
        """What lies in a run folder, or in a prepared folder alone.

        Raises:
            ArtifactError: If neither lies there, or a network was made for other pixels.
        """
        alone = Artifact.find(folder, "prepared")
        prepared = folder / "prepared"
        if alone is None and not prepared.is_dir():
            fault = Fault(f"{folder} is neither a run folder nor a prepared folder", remedy="Give RUN of train")
            raise ArtifactError("There is nothing to suggest from:", [fault])
        _, latest = (0, None) if alone else round_in_use(folder)
        prepared = prepared if latest is None else latest.with_name("prepared")
        store = PreparedStore(alone if alone is not None else prepared)
        encoder = None if alone else Artifact.find(folder / "encoder", "encoder")
        segmenters = () if alone else _segmenters(folder, store)
        parts = store.split["parts"]
        held = {*parts.get("test", ()), *parts.get("validation", ())}
        training = {*parts.get("train", ()), *parts.get("pretrain", ())} - held
        cases = tuple(case for case in store.cases if case.subject in training)
        learnt = set(segmenters[0].facts.get("labelled_subjects", ())) if segmenters else training
        annotated = {case.id for case in cases if case.label is not None and case.subject in learnt}
        if not alone:
            looked = look_through(folder / FOLDER, store.cases)
            annotated |= {*looked.masks, *looked.several}
            for stray in looked.strays:
                say(f"Left out of the masks: {stray}")
        return cls(store, cases, frozenset(annotated), segmenters, encoder)

    @property
    def known(self) -> list[int]:
        """Places of the annotated scans among the cases."""
        return [place for place, case in enumerate(self.cases) if case.id in self.annotated]

    @property
    def candidates(self) -> list[int]:
        """Places of all others.

        Raises:
            DataError: If there are none.
        """
        places = [place for place, case in enumerate(self.cases) if case.id not in self.annotated]
        if not places:
            fault = Fault("every training scan is annotated", str(self.store.folder), "Add scans, and train again")
            raise DataError("There is nothing to suggest:", [fault])
        return places

    def embedding(self, device: str) -> tuple[NDArray[np.float64], str]:
        """(scans, dim) of all cases, and whose it is, in words."""
        place = torch.device(device)
        if self.encoder is not None:
            encoder, _ = load_encoder(self.encoder)
            return embed_scans(encoder, self.store, self.cases, place, WINDOW), "the pre-trained encoder"
        if self.segmenters:
            first = self.segmenters[0]
            network = first.networks[0]
            return embed_scans(network.encoder, self.store, self.cases, place, first.window), "the segmentation network"
        return pixel_embedding(self.store, self.cases), "small pictures of the scans, as no encoder was trained"

    def disagreement(self, places: Sequence[int], device: str, precision: Precision) -> tuple[dict[int, float], str]:
        """Place → 1 minus the mean Dice of all pairs of networks, and which networks these are, in words.

        One network alone is asked how sure it is: 1 minus its mean probability within what it finds, 1 where that is
        nothing.
        """
        first, *others = self.segmenters
        members = [(network, first.window) for network in first.networks]
        words = f"{len(members)} members of the segmentation network"
        if len(members) == 1 and (left_out := _left_out_networks(first)):
            members += [(network, first.window) for network in left_out]
            words = f"the network and {len(left_out)} that left a patient out"
        elif len(members) == 1 and others:
            members += [(network, others[0].window) for network in others[0].networks]
            words = "the model and its control"
        elif len(members) == 1:
            words = "the one network, by its own confidence"
        values = {}
        with task("predict scans", len(places)) as bar:
            for place in places:
                case = self.cases[place]
                images = np.asarray(self.store.images[case.start : case.stop], np.float32).swapaxes(0, 1)
                values[place] = _unsure(members, images, device, precision)
                bar.advance(note=case.id)
        return values, words


def _left_out_networks(segmenter: Segmenter) -> list[UNet]:
    """Networks that each left a patient out, at most so many: what the data of one patient change shows in them."""
    subjects = segmenter.facts.get("labelled_subjects", ())
    files = [left_out_file(subject) for subject in subjects]
    there = [file for file in files if file in segmenter.artifact.manifest.files]
    return [load_segmenter(segmenter.artifact, file=file)[0] for file in there[-MOST_LEFT_OUT:]]


def _segmenters(folder: Path, store: PreparedStore) -> tuple[Segmenter, ...]:
    inside, _ = segmenter_in_use(folder)
    arms = [folder / name for name in FOLDERS.values()]
    # A round goes on from one of the arms, so neither is its rival.
    places = [inside, *(arm for arm in arms if arm != inside)] if inside in arms else [inside]
    artifacts = [Artifact.find(place, "segmenter") for place in places]
    made = tuple(Segmenter.load(artifact) for artifact in artifacts if artifact is not None)
    faults = [
        Fault(f"{one.folder} was made for other pixels: {', '.join(apart)}", remedy="Train again")
        for one in made
        if (apart := plan_differences(one.facts, store.plan))
    ]
    if faults:
        raise ArtifactError("The networks do not fit the prepared scans:", faults)
    return made


def _unsure(
    members: Sequence[tuple[UNet, tuple[int, int, int]]],
    images: NDArray[np.float32],
    device: str,
    precision: Precision,
) -> float:
    shares = [predict_volume(one, images, device=device, precision=precision, window=size) for one, size in members]
    masks = [each.argmax(axis=0).astype(np.uint8) for each in shares]
    if len(masks) > 1:
        return float(pairwise_disagreement(masks, len(shares[0])).mean())
    inside = shares[0].max(axis=0)[masks[0] > 0]
    return 1.0 - float(inside.mean(dtype=np.float64)) if inside.size else 1.0
