"""The last keys of each class, and draws from those of the other classes: the negatives of a class.

A class is named by its id everywhere. The public code of ARCO keeps lists of all classes and reads them by the place
among the classes that are present, so where one is absent the next class meets the wrong memory; and its negatives of
class c must be labelled c and not c, so its memories stay as they began, with one key (zero or random).
"""

from __future__ import annotations

import torch
from torch import Generator, Tensor, nn

from fewlabel.objectives.stratified_sampling import Sampling, draw_places


class ClassBanks(nn.Module):
    """A FIFO queue of keys for each class; they start empty, and are buffers, so a checkpoint holds them.

    Written in place: write after the backward pass of what was read. With several processes the keys given must be
    those of all ranks.

    Args:
        classes: Number of classes.
        size: K, keys of each; 0 keeps none.
        dim: Size of a key.

    Raises:
        ValueError: If there is no class or no dimension, or the size is negative.
    """

    keys: Tensor
    pointer: Tensor
    filled: Tensor

    def __init__(self, classes: int, size: int, dim: int) -> None:
        super().__init__()
        if classes < 1 or size < 0 or dim < 1:
            raise ValueError(f"banks need a class, a dimension and no negative size, not {classes} x {size} x {dim}")
        self.register_buffer("keys", torch.zeros(classes, size, dim))
        self.register_buffer("pointer", torch.zeros(classes, dtype=torch.int64))
        self.register_buffer("filled", torch.zeros(classes, dtype=torch.int64))

    @torch.no_grad()
    def push(self, keys: Tensor, present: Tensor) -> None:
        """Put in k keys of every class that is present, in order; of more than K the last K stay.

        Args:
            keys: (classes, k, dim).
            present: (classes,) bool; the others' keys are not looked at.
        """
        size = self.keys.shape[1]
        count = min(keys.shape[1], size)
        if count == 0:
            return
        moved = present.to(torch.int64) * count
        places = (self.pointer[:, None] + torch.arange(count, device=self.pointer.device)) % size
        rows = torch.arange(len(keys), device=places.device)[:, None]
        new = keys[:, keys.shape[1] - count :].detach().to(self.keys)
        self.keys[rows, places] = torch.where(present[:, None, None], new, self.keys[rows, places])
        self.pointer.copy_((self.pointer + moved) % size)
        self.filled.copy_((self.filled + moved).clamp_max(size))

    def available(self, keys: Tensor, present: Tensor) -> Tensor:
        """Negatives of each class: (classes, classes) int64, how many keys of class j class c may meet; 0 for j = c.

        Args:
            keys: (classes, k, dim) of the step at hand, which count too.
            present: (classes,) bool.
        """
        own = self.filled + present.to(torch.int64) * keys.shape[1]
        return own.expand(len(own), -1).tril(-1) + own.expand(len(own), -1).triu(1)

    def negatives(
        self,
        keys: Tensor,
        present: Tensor,
        count: int,
        sampling: Sampling,
        generator: Generator,
        mass: Tensor | None = None,
    ) -> Tensor:
        """Draw keys of other classes, from the banks and the step at hand.

        Args:
            keys: (classes, k, dim) of the step at hand.
            present: (classes,) bool.
            count: Negatives of each class.
            sampling: How: the strata of a class's negatives are the other classes.
            generator: CPU generator, equal on all ranks.
            mass: (classes, classes) int64, in whose proportion the classes are drawn; see :func:`draw_places`.

        Returns:
            (classes, count, dim), without gradient; without meaning for a class whose ``available`` is all 0.
        """
        classes, places = draw_places(self.available(keys, present), count, sampling, generator, mass)
        device = keys.device
        classes, places = classes.to(device), places.to(device)
        fresh = places - self.filled[classes]
        now = keys.detach()[classes, fresh.clamp(0, keys.shape[1] - 1)]
        size = self.keys.shape[1]
        if size == 0:
            return now
        past = self.keys[classes, places.clamp(0, size - 1)].to(now)
        return torch.where((fresh < 0)[..., None], past, now)
