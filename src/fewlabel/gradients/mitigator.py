"""GradMitigator: gradients of several meta labels made to agree, tensor by tensor (GCL Alg. 1, Eq. 3 and 4)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Generator, Tensor

from fewlabel.gradients.combine import Combiner
from fewlabel.gradients.gramian import FlatGradients, gram_matrices
from fewlabel.gradients.groups import Granularity, ordered_pairs, pair_means, parameter_groups
from fewlabel.gradients.mitigator_gram import Mitigation, mitigate, original_cosines, visiting_order

#: Entry of the state that holds the groups' names, in UTF-8, a line each.
NAMES = "names"


class GradMitigator(Combiner):
    """Reconciles the gradients of M loss terms by :func:`fewlabel.gradients.mitigator_gram.mitigate`.

    Parameters outside of the encoder (the heads, which all labels share) and groups of fewer than two numbers (whose
    cosine is always ±1) get the plain mean.

    Args:
        terms: Names of the loss terms, in their order; if empty, they are counted from 1.
        granularity: One decision per parameter ``tensor`` (GCL: "individually"), per ``layer``, or for the ``whole``.
        beta: Weight β of the new cosine in the moving average of the targets.
        initial_target: φ̂ at step 0.
    """

    def __init__(
        self,
        terms: Sequence[str],
        *,
        granularity: Granularity = "tensor",
        beta: float = 0.01,
        initial_target: float = 0.0,
    ) -> None:
        self.terms = tuple(terms)
        self.granularity = granularity
        self.beta = beta
        self.initial_target = initial_target
        self._known: tuple[str, ...] | None = None
        self._groups: list[str] = []
        self._group_of = torch.empty(0, dtype=torch.int64)
        self._state: dict[str, Tensor] = {}
        self._last: tuple[Tensor, Tensor, Mitigation] | None = None

    def combine(
        self, names: Sequence[str], gradients: Sequence[Sequence[Tensor]], generator: Generator
    ) -> list[Tensor]:
        """Combine; see :meth:`Combiner.combine`.

        Raises:
            ValueError: If the number of gradients differs from that of the terms, or a loaded state does not fit.
        """
        self.terms = self.terms or tuple(str(number) for number in range(1, len(gradients) + 1))
        if len(gradients) != len(self.terms):
            raise ValueError(f"{len(self.terms)} terms {self.terms} but {len(gradients)} gradients")
        if self._known != tuple(names):
            self._assign_groups(names, gradients[0])
        flat = [FlatGradients.of(parts) for parts in zip(*gradients, strict=True)]
        weights = torch.ones(len(names), len(self.terms), dtype=torch.float64)
        inside = (self._group_of >= 0).nonzero().squeeze(1)
        if len(inside):
            grams = gram_matrices([flat[index] for index in inside.tolist()])
            total = grams.new_zeros(len(self._groups), *grams.shape[1:])
            total.index_add_(0, self._group_of[inside], grams)
            result = self._advance(total, generator)
            weights[inside] = result.coefficients.sum(dim=1)[self._group_of[inside]]
        return [part.mean(row) for part, row in zip(flat, weights.tolist(), strict=True)]

    def _assign_groups(self, names: Sequence[str], like: Sequence[Tensor]) -> None:
        kept = parameter_groups(names, like, self.granularity)
        self._groups = list(kept)
        self._group_of = torch.full((len(names),), -1, dtype=torch.int64)
        for group, indices in enumerate(kept.values()):
            self._group_of[indices] = group
        self._known = tuple(names)

    def _advance(self, gram: Tensor, generator: Generator) -> Mitigation:
        if not self._state:
            self._state = {key: torch.zeros_like(gram) for key in ("conflicts", "below", "compared", "cosines")}
            self._state["targets"] = torch.full_like(gram, self.initial_target)
        state = self._state
        if state["targets"].shape != gram.shape:
            raise ValueError(
                f"targets for (groups, terms, terms) = {tuple(state['targets'].shape)} do not fit {tuple(gram.shape)}"
            )
        order = visiting_order(gram.shape[0], gram.shape[1], generator)
        result = mitigate(gram, state["targets"], order, beta=self.beta)
        cosines, valid = original_cosines(gram)
        state["targets"] = result.targets
        state["conflicts"] += valid & (cosines < 0)
        state["below"] += result.below
        state["compared"] += valid
        state["cosines"] += cosines
        self._last = (cosines, valid, result)
        return result

    def scalars(self) -> dict[str, float]:
        """Means over groups at the last step, for every ordered pair ``a|b`` of terms.

        ``cosine`` and ``conflict`` (share below 0) compare the original gradients; ``below_target`` (share) and
        ``gain`` (amplification, 1 where unchanged) tell what was done; ``target`` is the mean φ̂. Groups in which a
        gradient vanishes are left out.
        """
        if self._last is None:
            return {}
        cosines, valid, result = self._last
        tables = {
            "cosine": (cosines, valid),
            "conflict": ((cosines < 0).double(), valid),
            "below_target": (result.below.double(), result.compared),
            "target": (result.targets, torch.ones_like(valid)),
            "gain": (result.gains, result.compared),
        }
        return pair_means(self.terms, tables)

    def state(self) -> dict[str, Tensor]:
        """Targets φ̂ and the running sums behind :meth:`details`, each (groups, M, M) float64, and the groups' names."""
        if not self._state:
            return {}
        names = torch.tensor(list("\n".join(self._groups).encode()), dtype=torch.uint8)
        return {**{key: value.clone() for key, value in self._state.items()}, NAMES: names}

    def load_state(self, state: dict[str, Tensor]) -> None:
        """Restore what :meth:`state` gave."""
        tables = {key: value for key, value in state.items() if key != NAMES}
        self._state = {key: value.to("cpu", torch.float64).clone() for key, value in tables.items()}
        if NAMES in state:
            self._groups = bytes(state[NAMES].tolist()).decode().split("\n")

    def details(self) -> dict[str, Any]:
        """Per tensor (or group), over all steps so far and for every ordered pair ``a|b``.

        ``conflict`` and ``below_target`` are shares of steps, ``cosine`` is the mean over steps, ``target`` the
        present φ̂. Pairs never compared are left out.
        """
        state = self._state
        rows: dict[str, dict[str, float]] = {group: {} for group in self._groups}
        for index, row in enumerate(rows.values() if state else ()):
            for a, b, pair in ordered_pairs(self.terms):
                steps = float(state["compared"][index, a, b])
                if steps > 0:
                    row[f"conflict/{pair}"] = float(state["conflicts"][index, a, b]) / steps
                    row[f"below_target/{pair}"] = float(state["below"][index, a, b]) / steps
                    row[f"cosine/{pair}"] = float(state["cosines"][index, a, b]) / steps
                    row[f"target/{pair}"] = float(state["targets"][index, a, b])
        return {"granularity": self.granularity, "terms": list(self.terms), "tensors": rows}
