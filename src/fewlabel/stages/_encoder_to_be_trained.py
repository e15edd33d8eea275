"""What a stage must know of an encoder that is still to be trained."""

from __future__ import annotations

from dataclasses import dataclass

from fewlabel.nets.unet import UNetConfig


@dataclass(frozen=True)
class PlannedEncoder:
    """An encoder to come.

    Attributes:
        network: The network that it will be the first half of.
        subjects: Subjects whose labels it will learn from.
    """

    network: UNetConfig
    subjects: tuple[str, ...] = ()
