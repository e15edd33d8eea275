"""The few collective operations the library needs; each is the identity in a single process.

Convention: each rank returns a loss over its own anchors or slices, all ranks hold equally many, and the
objective is the mean over ranks. Gathered tensors carry gradients back to the rank they came from, so averaging
parameter gradients over ranks gives the gradient of the objective on the joined batch.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor


def world_size() -> int:
    """Number of processes that train together; 1 without ``torch.distributed``."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def rank() -> int:
    """Index of this process; 0 without ``torch.distributed``."""
    return dist.get_rank() if dist.is_available() and dist.is_initialized() else 0


class _Gather(torch.autograd.Function):
    """Rows of all ranks; a row's gradient is the sum of what all ranks found for it."""

    @staticmethod
    def forward(ctx: Any, tensor: Tensor) -> Tensor:
        """Concatenate in rank order."""
        ctx.rows = len(tensor)
        return _gathered(tensor)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        """Add up over ranks, keep this rank's rows."""
        summed = gradients[0].clone(memory_format=torch.contiguous_format)
        dist.all_reduce(summed)
        return summed[rank() * ctx.rows : (rank() + 1) * ctx.rows]


class _Sum(torch.autograd.Function):
    """Sum over ranks, forwards and backwards."""

    @staticmethod
    def forward(ctx: Any, tensor: Tensor) -> Tensor:
        """Add up."""
        del ctx
        total = tensor.clone(memory_format=torch.contiguous_format)
        dist.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        """Every rank's sum contains this rank's term, so their gradients add up."""
        del ctx
        total = gradients[0].clone(memory_format=torch.contiguous_format)
        dist.all_reduce(total)
        return total


def _gathered(tensor: Tensor) -> Tensor:
    own = tensor.detach().contiguous()
    pieces = [torch.empty_like(own) for _ in range(world_size())]
    dist.all_gather(pieces, own)
    return torch.cat(pieces)


def gather(tensor: Tensor) -> Tensor:
    """Rows of all ranks, in rank order; differentiable. Every rank must hold the same shape."""
    if world_size() == 1:
        return tensor
    joined: Tensor = _Gather.apply(tensor) if tensor.requires_grad else _gathered(tensor)  # type: ignore[no-untyped-call]
    return joined


def sum_across(tensor: Tensor) -> Tensor:
    """Sum over ranks; differentiable."""
    if world_size() == 1:
        return tensor
    total: Tensor = _Sum.apply(tensor)  # type: ignore[no-untyped-call]
    return total


def average_gradients(gradients: Sequence[Tensor]) -> None:
    """Replace gradients by their mean over ranks, in place, as one flat message per type."""
    if world_size() == 1 or not gradients:
        return
    # In order of appearance: all ranks must send the same message at the same time.
    for kind in dict.fromkeys(gradient.dtype for gradient in gradients):
        group = [gradient for gradient in gradients if gradient.dtype == kind]
        flat = torch.cat([gradient.reshape(-1) for gradient in group])
        dist.all_reduce(flat)
        flat /= world_size()
        offset = 0
        for gradient in group:
            gradient.copy_(flat[offset : offset + gradient.numel()].view_as(gradient))
            offset += gradient.numel()


def mean_across(values: Mapping[str, float]) -> dict[str, float]:
    """Each figure's mean over the ranks that have it; for logs, since it waits for all ranks."""
    if world_size() == 1:
        return dict(values)
    everyone: list[Mapping[str, float]] = [{} for _ in range(world_size())]
    dist.all_gather_object(everyone, dict(values))
    names = dict.fromkeys(name for own in everyone for name in own)
    return {name: fmean(own[name] for own in everyone if name in own) for name in names}


def any_rank(flag: bool) -> bool:
    """Whether the flag is set on any rank."""
    return any_rank_each([flag])[0]


def any_rank_each(flags: Sequence[bool]) -> list[bool]:
    """Of each flag, whether it is set on any rank; all ranks hold equally many."""
    if world_size() == 1:
        return list(flags)
    tensor = torch.tensor(flags, dtype=torch.int32)
    if dist.get_backend() == "nccl":
        tensor = tensor.cuda()
    dist.all_reduce(tensor, op=dist.ReduceOp.MAX)
    return [bool(flag) for flag in tensor.tolist()]


def is_lost_process(error: BaseException) -> bool:
    """Whether an error says that another process of this run ended or cannot be reached."""
    if world_size() == 1 or not isinstance(error, RuntimeError):
        return False
    # gloo has no exception of its own.
    return isinstance(error, dist.DistError) or "gloo" in str(error)


def barrier() -> None:
    """Wait for all ranks."""
    if world_size() > 1:
        dist.barrier()
