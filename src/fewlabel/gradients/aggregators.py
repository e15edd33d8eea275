"""Other papers' gradient combiners beside GradMitigator, by torchjd: PCGrad, GradVac, MGDA, UPGrad.

torchjd aggregates the rows of a Jacobian J by weights that depend on J Jᵀ alone. Here the Jacobian of a group of
parameter tensors is its flattened gradients, one row per term, and J Jᵀ is computed once by
:func:`fewlabel.gradients.gramian.gram_matrices`, so that the gradients are touched twice and never copied.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from torch import Generator, Tensor

from fewlabel.gradients.combine import Combine, Combiner, MeanCombiner
from fewlabel.gradients.gramian import FlatGradients, gram_matrices
from fewlabel.gradients.groups import Granularity, pair_means, parameter_groups
from fewlabel.gradients.mitigator import GradMitigator
from fewlabel.gradients.mitigator_gram import original_cosines

Aggregation = Literal["pcgrad", "gradvac", "mgda", "upgrad"]


@dataclass(frozen=True)
class _Rule:
    """How torchjd's weighting of one paper is used.

    Attributes:
        build: Makes the weighting, given GradVac's β.
        granularity: What the paper decides on at once.
        summed: The paper adds the modified gradients, so its weights sum to M where no terms conflict, not to 1.
        stateful: The weighting remembers something between steps.
    """

    build: Callable[[float], Any]
    granularity: Granularity
    summed: bool = False
    stateful: bool = False


def _pcgrad(_: float) -> Any:
    from torchjd.aggregation import PCGradWeighting

    return PCGradWeighting()


def _gradvac(beta: float) -> Any:
    from torchjd.aggregation import GradVacWeighting

    return GradVacWeighting(beta=beta)


def _mgda(_: float) -> Any:
    from torchjd.aggregation import MGDAWeighting

    return MGDAWeighting()


def _upgrad(_: float) -> Any:
    from torchjd.aggregation import UPGradWeighting

    return UPGradWeighting(projector=dual_cone_weights)


_RULES: dict[Aggregation, _Rule] = {
    "pcgrad": _Rule(_pcgrad, "whole", summed=True),
    "gradvac": _Rule(_gradvac, "layer", summed=True, stateful=True),
    "mgda": _Rule(_mgda, "whole"),
    "upgrad": _Rule(_upgrad, "whole"),
}


class Aggregator(Combiner):
    """One of torchjd's aggregators of gradients that may conflict.

    * ``pcgrad`` (Yu et al., NeurIPS 2020, arXiv 2001.06782, Alg. 1): from each gradient, the part that opposes another
      is taken out, the others in random order; over the whole encoder.
    * ``gradvac`` (Wang et al., ICLR 2021, arXiv 2010.05874): each pair is held to a moving average of its cosine;
      layer by layer ("all_layer"), β 0.01, targets from 0.
    * ``mgda`` (Désidéri, C. R. Math. 2012; Sener & Koltun, NeurIPS 2018, arXiv 1810.04650, Alg. 2): the shortest
      vector in the convex hull of the gradients; over the whole encoder, which all terms share.
    * ``upgrad`` (Quinton & Rey, arXiv 2406.16232): the mean of the gradients, each projected onto the cone of vectors
      that oppose none; over the whole encoder.

    What differs: PCGrad and GradVac add the modified gradients in their papers; here they are averaged, so that terms
    that agree give the mean of all combiners and no learning rate has to follow the choice. Heads get the plain mean,
    as with GradMitigator, and so do groups in which all gradients vanish or a number is not finite. UPGrad's quadratic
    program is solved as non-negative least squares by SciPy, exactly and without torchjd's small regularisation: its
    default solver is under the GPL.

    Random orders come from the generator passed to :meth:`combine`; the global generator is left as it was.

    Args:
        name: Which.
        terms: Names of the loss terms, for the log; if empty, they are counted from 1.
        beta: GradVac's weight of the new cosine in the moving average.
    """

    def __init__(self, name: Aggregation, terms: Sequence[str] = (), *, beta: float = 0.01) -> None:
        self.name = name
        self.terms = tuple(terms)
        self.beta = beta
        self.rule = _RULES[name]
        self._shared = self.rule.build(beta)
        self._own: dict[str, Any] = {}
        self._last: tuple[Tensor, Tensor] | None = None

    def combine(
        self, names: Sequence[str], gradients: Sequence[Sequence[Tensor]], generator: Generator
    ) -> list[Tensor]:
        """Combine; see :meth:`Combiner.combine`."""
        count = len(gradients)
        self.terms = self.terms or tuple(str(number) for number in range(1, count + 1))
        flat = [FlatGradients.of(parts) for parts in zip(*gradients, strict=True)]
        weights = torch.ones(len(names), count, dtype=torch.float64)
        groups = parameter_groups(names, gradients[0], self.rule.granularity) if count > 1 else {}
        if groups:
            grams = torch.stack([gram_matrices([flat[i] for i in indices]).sum(0) for indices in groups.values()])
            seed = int(torch.randint(2**63 - 1, (), generator=generator))
            rows = self._weights(list(groups), grams, seed)
            for row, indices in zip(rows, groups.values(), strict=True):
                weights[indices] = row
            self._last = (grams, rows)
        return [part.mean(row) for part, row in zip(flat, weights.tolist(), strict=True)]

    def _weights(self, groups: Sequence[str], grams: Tensor, seed: int) -> Tensor:
        """Weights (K, M) that :meth:`FlatGradients.mean` expects: all 1 is the plain mean."""
        count = grams.shape[1]
        weights = torch.ones(grams.shape[:2], dtype=torch.float64)
        # All rules depend on directions and ratios of lengths alone; torchjd adds constants to lengths.
        scales = grams.diagonal(dim1=1, dim2=2).mean(dim=1)
        usable = torch.isfinite(grams).flatten(1).all(dim=1) & (scales > 0)
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(seed)
            for index in usable.nonzero().flatten().tolist():
                weighting = self._weighting(f"{groups[index]}/{count}")
                row = weighting(grams[index] / scales[index])
                weights[index] = row if self.rule.summed else row * count
        return weights

    def _weighting(self, key: str) -> Any:
        if not self.rule.stateful:
            return self._shared
        if key not in self._own:
            self._own[key] = self.rule.build(self.beta)
        return self._own[key]

    def scalars(self) -> dict[str, float]:
        """Means over groups at the last step: each term's ``weight``, and ``cosine`` and ``conflict`` of pairs.

        Weights are relative to the plain mean, in which each is 1.
        """
        if self._last is None:
            return {}
        grams, weights = self._last
        if len(self.terms) != grams.shape[1]:
            return {}
        cosines, valid = original_cosines(grams)
        figures = {f"weight/{term}": float(weights[:, index].mean()) for index, term in enumerate(self.terms)}
        tables = {"cosine": (cosines, valid), "conflict": ((cosines < 0).double(), valid)}
        return {**figures, **pair_means(self.terms, tables)}

    def state(self) -> dict[str, Tensor]:
        """GradVac's moving averages, ``layer/M/name`` → (M, M) float64; empty for the others."""
        return {
            f"{key}/{name}": tensor.clone()
            for key, weighting in self._own.items()
            for name, tensor in weighting.state_dict().items()
        }

    def load_state(self, state: dict[str, Tensor]) -> None:
        """Restore what :meth:`state` gave."""
        self._own = {}
        for path, tensor in state.items():
            key, _, name = path.rpartition("/")
            weighting = self.rule.build(self.beta)
            # torchjd makes the buffer when it first sees a Gramian.
            with torch.random.fork_rng(devices=[]):
                weighting(torch.eye(len(tensor), dtype=torch.float64))
            weighting.load_state_dict({name: tensor.to("cpu", torch.float64)})
            self._own[key] = weighting


