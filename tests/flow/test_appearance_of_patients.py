"""Changes of intensity against real patients: do views of one show the muscle as bright as it is in the others?"""

from __future__ import annotations

import numpy as np
import pytest
import torch

from fewlabel.data.augment import Augmenter
from fewlabel.data.augment_settings import AugmentConfig, finetuning_augmentation, pretraining_augmentation
from fewlabel.data.intensity_changes import standardise
from fewlabel.data.store import PreparedStore
from fewlabel.stages import prepare
from kit.scans import acdc_subset

MYOCARDIUM = 2
#: The intensities of pre-training.
INTENSITIES = {
    name: getattr(pretraining_augmentation(), name)
    for name in (
        "brightness", "contrast_low", "contrast_high", "gamma", "gamma_probability", "noise", "noise_probability",
        "blur", "blur_probability", "inverted_gamma_probability", "bias", "random_convolutions_probability", "gain",
        "shift",
    )
}  # fmt: skip
#: Intensities alone.
STILL = {
    "flip_horizontal": 0.0, "flip_vertical": 0.0, "rotation": 0.0, "scale_low": 1.0, "scale_high": 1.0, "crop": 1.0,
    "translation": 0.0, "elastic_probability": 0.0,
}  # fmt: skip
PATIENTS = tuple(range(4, 100, 8))


@pytest.fixture(scope="module")
def store(shared_data, tmp_path_factory):
    if not (shared_data / "acdc").is_dir():
        pytest.skip("the scans of ACDC are not beside this checkout")
    folder = tmp_path_factory.mktemp("acdc")
    data = acdc_subset(folder / "data", shared_data, PATIENTS)
    where = {"data": str(data), "out": str(folder / "prepared"), "size": [128, 128], "spacing": [1.5, 1.5]}
    return PreparedStore(prepare.run(prepare.PrepareSettings.parse(where)))


def medians(images, masks):
    """Of the myocardium, in each slice."""
    return [float(np.median(image[mask == MYOCARDIUM])) for image, mask in zip(images, masks, strict=True)]


def covered(store, config, labelled, draws=6):
    """Share of the other patients whose median lies within the middle 95 % of those of views of one patient."""
    muscle = (np.asarray(store.labels) == MYOCARDIUM).sum(axis=(1, 2)) >= 20
    rows = {
        name: np.flatnonzero((store.slices["subject"] == name) & muscle) for name in store.slices["subject"].unique()
    }
    augmenter = Augmenter(config)
    own = torch.from_numpy(store.images[rows[labelled]].astype(np.float32))
    masks = torch.from_numpy(store.labels[rows[labelled]])
    seen = []
    for draw in range(draws):
        transform = augmenter.sample(len(own), tuple(own.shape[-2:]), torch.Generator().manual_seed(draw))
        views, warped = augmenter.apply(own, transform, masks)
        seen += medians(augmenter.finish(views, transform)[:, 0].numpy(), warped.numpy())
    low, high = np.quantile(seen, [0.025, 0.975])
    others = []
    for name, chosen in rows.items():
        if name != labelled:
            images = standardise(torch.from_numpy(store.images[chosen].astype(np.float32)))[:, 0].numpy()
            others.append(np.median(images[store.labels[chosen] == MYOCARDIUM]))
    return float(np.mean((low <= np.array(others)) & (np.array(others) <= high)))


@pytest.mark.parametrize(("labelled", "far"), [("patient004", False), ("patient060", True), ("patient068", True)])
def test_the_views_of_one_patient_reach_most_of_the_others(store, labelled, far):
    assert store.slices["subject"].nunique() == len(PATIENTS)
    default = AugmentConfig(**{**finetuning_augmentation().model_dump(), **STILL})
    assert covered(store, default, labelled) >= 0.75
    if far:
        # With intensities that the standardisation undoes they do not.
        assert covered(store, AugmentConfig(**{**default.model_dump(), **INTENSITIES}), labelled) < 0.6
