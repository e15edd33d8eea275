"""A discriminator that trains beside the segmentation network, by an optimiser of its own."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Generator, Tensor, nn
from torch.func import functional_call
from torch.nn import functional

from fewlabel.core.full_precision import full_precision
from fewlabel.core.settings.base import setting
from fewlabel.gradients.adam_state_as_buffers import InnerAdam
from fewlabel.nets.discriminator import Discriminator
from fewlabel.objectives.feature_perturbation import channel_factors
from fewlabel.regimes.semi_supervised import SemiSettings

#: What the discriminator says of a prediction.
UNLABELLED, LABELLED = 0, 1


class AdversarySettings(SemiSettings):
    """Settings of regimes with a discriminator."""

    discriminator_width: int = setting(64, "channels of the discriminator's first stage", ge=1, source="SSL4MIS")
    discriminator_rate: float = setting(1e-4, "learning rate of the discriminator's Adam", gt=0, source="SSL4MIS")
    discriminator_dropout: float = setting(
        0.5, "share of channels dropped in the discriminator's own step", ge=0, lt=1, source="SSL4MIS"
    )
    discriminator_image: bool = setting(
        True, "the discriminator sees the image beside the prediction", source="SSL4MIS; SPL's comparison: false"
    )


@dataclass(frozen=True)
class _Kept:
    """What a step of the discriminator needs: rows without gradient, labelled ones first."""

    maps: Tensor
    images: Tensor
    labelled: int
    factors: Tensor


class Adversary(nn.Module):
    """A discriminator D with its Adam, both part of the checkpoint.

    D tells predictions for labelled slices (1) from those for unlabelled ones (0). The segmentation network S is
    trained by :meth:`fooling`; the stage's optimiser does not see D, whose parameters ask for no gradient. D's own step
    is :meth:`learn`, after that of S, on what :meth:`keep` was given: predictions without gradient, so S is not moved.

    Args:
        maps: Channels of a prediction.
        images: Channels of an image.
        ndim: 2 or 3.
        settings: Width, rate and dropout.
    """

    def __init__(self, maps: int, images: int, ndim: int, settings: AdversarySettings) -> None:
        super().__init__()
        channels = images if settings.discriminator_image else 0
        self.discriminator = Discriminator(maps, channels, ndim=ndim, width=settings.discriminator_width)
        self.discriminator.requires_grad_(requires_grad=False)
        self.optimiser = InnerAdam(
            list(self.discriminator.parameters()), settings.discriminator_rate, betas=(0.9, 0.99)
        )
        self.dropout = settings.discriminator_dropout
        self._kept: _Kept | None = None

    def fooling(self, maps: Tensor, images: Tensor) -> tuple[Tensor, Tensor]:
        """S's term: the mean cost for D to say "labelled", and the share of rows of which it does, for the log.

        Args:
            maps: (u, maps, *space) predictions for unlabelled slices, with gradient.
            images: (u, channels, *space) those slices.
        """
        logits = full_precision(self.discriminator(maps, images))
        with torch.autocast(maps.device.type, enabled=False):
            cost = functional.cross_entropy(logits, _targets(logits, LABELLED))
        return cost, (logits.detach().argmax(dim=1) == LABELLED).float().mean()

    def keep(self, maps: Tensor, images: Tensor, labelled: int, generator: Generator) -> None:
        """Remember this step's predictions for D's step; forget them unless both kinds are there.

        Args:
            maps: (n + u, maps, *space), labelled rows first.
            images: (n + u, channels, *space).
            labelled: n.
            generator: CPU generator, equal on all ranks, for D's dropout.
        """
        self._kept = None
        counts = (labelled, len(maps) - labelled)
        if min(counts) > 0:
            channels = self.discriminator.channels
            factors = channel_factors(counts, channels, self.dropout, generator)
            self._kept = _Kept(maps.detach(), images.detach(), labelled, factors.to(maps))

    def learn(self) -> None:
        """D's step, if there is something to learn from: cost(D(labelled), 1) + cost(D(unlabelled), 0)."""
        kept, self._kept = self._kept, None
        if kept is None:
            return
        weights = {name: tensor.detach().requires_grad_() for name, tensor in self.discriminator.named_parameters()}
        with torch.enable_grad():
            logits = functional_call(self.discriminator, weights, (kept.maps, kept.images, kept.factors))
            gradients = torch.autograd.grad(discriminator_cost(logits, kept.labelled), list(weights.values()))
        self.optimiser.step(list(self.discriminator.parameters()), gradients)


def discriminator_cost(logits: Tensor, labelled: int) -> Tensor:
    """Mean cross-entropy of labelled rows towards 1 plus that of unlabelled rows towards 0: 2 log 2 for a fair coin.

    Args:
        logits: (n + u, 2), labelled rows first; both kinds must be there.
        labelled: n.
    """
    logits = full_precision(logits)
    real = functional.cross_entropy(logits[:labelled], _targets(logits[:labelled], LABELLED))
    return real + functional.cross_entropy(logits[labelled:], _targets(logits[labelled:], UNLABELLED))


def _targets(logits: Tensor, kind: int) -> Tensor:
    return torch.full((len(logits),), kind, device=logits.device)
