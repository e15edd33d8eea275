"""Settings of augmentation, and the presets of pre-training and of fine-tuning."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Self

from fewlabel.core.errors import Fault, SettingsError
from fewlabel.core.settings.base import Settings, default_of, setting
from fewlabel.data.anatomy_warps import AnatomyConfig
from fewlabel.data.synthetic_slices import SynthesisConfig

_GEOMETRY = "after the code of PCL and SPL"
#: Limits that are off unless they are given, with the value that is off and one that is not: each has a probability.
_OFF = {"low_resolution": (1.0, 2), "inverted_gamma": (1.0, 1.7)}


class AugmentConfig(Settings):
    """Augmentation; the defaults are those of pre-training. A factor of 1 or a limit of 0 switches a part off."""

    flip_horizontal: float = setting(0.5, "probability of a left-right flip", ge=0, le=1, source=_GEOMETRY)
    flip_vertical: float = setting(0.5, "probability of an up-down flip", ge=0, le=1, source=_GEOMETRY)
    rotation: float = setting(30.0, "largest rotation either way", unit="degrees", ge=0, le=180, source="own choice")
    scale_low: float = setting(0.7, "smallest magnification; drawn log-uniformly", gt=0.1, le=1, source=_GEOMETRY)
    scale_high: float = setting(1.3, "largest magnification", ge=1, lt=10, source=_GEOMETRY)
    crop: float = setting(
        0.8, "smallest side of the random crop as a share of the image's; 1 is no crop", gt=0.1, le=1, source=_GEOMETRY
    )
    translation: float = setting(0.0, "largest added shift as a share of the side", ge=0, le=0.5, source="own choice")
    elastic_probability: float = setting(0.67, "probability of an elastic deformation", ge=0, le=1, source=_GEOMETRY)
    elastic: float = setting(
        0.25,
        "largest displacement of a control point as a share of their spacing; below 0.48 no field folds",
        ge=0,
        lt=0.48,
        source="bound: Choi & Lee 2000; value: own choice",
    )
    elastic_intervals: int = setting(4, "control intervals across the image", ge=1, le=32, source="own choice")
    brightness: float = setting(
        0.05, "largest shift of intensities on [0, 1]", ge=0, le=0.5, source="own choice, see decision 0005"
    )
    contrast_low: float = setting(0.5, "smallest factor about the slice's mean", gt=0, le=1, source=_GEOMETRY)
    contrast_high: float = setting(1.5, "largest factor about the slice's mean", ge=1, lt=10, source=_GEOMETRY)
    gamma: float = setting(
        1.3,
        "largest exponent g, drawn log-uniformly in [1/g, g]",
        ge=1,
        le=4,
        source="own choice: [0.5, 2] collapsed in trials",
    )
    gamma_probability: float = setting(0.3, "probability of a gamma change", ge=0, le=1, source="own choice")
    noise: float = setting(0.03, "largest standard deviation of Gaussian noise", ge=0, le=1, source="own choice")
    noise_probability: float = setting(0.2, "probability of noise", ge=0, le=1, source="own choice")
    blur: float = setting(1.0, "largest Gaussian width; the smallest is half of it", unit="pixels", ge=0, le=2)
    blur_probability: float = setting(0.1, "probability of a blur", ge=0, le=1, source="own choice")
    low_resolution: float = setting(
        1.0, "largest factor by which pixels become coarser before they are enlarged again", ge=1, le=8, source="off"
    )
    low_resolution_probability: float = setting(0.0, "probability of a low resolution", ge=0, le=1, source="off")
    inverted_gamma: float = setting(
        1.0, "largest exponent g of a gamma change of the negative, drawn log-uniformly in [1/g, g]", ge=1, le=4
    )
    inverted_gamma_probability: float = setting(
        0.0, "probability of a gamma change of the negative", ge=0, le=1, source="off"
    )
    bias: float = setting(
        0.0,
        "standard deviation of the logarithm of a smooth field that multiplies the slice; within a slice it is half of "
        "that, the rest is a gain, which standardising undoes",
        ge=0,
        le=1,
        source="off",
    )
    random_convolutions_probability: float = setting(
        0.0,
        "probability that a standardised slice is blended with itself behind random convolutions",
        ge=0,
        le=1,
        source="off; GIN (Ouyang et al., TMI 2022): 1",
    )
    gain: float = setting(
        1.0, "largest factor of a standardised slice, drawn log-uniformly in [1/g, g]", ge=1, lt=4, source="off"
    )
    shift: float = setting(
        0.0,
        "standard deviation of what is added to a standardised slice",
        unit="standard deviations of the slice",
        ge=0,
        le=2,
        source="off",
    )
    anatomy: AnatomyConfig = setting(AnatomyConfig(), "random changes of the anatomy of labelled slices")
    synthesis: SynthesisConfig = setting(SynthesisConfig(), "synthetic slices made from the masks of labelled ones")

    @classmethod
    def parse(cls, values: Mapping[str, Any], *, where: str = "", base: Settings | None = None) -> Self:
        """As for all settings; a probability of what is off is refused unless its limit is given too.

        A limit that *is* given may be off: so is a part switched off, whatever a recipe says of its probability.
        """
        faults = [
            Fault(
                f"{values[f'{limit}_probability']} has no effect: {limit} is {off:g}, which is off",
                f"{where}{limit}_probability",
                f"Give {where}{limit} too, such as {where}{limit}={example}",
            )
            for limit, (off, example) in _OFF.items()
            if _above_zero(values.get(f"{limit}_probability"))
            and limit not in values
            and default_of(cls, limit, base) == off
        ]
        try:
            built = super().parse(values, where=where, base=base)
        except SettingsError as error:
            raise SettingsError(error.message, [*error.faults, *faults]) from None
        if faults:
            raise SettingsError("These settings are not valid:", faults)
        return built


def _above_zero(value: Any) -> bool:
    return isinstance(value, int | float) and value > 0


def pretraining_augmentation() -> AugmentConfig:
    """The default of pre-training."""
    return AugmentConfig()


def finetuning_augmentation() -> AugmentConfig:
    """The default of fine-tuning: as far as other patients are from the few that are labelled.

    Geometry without flips (a mirrored organ is another one), whose ranges fine-tuning widens to how scans of the data
    set lie to each other; intensities that survive the standardisation of slices; other anatomies of the labelled
    structures.
    """
    return AugmentConfig(
        flip_horizontal=0.0,
        flip_vertical=0.0,
        rotation=20.0,
        scale_low=0.8,
        scale_high=1.25,
        crop=1.0,
        translation=0.05,
        elastic_probability=0.5,
        elastic=0.2,
        brightness=0.0,
        contrast_low=1.0,
        contrast_high=1.0,
        gamma=2.0,
        gamma_probability=0.5,
        noise=0.05,
        noise_probability=0.3,
        blur=1.2,
        blur_probability=0.25,
        inverted_gamma=1.7,
        inverted_gamma_probability=0.2,
        bias=0.15,
        random_convolutions_probability=0.5,
        gain=1.5,
        shift=0.3,
        anatomy=AnatomyConfig(probability=0.67),
    )
