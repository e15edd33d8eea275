"""How the gradients of several loss terms become one."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, Literal

from torch import Generator, Tensor

#: The combiners by name; :func:`fewlabel.gradients.aggregators.build_combiner` makes them.
Combine = Literal["mean", "mitigator", "pcgrad", "gradvac", "mgda", "upgrad"]


class Combiner(ABC):
    """Turns one gradient per loss term into one gradient per parameter tensor.

    ``linear`` combiners equal the gradient of the mean of the terms, so one backward pass serves.
    """

    linear: bool = False

    @abstractmethod
    def combine(
        self, names: Sequence[str], gradients: Sequence[Sequence[Tensor]], generator: Generator
    ) -> list[Tensor]:
        """Combine gradients.

        Args:
            names: Name of each parameter tensor, K of them (stable over steps: the key of any state).
            gradients: One sequence of K tensors per loss term, already averaged over ranks.
            generator: CPU generator of this step.

        Returns:
            K tensors shaped like the parameters.
        """

    def scalars(self) -> dict[str, float]:
        """Diagnostics of the last call, for the log."""
        return {}

    def state(self) -> dict[str, Tensor]:
        """Tensors to keep in a checkpoint."""
        return {}

    def load_state(self, state: dict[str, Tensor]) -> None:  # noqa: B027
        """Restore what :meth:`state` gave."""

    def details(self) -> dict[str, Any]:
        """Per-tensor diagnostics of the last call (conflicts by layer), JSON-ready."""
        return {}


class MeanCombiner(Combiner):
    """The plain mean of the terms' gradients."""

    linear = True

    def combine(
        self,
        names: Sequence[str],  # noqa: ARG002
        gradients: Sequence[Sequence[Tensor]],
        generator: Generator,  # noqa: ARG002
    ) -> list[Tensor]:
        """Mean over terms, tensor by tensor."""
        count = len(gradients)
        return [sum(parts[1:], start=parts[0]) / count for parts in zip(*gradients, strict=True)]
