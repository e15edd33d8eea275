"""The part of SS-Net that holds pixels near prototypes of their class."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Generator, Tensor, nn
from torch.nn import functional

from fewlabel.core.full_precision import full_precision
from fewlabel.nets.embedding_scores import ClassAttention
from fewlabel.nets.projection_heads import PixelHead, pixel_rows
from fewlabel.objectives.class_prototype_memory import ScoredMemory, draw_pixels, prototype_distance


@dataclass(frozen=True)
class _Candidates:
    """What may enter the memory: (classes, k, dim), (classes, k), (classes, k) bool."""

    rows: Tensor
    scores: Tensor
    valid: Tensor


class Prototypes(nn.Module):
    """Heads, attention and memory of the foreground classes; all in full precision.

    Args:
        width: Channels of the pixel features.
        classes: Number of classes C, background included.
        dim: Size of an embedding.
        size: Embeddings in the memory of a class.
        pixels: Pixels of each class that are drawn from a slice.
    """

    def __init__(self, width: int, classes: int, dim: int, size: int, pixels: int) -> None:
        super().__init__()
        self.classes = classes
        self.pixels = pixels
        self.memory = ScoredMemory(classes - 1, size, dim)
        self.projection = PixelHead(width, dim)
        self.prediction = PixelHead(dim, dim)
        self.pixel_attention = ClassAttention(classes - 1, dim)
        self.memory_attention = ClassAttention(classes - 1, dim)
        self._candidates: _Candidates | None = None

    def distance(
        self, features: Tensor, labels: Tensor, generator: Generator, *, predicted: Tensor | None = None
    ) -> Tensor:
        """How far pixels are from the memory of their class, 0 to 2; 0 while it is empty.

        Args:
            features: (n, width, *space), with gradient.
            labels: (n, *space) class indices, known or predicted.
            generator: CPU generator, equal on all ranks.
            predicted: For labelled slices the predicted classes (n, *space): correct pixels may enter the memory.
        """
        with torch.autocast(features.device.type, enabled=False):
            pixels, counts, fresh = draw_pixels(labels, self.classes, self.pixels, generator)
            count, places = len(features), pixels.flatten(1)
            # Only what was drawn becomes full precision: the map itself is large.
            picked = full_precision(pixel_rows(features).gather(1, places[..., None].expand(-1, -1, features.shape[1])))
            projected = self.projection(picked).output
            queries = functional.normalize(self.prediction(projected).output, dim=2)
            # Attention weighs, it does not pull: embeddings enter it without gradient.
            attention = self.pixel_attention(_by_class(self._apart(queries.detach())))
            attention = attention.view(self.classes - 1, count, self.pixels).transpose(0, 1)
            if predicted is not None:
                correct = predicted.flatten(1).gather(1, places) == labels.flatten(1).gather(1, places)
                rows = _by_class(self._apart(functional.normalize(projected.detach(), dim=2)))
                scores = self.pixel_attention(rows).detach()
                valid = _by_class(self._apart(correct) & fresh)
                self._candidates = _Candidates(rows, scores, valid)
            memory = self.memory.rows
            return prototype_distance(
                self._apart(queries),
                counts,
                attention,
                memory,
                self.memory.there(),
                self.memory_attention(memory),
            )

    def _apart(self, rows: Tensor) -> Tensor:
        """(n, classes·k, ...) as (n, classes, k, ...)."""
        return rows.view(len(rows), self.classes - 1, self.pixels, *rows.shape[2:])

    def remember(self) -> None:
        """Put the last labelled slices' correct pixels into the memory; after the backward pass."""
        candidates, self._candidates = self._candidates, None
        if candidates is not None:
            self.memory.put(candidates.rows, candidates.scores, candidates.valid)


def _by_class(rows: Tensor) -> Tensor:
    """(n, classes, k, ...) as (classes, n·k, ...)."""
    return rows.transpose(0, 1).flatten(1, 2)
