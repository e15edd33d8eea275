"""Rotation: the network is shown a slice turned by a multiple of 90 degrees and says by which."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import ClassVar, Literal

import torch
from torch import Tensor
from torch.nn import functional

from fewlabel.core.settings.base import setting
from fewlabel.data.batch import PretrainBatch
from fewlabel.methods.base import DataFacts, Losses, PretrainMethod, pooled
from fewlabel.methods.pretext import ClassHead, accuracy, watched_rows
from fewlabel.nets.unet import UNetEncoder
from fewlabel.objectives.two_view_order import own_rows

#: Quarter turns, and classes.
TURNS = 4


def four_turns(images: Tensor) -> Tensor:
    """Square images (n, channels, side, side) turned by 0, 90, 180 and 270 degrees counter-clockwise.

    Returns:
        (4n, channels, side, side): all images with no turn, then all with one, and so on. Pixels only move.

    Raises:
        ValueError: If the images are not square.
    """
    if images.shape[2] != images.shape[3]:
        raise ValueError(f"only square images can be turned by 90 degrees, not {tuple(images.shape[2:])}")
    turned = torch.cat([torch.rot90(images, turn, (2, 3)) for turn in range(TURNS)])
    return turned.contiguous(memory_format=torch.channels_last)


def inscribed_circle(side: int) -> Tensor:
    """(side, side) bool: pixels whose centre lies in the circle inside the square; equal under quarter turns."""
    offset = torch.arange(side, dtype=torch.float64) - (side - 1) / 2
    return offset[:, None].square() + offset.square() <= side * side / 4


class Rotation(PretrainMethod):
    """Prediction of image rotations (Gidaris et al., ICLR 2018, arXiv 1803.07728).

    ``-1/4 Σ_k log softmax(head(E(rot90^k(x))))_k``, mean over slices: cross-entropy with all four copies of each slice
    in the batch (Eq. 2 and 3). The head is the mean over the encoder's last map and a linear layer.

    What differs: the features are centred over the batch before the linear layer, so that chance is exactly log 4
    (own choice). Only the first view of a slice is turned, since four copies of one view already cost twice the
    forward pass of a method with two views. Views that are not square are cut to their central square. Corners outside
    of its inscribed circle are set to 0, the slice's mean, because they show the frame and what augmentation left
    empty. Views are flipped from left to right alone, whatever ``augment.flip_vertical`` says: both flips together are
    a half turn, so that with both at 0.5 a slice turned k times and one turned k + 2 times could not be told apart, and
    nothing below log 2 could be learnt. Small random turns stay; ``augment.rotation`` from 45 degrees on would mix up
    neighbouring classes. The position of the patient in the scanner, e.g. of the chest wall beside short-axis hearts,
    still gives the answer away in part.

    Take it as a control that is no contrast.

    Example:
        >>> method = Rotation(Rotation.Config(circle=False), encoder, facts)
        >>> list(method.losses(pretrain_batch).terms)
        ['rotation']
    """

    #: With the other flip it would be a half turn.
    augment_changes: ClassVar[Mapping[str, float]] = {"flip_vertical": 0.0}

    paper = "Gidaris et al., ICLR 2018, arXiv 1803.07728"

    class Config(PretrainMethod.Config):
        """Settings of rotation."""

        name: Literal["rotation"] = "rotation"
        circle: bool = setting(
            True,
            "hide what lies outside of the circle in the square, where the frame tells the turn",
            source="own choice",
        )

    settings: Config

    def __init__(self, config: Config, encoder: UNetEncoder, facts: DataFacts) -> None:
        super().__init__(config, encoder, facts)
        self.head = ClassHead(encoder.config.widths[-1], TURNS)

    def squares(self, images: Tensor) -> Tensor:
        """The central squares of images (n, channels, height, width), 0 outside of the circle if that is hidden."""
        height, width = images.shape[2:]
        side = min(height, width)
        top, left = (height - side) // 2, (width - side) // 2
        square = images[:, :, top : top + side, left : left + side]
        if self.settings.circle:
            square = square.masked_fill(~inscribed_circle(side).to(images.device), 0)
        return square

    def losses(self, batch: PretrainBatch) -> Losses:
        """One term, ``rotation``; see :class:`Rotation`."""
        features = pooled(self.encoder(four_turns(self.squares(batch.views[0])))[-1])
        count = len(batch.slices)
        turns = torch.arange(TURNS, device=features.device).repeat_interleave(count)
        scores = self.head(features)
        loss = functional.cross_entropy(scores, turns)
        # One copy per slice, all turns among them: upright copies alone become equal where the task is solved.
        watched = own_rows(count, features.device)[:count] % TURNS
        rows = features.view(TURNS, count, -1)[watched, torch.arange(count, device=features.device)]
        scalars = {"accuracy": accuracy(scores, turns)}
        return Losses({"rotation": loss}, watched_rows(rows), math.log(TURNS), 0.0, scalars)
