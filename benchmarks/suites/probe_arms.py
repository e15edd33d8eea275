"""Arms of the probe: what an encoder was trained by, the most wanted first."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from fewlabel.core.plugin_discovery import load_plugin, plugin_names

#: Steps of pre-training where an arm does not say otherwise, as of the recipe.
STEPS = 500
#: Draws of one labelled patient; an encoder that learns from labels is trained anew for each, so it has fewer.
DRAWS, FEWER = (0, 1, 2, 3, 4), (0, 1, 2)
#: Seeds of encoders that learnt nothing.
RANDOM_SEEDS = (0, 1, 2, 3, 4)
#: Geometry as wide as scans of the data set lie to each other.
WIDE = {
    "rotation": 180.0,
    "scale_low": 0.6,
    "scale_high": 1.6,
    "crop": 1.0,
    "translation": 0.15,
    "elastic_probability": 0.5,
    "elastic": 0.2,
}

Kind = Literal["encoder", "random", "intensities", "places"]


@dataclass(frozen=True)
class Arm:
    """One encoder, or a control.

    Attributes:
        kind: A trained encoder; one with random weights; intensities about a pixel; its place.
        method: Settings of the method over those of the recipe, where it is the recipe's.
        steps: Length of the pre-training.
        pretrain: Further settings of ``pretrain`` over the recipe.
        seeds: Seeds of the encoder.
        of: Another arm, whose encoder is probed with the decoder that it left, or that is as random as itself.
    """

    kind: Kind = "encoder"
    method: Mapping[str, Any] = field(default_factory=dict)
    steps: int = STEPS
    pretrain: Mapping[str, Any] = field(default_factory=dict)
    seeds: tuple[int, ...] = (0,)
    of: str = ""

    @property
    def labels(self) -> bool:
        """Whether the method learns from labels, so that each draw has an encoder of its own."""
        return bool(self.method) and load_plugin("fewlabel.methods", self.method["name"]).uses_labels

    @property
    def draws(self) -> tuple[int, ...]:
        """Draws of labelled patients that are probed."""
        return FEWER if self.labels else DRAWS


def _methods() -> Iterator[tuple[str, Arm]]:
    first = ("gcl", "simclr", "mae", "inpainting", "sscl", "moco")
    known = plugin_names("fewlabel.methods")
    for name in (*first, *(name for name in known if name not in first)):
        yield name, Arm(method={"name": name})


def _variants() -> Iterator[tuple[str, Arm]]:
    for name in ("posicl", "spl"):
        yield f"{name}, temperature 0.5", Arm(method={"name": name, "temperature": 0.5})
        yield f"{name}, plain slices", Arm(method={"name": name}, pretrain={"sampler": {"kind": "slices"}})
        yield f"{name}, 2000 steps", Arm(method={"name": name}, steps=2000)
    for name in ("mae", "inpainting"):
        yield f"{name}, decoder", Arm(method={"name": name}, of=name)
    yield "mae, equal weights", Arm(method={"name": "mae", "weighting": "none"})
    yield "mae, share 0.5", Arm(method={"name": "mae", "share": 0.5})
    yield "mae, wide", Arm(method={"name": "mae"}, pretrain={"augment": WIDE})
    yield "mae, 16 blocks", Arm(method={"name": "mae", "blocks": 16})
    yield "gcl, wide", Arm(method={"name": "gcl"}, pretrain={"augment": WIDE})
    yield "gcl, centre", Arm(method={"name": "gcl", "centre": True})
    yield "gcl, wide, centre", Arm(method={"name": "gcl", "centre": True}, pretrain={"augment": WIDE})
    yield "gcl, no pixels", Arm(method={"name": "gcl", "pixel": False})
    for weight in (0.3, 1.0):
        yield f"gcl, pixel weight {weight:g}", Arm(method={"name": "gcl", "pixel_weight": weight})
    for temperature in (0.1, 0.2, 1.0):
        yield f"gcl, temperature {temperature:g}", Arm(method={"name": "gcl", "temperature": temperature})
    for name in ("simclr", "mae", "gcl"):
        yield f"{name}, 2000 steps", Arm(method={"name": name}, steps=2000)


ARMS: dict[str, Arm] = {
    "random": Arm("random", seeds=RANDOM_SEEDS),
    "random, decoder": Arm("random", seeds=RANDOM_SEEDS, of="random"),
    "intensities": Arm("intensities"),
    "places": Arm("places"),
    **dict(_methods()),
    **dict(_variants()),
}
