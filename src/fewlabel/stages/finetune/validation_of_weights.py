"""What the weights of a finished segmenter reach on the patients who selected them."""

from __future__ import annotations

import numpy as np

from fewlabel.core.artifact.artifact_folder import Artifact
from fewlabel.data.store import UNLABELLED, PreparedStore
from fewlabel.engine.inference import predict_volume, window_of
from fewlabel.engine.runtime import Precision
from fewlabel.engine.weight_files import load_segmenter
from fewlabel.scoring.component_rule import clean
from fewlabel.scoring.metrics import dice_per_class
from fewlabel.stages._cleaning_rule import prepared_voxel, rule_of


def validated_again(segmenter: Artifact, store: PreparedStore, device: str, precision: Precision) -> tuple[float, int]:
    """Mean Dice over the validation patients and structures, on the prepared grid, as training has it.

    Args:
        segmenter: Of one network, selected by held-out patients.
        store: The prepared data.
        device: Where to predict.
        precision: Of the network.

    Returns:
        The Dice, NaN without any scan, and the number of scans.

    Raises:
        ArtifactError: If the segmenter or the store is damaged.
    """
    network, facts = load_segmenter(segmenter)
    rule, subjects = rule_of(facts), set(facts.get("validation_subjects", ()))
    cases = [case for case in store.cases if case.subject in subjects and case.label is not None]
    dice = []
    for case in cases:
        images = np.asarray(store.images[case.start : case.stop], dtype=np.float32).swapaxes(0, 1)
        # As training validates, with batch normalisation unfolded.
        shares = predict_volume(network, images, device=device, precision=precision, window=window_of(facts))
        cleaned, _ = clean(shares.argmax(axis=0).astype(np.uint8), rule, prepared_voxel(store, case))
        reference = np.asarray(store.labels[case.start : case.stop])
        known = reference != UNLABELLED
        dice.append(float(np.mean(dice_per_class(cleaned[known], reference[known], network.classes))))
    return float(np.mean(dice)) if dice else float("nan"), len(cases)
