"""SPL: contrast guided by several meta labels, each pair of positives weighted by how easy it is by now."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor

from fewlabel.core.collective import sum_across
from fewlabel.core.errors import Fault
from fewlabel.core.settings.base import Floats, setting
from fewlabel.data.batch import PretrainBatch
from fewlabel.methods.base import DataFacts, Losses, PretrainMethod
from fewlabel.methods.contrastive import JoinedIds, SliceContrast
from fewlabel.methods.guiding_labels import AUTOMATIC, Labels, choose_labels
from fewlabel.nets.projection_heads import PooledHead
from fewlabel.nets.unet import UNetConfig, UNetEncoder
from fewlabel.objectives.contrastive import anchor_mean, info_nce, pair_costs

Weighting = Literal["soft", "hard"]


def age(step: int, total_steps: int, start: float, end: float, power: float) -> float:
    """γ(t) = γ₀ + (γ₁ - γ₀)(t/T)^p, the cost up to which a pair is learnt from.

    Args:
        step: t, from 0.
        total_steps: T.
        start: γ₀.
        end: γ₁.
        power: p > 0.
    """
    return start + (end - start) * math.pow(min(step / max(total_steps, 1), 1.0), power)


def pair_weights(costs: Tensor, gamma: float, weighting: Weighting) -> Tensor:
    """Weights of pairs of cost ℓ: ``hard`` is 1 for ℓ ≤ γ, else 0; ``soft`` is max(0, 1 - ℓ/γ). No gradient.

    Args:
        costs: (...) ℓ ≥ 0.
        gamma: γ > 0.
        weighting: Which of the two.

    Returns:
        (...) in [0, 1].
    """
    costs = costs.detach()
    if weighting == "hard":
        return (costs <= gamma).to(costs.dtype)
    return (1 - costs / gamma).clamp(0, 1)


def regulariser(weights: Tensor, gamma: float, weighting: Weighting) -> Tensor:
    """R(w), the price of leaving a pair out: :func:`pair_weights` minimises w ℓ + R(w) over w in [0, 1].

    ``hard``: γ (1 - w); ``soft``: γ/2 (1 - w)². The minimum is min(ℓ, γ), or ℓ - ℓ²/2γ up to γ and γ/2 beyond.
    """
    return gamma * (1 - weights) if weighting == "hard" else gamma / 2 * (1 - weights).square()


class SPL(SliceContrast):
    """Self-paced contrastive learning with meta labels (Peng et al., NeurIPS 2021, arXiv 2107.13741).

    For each meta label m with positives P(i), and ℓ_ij the cost -log( e^{z_i·z_j/τ} / Σ_{a≠i} e^{z_i·z_a/τ} )::

        L_m = λ_m · mean over i of 1/|P(i)| Σ_{j∈P(i)} ( w_ij ℓ_ij + R(w_ij) ),   w_ij from ℓ_ij and γ(t), no gradient

    A pair with a large cost may be one that the label has wrong; it enters late or never, as γ grows over the run.
    The gradient is that of Σ w ℓ, whose value (``weighted`` in the log) rises as pairs come in; with the self-paced
    regulariser R, constant for the gradient, a term falls as training proceeds. ``corrected``, on in the public
    configuration, divides the gradient, not the value, by the mean weight of all pairs of all ranks: without it the
    gradient shrinks with the pairs that are left out. Where no pair has a weight the gradient is 0.

    What differs: the terms are averaged, not added, like those of every method here; the head has the encoder's width
    inside and a ReLU (the public code: 256 and LeakyReLU); the position has the parts that ``prepare`` made (4 equal
    ones; the public code takes 3 for ACDC, of unequal size); an optional decoder stage of the code is left out.

    Take it where meta labels are noisy.

    Example:
        >>> method = SPL(SPL.Config(labels=("patient", "position"), label_weights=(1.0, 0.5)), encoder, facts)
        >>> list(method.losses(pretrain_batch).terms)
        ['patient', 'position']
    """

    paper = "Peng et al., NeurIPS 2021, arXiv 2107.13741"
    automatic: ClassVar[tuple[str, ...]] = AUTOMATIC

    class Config(PretrainMethod.Config):
        """Settings of SPL."""

        name: Literal["spl"] = "spl"
        labels: Labels = setting(
            "auto",
            "meta labels that guide; auto takes those of patient, position, phase and quarter (of cines) that at least "
            "half of the slices have",
            source="SPL: the first three",
        )
        label_weights: Floats = setting((), "λ_m of each label, in their order; [] for 1 each", source="SPL")
        weighting: Literal["soft", "hard"] = setting(
            "soft", "a pair's weight falls with its cost, or is 1 up to γ and 0 beyond", source="code of SPL"
        )
        gamma_start: float = setting(
            6.0,
            "γ at step 0; costs start at about log(2N - 1) for N slices, and below that nothing is learnt",
            unit="nats",
            gt=0,
            source="own choice; the code's 3 lies below log 63 = 4.1 of 32 slices",
        )
        gamma_end: float = setting(14.0, "γ at the end", unit="nats", gt=0, source="a configuration of SPL's code")
        gamma_power: float = setting(0.5, "p in γ₀ + (γ₁ - γ₀)(t/T)^p", gt=0, source="code of SPL")
        corrected: bool = setting(
            True, "divide the gradient by the mean weight of the pairs", source="code of SPL: correct_grad"
        )
        temperature: float = setting(0.07, "τ of the contrastive loss", gt=0, source="code of SPL")
        dim: int = setting(256, "size of an embedding", ge=2, source="code of SPL")

    settings: Config

    @classmethod
    def faults(cls, config: Any, network: UNetConfig, facts: DataFacts) -> list[Fault]:  # noqa: ARG003
        """Meta labels that the data lack, and weights that do not fit them."""
        faults: list[Fault] = []
        labels = choose_labels(config.labels, cls.automatic, facts, faults, "SPL")
        given = config.label_weights or (1.0,) * len(labels)
        if not labels and not faults:
            faults.append(Fault("SPL needs at least one meta label, not []", "method.labels", "Name one"))
        if len(given) != len(labels) or min(given, default=1.0) < 0 or not any(given or (1.0,)):
            named = f"for each label ({', '.join(labels) or 'none'})"
            problem = f"must hold one weight {named}, at least 0 and not all 0, not {list(given)}"
            remedy = "Give as many weights as labels, or [] for 1 each"
            faults.append(Fault(problem, "method.label_weights", remedy))
        return faults

    def __init__(self, config: Config, encoder: UNetEncoder, facts: DataFacts) -> None:
        self.refuse(config, encoder.config, facts)
        labels = choose_labels(config.labels, self.automatic, facts, [], "SPL")
        given = config.label_weights or (1.0,) * len(labels)
        super().__init__(
            config,
            encoder,
            facts,
            labels=labels,
            temperature=config.temperature,
            dim=config.dim,
            image_head=PooledHead(encoder.config.widths[-1], config.dim),
        )
        self.label_weights = dict(zip(labels, given, strict=True))

    def gamma(self, batch: PretrainBatch) -> float:
        """γ at the batch's step."""
        settings = self.settings
        return age(batch.step, batch.total_steps, settings.gamma_start, settings.gamma_end, settings.gamma_power)

    def losses(self, batch: PretrainBatch) -> Losses:
        """One term per label; see :class:`SPL`."""
        losses = super().losses(batch)
        return replace(losses, scalars={**losses.scalars, "gamma": self.gamma(batch)})

    def image_loss(
        self, name: str, logits: Tensor, positives: Tensor, candidates: Tensor, batch: PretrainBatch
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """L_m; for the log the mean weight of a pair, Σ w ℓ, and the loss with all weights 1."""
        gamma, weighting = self.gamma(batch), self.settings.weighting
        with torch.no_grad():
            weights = pair_weights(pair_costs(logits, positives, candidates), gamma, weighting)
            sums = sum_across(torch.stack([(weights * positives).sum(), positives.sum().to(weights.dtype)]))
            mean = sums[0] / sums[1].clamp_min(1)
            counts = positives.sum(dim=1)
            prices = regulariser(weights, gamma, weighting).masked_fill(~positives, 0).sum(dim=1)
            price = anchor_mean(prices / counts.clamp_min(1), counts > 0)
            every = info_nce(logits, positives, candidates)
        weighted = info_nce(logits, positives, candidates, weights=weights)
        figures = {"weight": mean, "weighted": weighted, "unweighted": every}
        value = weighted.detach() + price
        if self.settings.corrected:
            weighted = weighted / torch.where(mean > 0, mean, torch.ones_like(mean))
        return self.label_weights[name] * (weighted + (value - weighted.detach())), figures

    def image_bounds(self, joined: JoinedIds, batch: PretrainBatch) -> tuple[float, float]:
        """Equal embeddings give equal costs and weights; no term is below 0."""
        gamma, weighting = self.gamma(batch), self.settings.weighting
        cost = torch.tensor(math.log(2 * len(joined.slices) - 1), dtype=torch.float64)
        weight = pair_weights(cost, gamma, weighting)
        value = float(weight * cost + regulariser(weight, gamma, weighting))
        return value * sum(self.label_weights.values()) / len(self.label_weights), 0.0
