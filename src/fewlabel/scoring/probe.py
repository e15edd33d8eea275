"""What a frozen encoder knows of the labelled structures: features of a few patients' pixels tell those of others.

Pixels of labelled slices are a bank. The class of a pixel of another patient comes from its nearest neighbours in the
bank, or from a linear classifier that was fitted to it. Nothing of the encoder is trained, so this takes seconds where
fine-tuning takes an hour.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

#: Neighbours of a pixel, and the temperature of their votes.
NEIGHBOURS, TEMPERATURE = 20, 0.07
#: Inverse strength of the linear classifier's L2 penalty, as of scikit-learn, and its steps at most. At 1 it knows a
#: bank of one patient by heart; of powers of 10, .01 is the best for an encoder that learnt nothing.
LINEAR_C, LINEAR_STEPS = 0.01, 2000
#: Class of cells that count nowhere.
IGNORED = 255
#: Queries compared at a time.
_ROWS = 4096


@dataclass(frozen=True)
class Scale:
    """What standardises features, channel by channel, and what each level of the network weighs in a cosine.

    Attributes:
        mean: (dim,) of unlabelled training slices.
        deviation: (dim,) likewise; 1 where a feature is constant.
        level: (dim,) 1/√c for the c features of a level, so that all levels count alike.
    """

    mean: Tensor
    deviation: Tensor
    level: Tensor

    def __call__(self, features: Tensor) -> Tensor:
        """(n, dim) with mean 0 and variance 1 over the slices the scale is of."""
        return (features - self.mean) / self.deviation


def scale_of(features: Tensor, sizes: Sequence[int]) -> Scale:
    """The scale of unlabelled pixels.

    Args:
        features: (n, dim), n at least 2.
        sizes: Features of each level, in order; their sum is dim.

    Raises:
        ValueError: If the sizes do not add up.

    Example:
        >>> scale = scale_of(torch.tensor([[0.0, 5.0], [2.0, 5.0]]), [1, 1])
        >>> scale(torch.tensor([[3.0, 6.0]]))
        tensor([[2., 1.]])
    """
    if sum(sizes) != features.shape[1]:
        raise ValueError(f"levels of {tuple(sizes)} features are not {features.shape[1]}")
    deviation, mean = torch.std_mean(features.double(), dim=0, correction=0)
    constant = deviation <= 1e-6 * mean.abs().clamp_min(1)
    level = torch.cat([torch.full((size,), size**-0.5) for size in sizes])
    return Scale(mean.float(), deviation.masked_fill(constant, 1).float(), level)


def coarse_labels(labels: NDArray[np.integer], stride: int, classes: int) -> NDArray[np.uint8]:
    """The class that most pixels of each cell have.

    Args:
        labels: (n, height, width) class indices; others, such as 255, are ignored. Sides are multiples of the stride.
        stride: Side of a cell in pixels.
        classes: Number of classes, background included.

    Returns:
        (n, height/stride, width/stride); the smaller index where two classes tie, 255 where half a cell or more is
        ignored.

    Example:
        >>> coarse_labels(np.array([[[0, 1], [1, 1]]]), 2, 2)
        array([[[1]]], dtype=uint8)
    """
    count, high, wide = labels.shape
    cells = labels.reshape(count, high // stride, stride, wide // stride, stride)
    shares = np.stack([(cells == index).mean(axis=(2, 4)) for index in range(classes)])
    coarse: NDArray[np.uint8] = shares.argmax(axis=0).astype(np.uint8)
    coarse[shares.sum(axis=0) <= 0.5] = IGNORED
    return coarse


def balanced_rows(
    labels: NDArray[np.integer],
    slices: NDArray[np.integer],
    generator: np.random.Generator,
    *,
    per_slice: int = 200,
    per_class: int = 500,
) -> NDArray[np.int64]:
    """Pixels for a bank, as many of each class as there are of the others, if there are.

    Args:
        labels: (n,) classes; ignored ones are left out.
        slices: (n,) the slice of each pixel.
        generator: Draws without replacement.
        per_slice: Most pixels of a class in one slice.
        per_class: Most pixels of a class.

    Returns:
        Their rows, sorted.

    Example:
        >>> labels = np.array([0, 0, 0, 0, 1, 255])
        >>> len(balanced_rows(labels, np.zeros(6, int), np.random.default_rng(0), per_class=1))
        2
    """
    taken = []
    for index in np.unique(labels[labels != IGNORED]):
        rows = np.flatnonzero(labels == index)
        parts = [rows[slices[rows] == place] for place in np.unique(slices[rows])]
        drawn = np.concatenate([generator.permutation(part)[:per_slice] for part in parts])
        taken.append(generator.permutation(drawn)[:per_class])
    return np.sort(np.concatenate(taken)) if taken else np.empty(0, np.int64)


class Probe:
    """Tells the classes of pixels from those of a bank.

    Args:
        features: (n, dim) of the bank's pixels, as the encoder gives them.
        labels: (n,) their classes.
        subjects: Whose pixels they are.
        scale: Of unlabelled training slices.
        classes: Number of classes, background included.

    Raises:
        ValueError: If the bank is empty.

    Example:
        >>> bank = torch.eye(2).repeat(30, 1)
        >>> probe = Probe(bank, np.tile([0, 1], 30), ["a"], scale_of(bank, [2]), classes=2)
        >>> probe.neighbours(torch.tensor([[0.0, 3.0]]), ["b"]), probe.linear(torch.tensor([[3.0, 0.0]]), ["b"])
        (array([1]), array([0]))
    """

    def __init__(
        self, features: Tensor, labels: NDArray[np.integer], subjects: Collection[str], scale: Scale, classes: int
    ) -> None:
        if not len(features):
            raise ValueError("a bank needs pixels")
        self.subjects = frozenset(subjects)
        self.scale = scale
        self.classes = classes
        rows = scale(features)
        self._bank = functional.normalize(rows * scale.level, dim=1)
        self._votes = functional.one_hot(torch.from_numpy(labels.astype(np.int64)), classes).float()
        self._linear = _fitted(rows, labels)

    def neighbours(self, features: Tensor, subjects: Collection[str]) -> NDArray[np.int64]:
        """Classes (m,) by the votes e^{cos/.07} of the 20 nearest pixels of the bank; ties go to the smaller index.

        Args:
            features: (m, dim).
            subjects: Whose pixels they are.

        Raises:
            ValueError: If the bank holds pixels of one of these subjects.
        """
        self._refuse(subjects)
        found = []
        for part in torch.split(features, _ROWS):
            cosines = functional.normalize(self.scale(part) * self.scale.level, dim=1) @ self._bank.T
            nearest = cosines.topk(min(NEIGHBOURS, len(self._bank)), dim=1, sorted=False)
            # The largest vote is 1, so that none overflows.
            votes = ((nearest.values - nearest.values.amax(dim=1, keepdim=True)) / TEMPERATURE).exp()
            found.append((votes[:, :, None] * self._votes[nearest.indices]).sum(dim=1).argmax(dim=1))
        return torch.cat(found).numpy()

    def linear(self, features: Tensor, subjects: Collection[str]) -> NDArray[np.int64]:
        """Classes (m,) by multinomial logistic regression; arguments and errors as of :meth:`neighbours`."""
        self._refuse(subjects)
        return np.asarray(self._linear(self.scale(features)), dtype=np.int64)

    def _refuse(self, subjects: Collection[str]) -> None:
        if both := self.subjects & set(subjects):
            raise ValueError(f"{', '.join(sorted(both))} cannot be told by pixels of their own")


def _fitted(rows: Tensor, labels: NDArray[np.integer]) -> Callable[[Tensor], NDArray[np.integer]]:
    """Standardised features (m, dim) to classes (m,)."""
    from sklearn.linear_model import LogisticRegression

    known = np.unique(labels)
    if len(known) == 1:
        return lambda part: np.full(len(part), known[0])
    model = LogisticRegression(C=LINEAR_C, max_iter=LINEAR_STEPS).fit(rows.numpy(), labels)
    return lambda part: model.predict(part.numpy())
