"""Where the processor waits for what a device computes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Self

from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

#: What a number is read by, and what sizes its result by the values it is given.
WAITING = {"aten::_local_scalar_dense", "aten::nonzero", "aten::bincount", "aten::_unique2", "aten::masked_select"}


class Waits(TorchDispatchMode):
    """Names what within would wait for a device, in order, wherever the tensors are."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[str] = []

    def __enter__(self) -> Self:
        """Listen."""
        self.tolist = Tensor.tolist

        def tolist(tensor: Tensor) -> Any:
            self.seen.append("tolist")
            return self.tolist(tensor)

        Tensor.tolist = tolist  # type: ignore[method-assign]
        super().__enter__()
        return self

    def __exit__(self, *told: object) -> None:
        """Listen no more."""
        super().__exit__(*told)
        Tensor.tolist = self.tolist  # type: ignore[method-assign]

    def __torch_dispatch__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        """Note and go on."""
        del types
        name = func._schema.name  # type: ignore[attr-defined]
        if name in WAITING:
            self.seen.append(name)
        return func(*args, **(kwargs or {}))
