"""A small GradFilter problem in float64 and its gradient norms by one backward pass per pair: the specification."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from fewlabel.methods.gcl.last_convolution_gradients import PixelTail, pixel_tail
from fewlabel.nets.projection_heads import PixelHead, Projection, pixel_rows
from fewlabel.nets.unet import UNetConfig, UNetEncoder

TAU = 0.2


@dataclass
class Problem:
    """Four images through an encoder in eval mode and a head, all with gradients."""

    encoder: UNetEncoder
    head: PixelHead
    features: Tensor
    tail: PixelTail
    embeddings: Tensor
    partners: Tensor

    @property
    def last(self) -> Tensor:
        """Weight of the encoder's last convolution."""
        weight = self.encoder.blocks[-1].conv2.weight
        assert isinstance(weight, Tensor)
        return weight

    def logits(self) -> Tensor:
        """Similarities over temperature of all pixels and their partner's, detached."""
        keys = self.embeddings[self.partners]
        return (self.embeddings @ keys.transpose(1, 2) / TAU).detach()


def make_problem(*, slope: float = 0.0, norm: str = "batch", seed: int = 0) -> Problem:
    """Random weights, statistics and images; maps of 4x4 pixels and 8 channels."""
    torch.manual_seed(seed)
    encoder = UNetEncoder(UNetConfig(width=4, depth=2, slope=slope, norm=norm)).double()
    for module in encoder.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            module.running_mean.normal_(0, 0.2)
            module.running_var.uniform_(0.5, 2)
            module.weight.data.uniform_(0.5, 1.5)
            module.bias.data.normal_(0, 0.2)
    encoder.eval()
    head = PixelHead(8, 5).double()
    maps, tail = encoder.forward_with_tail(torch.randn(4, 1, 8, 8, dtype=torch.float64))
    rows = pixel_rows(maps[-1])
    projection: Projection = head(rows)
    embeddings = functional.normalize(projection.output, dim=-1)
    parts = pixel_tail(
        rows,
        projection.hidden,
        projection.output,
        head.second.weight,
        inputs=tail.inputs,
        scale=tail.scale.double(),
        slope=tail.slope,
    )
    return Problem(encoder, head, maps[-1], parts, embeddings, torch.tensor([2, 0, 3, 1]))


def pair_loss(anchor: Tensor, keys: Tensor, pool: Tensor, q: int, *, all_positives: bool) -> Tensor:
    """ℓ(p, q) against detached keys."""
    inside = set(pool.tolist())
    own = anchor @ keys[q] / TAU
    rest = [keys[n] for n in range(len(keys)) if all_positives or n == q or n not in inside]
    return torch.logsumexp(torch.stack([anchor @ key / TAU for key in rest]), 0) - own


def slow_norms(problem: Problem, pool: Tensor, path: str, *, all_positives: bool = False) -> Tensor:
    """‖∂ℓ(p, q)/∂θ‖ for every image, anchor and pool pixel, by autograd."""
    v = problem.embeddings
    found = torch.zeros(pool.shape, dtype=torch.float64)
    for i in range(pool.shape[0]):
        keys = v[problem.partners[i]]
        for p in range(pool.shape[1]):
            for k, q in enumerate(pool[i, p].tolist()):
                anchor = v[i, p].detach().requires_grad_() if path == "embedding" else v[i, p]
                loss = pair_loss(anchor, keys.detach(), pool[i, p], q, all_positives=all_positives)
                target = anchor if path == "embedding" else problem.last
                (gradient,) = torch.autograd.grad(loss, target, retain_graph=True)
                found[i, p, k] = gradient.norm()
    return found
