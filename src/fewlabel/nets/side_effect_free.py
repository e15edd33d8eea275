"""Passes that leave no trace in a network."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn


@contextmanager
def preserve_buffers(network: nn.Module) -> Iterator[None]:
    """Within, passes work on copies of the buffers: running statistics do not drift, whatever the network's mode.

    Batch normalisation still uses the statistics of the batch in train mode. On leaving, the buffers are the very
    tensors they were, so graphs of earlier passes stay valid.
    """
    owners = list(network.modules())
    before = [dict(module._buffers) for module in owners]
    for module, buffers in zip(owners, before, strict=True):
        module._buffers.update({name: None if old is None else old.clone() for name, old in buffers.items()})
    try:
        yield
    finally:
        for module, buffers in zip(owners, before, strict=True):
            module._buffers.update(buffers)
