"""A score of embeddings for each class."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional


class ClassAttention(nn.Module):
    """One small network for each class that scores embeddings in (0, 1): two layers, leaky ReLU, sigmoid.

    Args:
        classes: Number of networks.
        dim: Size of an embedding, and of the hidden layer.
    """

    def __init__(self, classes: int, dim: int) -> None:
        super().__init__()
        bound = 1 / math.sqrt(dim)
        self.first = nn.Parameter(torch.empty(classes, dim, dim).uniform_(-bound, bound))
        self.first_bias = nn.Parameter(torch.zeros(classes, dim))
        self.second = nn.Parameter(torch.empty(classes, dim).uniform_(-bound, bound))
        self.second_bias = nn.Parameter(torch.zeros(classes))

    def forward(self, rows: Tensor) -> Tensor:
        """Scores (classes, k) of rows (classes, k, dim), each class by its own network."""
        hidden = functional.leaky_relu(torch.baddbmm(self.first_bias[:, None], rows, self.first), 0.2)
        return torch.sigmoid(torch.einsum("ckd,cd->ck", hidden, self.second) + self.second_bias[:, None])