def dual_cone_weights(weights: Tensor, gram: Tensor) -> Tensor:
    """For each row u of ``weights``, the w ≥ u that minimises wᵀ G w: Jᵀw is Jᵀu projected onto the dual cone of J.

    With G = RᵀR and w = u + x this is min ‖R x + R u‖ over x ≥ 0 (Quinton & Rey, Prop. 1).

    Args:
        weights: (..., M).
        gram: (M, M) G, positive semi-definite.

    Returns:
        (..., M).
    """
    from scipy.optimize import nnls

    values, vectors = torch.linalg.eigh(gram.double())
    root = (vectors * values.clamp_min(0).sqrt()).T.numpy()
    rows = weights.double().reshape(-1, weights.shape[-1]).numpy()
    solutions = [row + nnls(root, -root @ row)[0] for row in rows]
    return torch.from_numpy(np.stack(solutions)).to(weights.dtype).reshape(weights.shape)


def build_combiner(
    name: Combine,
    terms: Sequence[str] = (),
    *,
    granularity: Granularity = "tensor",
    beta: float = 0.01,
    initial_target: float = 0.0,
) -> Combiner:
    """A combiner by name.

    Args:
        name: ``mean``, ``mitigator``, ``pcgrad``, ``gradvac``, ``mgda`` or ``upgrad``.
        terms: Names of the loss terms, in their order, for the log; if empty, they are counted from 1.
        granularity: GradMitigator's; the others keep that of their papers.
        beta: Weight of the new cosine in the moving averages of GradMitigator and GradVac.
        initial_target: GradMitigator's targets at step 0.
    """
    if name == "mean":
        return MeanCombiner()
    if name == "mitigator":
        return GradMitigator(terms, granularity=granularity, beta=beta, initial_target=initial_target)
    return Aggregator(name, terms, beta=beta)
