"""GradFilter: gradient norms of pixel pairs at the encoder's last convolution, in closed form (GCL Eq. 7 and 8).

For the loss ℓ(p, q) of anchor pixel p and positive pixel q with keys v_k = embeddings of the partner's pixels::

    ∂ℓ/∂v_p = -a_pq (v_q - m_p),   m_p = Σ_k π_k v_k

where, for one positive per denominator, a_pq = (1 - e^{s_q}/(e^{s_q} + S_p))/τ and π is the softmax over the
negatives. The criterion is g(p, q) = ‖∂ℓ(p, q)/∂θ‖, θ the last convolution's weight (and bias, if it has one), with
normalisation statistics held constant. Pushed back through the unit length, the head and the encoder's activation
the gradient at one pixel is a vector δ of the convolution's output channels, and the gradient of θ has rank one, so

* ``embedding``: ‖∂ℓ/∂v_p‖ itself, Eq. 7;
* ``anchor``: ‖δ_pq‖ · sqrt(‖x̃_p‖² + b), x̃ the patch under the kernel, b = 1 with a bias and 0 without;
* ``pair``: also through the positive (negatives detached): sqrt(‖δ‖²(‖x̃_p‖²+b) + ‖δ'‖²(‖x̃_q‖²+b) + 2 δ·δ' (x̃_p·x̃_q+b)).

No backward pass is needed. As the head's second matrix is linear, it is applied once per pixel, not once per pair.
With unit embeddings the tangential part of v_q - m_p vanishes as v_q → -v_p, so a harder positive has the larger
``embedding`` norm, but near the antipode not strictly the larger ``anchor`` norm; the two rankings differ.
"""

from __future__ import annotations

import operator
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from fewlabel.methods.gcl.backprop import PixelTail, flat_rows

FilterPath = Literal["anchor", "pair", "embedding"]

#: Numbers per working block: four megabytes on the CPU stay in its cache, an accelerator prefers few large blocks.
_CPU_BLOCK = 2**20
_DEVICE_BLOCK = 2**26


@dataclass(frozen=True)
class PairGradients:
    """∂ℓ/∂v of every pair: -anchor · (v_q - Σ π v) at the anchor, -partner · v_p at the positive.

    Attributes:
        attention: (b, a, p) π.
        anchor: (b, a, k) factor at the anchor.
        partner: (b, a, k) factor at the positive.
    """

    attention: Tensor
    anchor: Tensor
    partner: Tensor


@torch.no_grad()
def pair_gradients(logits: Tensor, pool: Tensor, temperature: float, *, all_positives: bool = False) -> PairGradients:
    """Gradients of ℓ(p, q) with respect to the embeddings, as factors.

    Args:
        logits: (b, a, p) s of the anchors and all pixels of their partner image.
        pool: (b, a, k) int64 positives.
        temperature: τ.
        all_positives: The denominator holds all pixels of the partner, not one positive and the negatives.
    """
    scores = logits.gather(-1, pool)
    if all_positives:
        attention = logits.softmax(dim=-1)
        factor = torch.full_like(scores, 1 / temperature)
        return PairGradients(attention, factor, (1 - attention.gather(-1, pool)) / temperature)
    outside = logits.scatter(-1, pool, torch.finfo(logits.dtype).min)
    highest = outside.amax(dim=-1, keepdim=True)
    attention = outside.sub_(highest).exp_()
    total = attention.sum(dim=-1, keepdim=True)
    factor = torch.sigmoid(highest + total.log() - scores) / temperature
    return PairGradients(attention.div_(total), factor, factor)


@torch.no_grad()
def gradient_norms(
    path: FilterPath,
    anchors: PixelTail,
    keys: PixelTail,
    partners: Tensor,
    logits: Tensor,
    pool: Tensor,
    first: Tensor,
    *,
    temperature: float,
    all_positives: bool = False,
    bias: bool = False,
    matmul_dtype: torch.dtype | None = None,
) -> Tensor:
    """g(p, q) of every anchor p and every q of its pool.

    Args:
        path: Which parameters' gradient, see the module.
        anchors: The a anchor pixels of b images.
        keys: All pixels of all images that partners come from.
        partners: (b,) int64, the partner image of each anchor image among ``keys``.
        logits: (b, a, p) similarities over temperature of anchors and the partner's pixels.
        pool: (b, a, k) int64 positives.
        first: (h, c) weight W₁ of the head's first layer.
        temperature: τ.
        all_positives: As in :func:`pair_gradients`.
        bias: Whether the last convolution has a bias.
        matmul_dtype: Type of the one large product, such as bfloat16 under autocast; norms stay in float32.

    Returns:
        (b, a, k).
    """
    width = max(pool.shape[1] * pool.shape[2] * first.shape[0], 1)
    budget = _CPU_BLOCK if logits.device.type == "cpu" else _DEVICE_BLOCK
    size = max(budget // width, 1)
    weight = first.to(matmul_dtype or logits.dtype)
    norms: list[Tensor] = []
    with torch.autocast(logits.device.type, enabled=False):
        for start in range(0, len(partners), size):
            block = slice(start, start + size)
            gradients = pair_gradients(logits[block], pool[block], temperature, all_positives=all_positives)
            pairs = _Pairs(
                anchors.map(operator.itemgetter(block)), keys, partners[block], logits[block], pool[block], temperature
            )
            if path == "embedding":
                norms.append(gradients.anchor * pairs.embedding_norms(gradients.attention))
            elif path == "anchor":
                length = torch.linalg.vector_norm(pairs.anchor_deltas(gradients.attention, weight), dim=-1)
                scale = (pairs.anchors.patch_square + bias).sqrt() * pairs.anchors.inverse_norm
                norms.append(gradients.anchor * length * scale)
            else:
                norms.append(pairs.pair_norms(gradients, weight, bias=bias))
    return torch.cat(norms)


@dataclass(frozen=True)
class _Pairs:
    """One block of image pairs; arguments as in :func:`gradient_norms`."""

    anchors: PixelTail
    keys: PixelTail
    partners: Tensor
    logits: Tensor
    pool: Tensor
    temperature: float

    def embedding_norms(self, attention: Tensor) -> Tensor:
        """‖v_q - m_p‖ (b, a, k)."""
        centre = attention @ self.keys.embeddings.index_select(0, self.partners)
        positives = flat_rows(self.keys.embeddings, self.partners, self.pool)
        return torch.as_tensor(torch.linalg.vector_norm(positives - centre.unsqueeze(-2), dim=-1))

    def anchor_deltas(self, attention: Tensor, weight: Tensor) -> Tensor:
        """δ_pq without its factor and 1/‖o_p‖: (b, a, k, c), up to sign."""
        centre = attention @ self.keys.pulled.index_select(0, self.partners)
        # (v_q - m_p)·v_p, the part along v_p that the unit length removes.
        mean_logit = (attention * self.logits).sum(dim=-1, keepdim=True)
        along = self.temperature * (self.logits.gather(-1, self.pool) - mean_logit)
        pulled = flat_rows(self.keys.pulled, self.partners, self.pool)
        pulled.sub_(centre.unsqueeze(-2))
        pulled.addcmul_(along.unsqueeze(-1), self.anchors.pulled.unsqueeze(-2), value=-1)
        pulled.mul_(self.anchors.hidden.unsqueeze(-2))
        return (pulled.to(weight.dtype) @ weight).to(pulled.dtype).mul_(self.anchors.slopes.unsqueeze(-2))

    def partner_deltas(self, weight: Tensor) -> Tensor:
        """δ'_pq without its factor and 1/‖o_q‖: (b, a, k, c), up to sign."""
        along = self.temperature * self.logits.gather(-1, self.pool)
        pulled = self.anchors.pulled.unsqueeze(-2) - along.unsqueeze(-1) * self._at_pool(self.keys.pulled)
        pulled *= self._at_pool(self.keys.hidden)
        return (pulled.to(weight.dtype) @ weight) * self._at_pool(self.keys.slopes)

    def pair_norms(self, gradients: PairGradients, weight: Tensor, *, bias: bool) -> Tensor:
        """The Gram identity of the module over the two touched pixels: (b, a, k)."""
        if self.anchors.patches is None or self.keys.patches is None:
            raise ValueError("the pair path needs patches")
        anchor = gradients.anchor * self.anchors.inverse_norm
        partner = gradients.partner * self._at_pool(self.keys.inverse_norm).squeeze(-1)
        at_anchor = self.anchor_deltas(gradients.attention, weight)
        at_partner = self.partner_deltas(weight)
        overlap = (self.anchors.patches @ self.keys.patches.index_select(0, self.partners).transpose(1, 2)).gather(
            -1, self.pool
        )
        square_q = self._at_pool(self.keys.patch_square).squeeze(-1)
        square = (
            (anchor * torch.linalg.vector_norm(at_anchor, dim=-1)).square() * (self.anchors.patch_square + bias)
            + (partner * torch.linalg.vector_norm(at_partner, dim=-1)).square() * (square_q + bias)
            + 2 * anchor * partner * (at_anchor * at_partner).sum(dim=-1) * (overlap + bias)
        )
        return torch.as_tensor(square.clamp_min(0).sqrt())

    def _at_pool(self, rows: Tensor) -> Tensor:
        return flat_rows(rows, self.partners, self.pool)


@torch.no_grad()
def smallest(norms: Tensor, count: int) -> Tensor:
    """Mask of the ``count`` smallest norms of each pool, the earlier pixel first where equal.

    Args:
        norms: (..., k).
        count: K_t, from 1 to k.

    Returns:
        (..., k) bool.
    """
    order = norms.argsort(dim=-1, stable=True)[..., :count]
    return torch.zeros_like(norms, dtype=torch.bool).scatter_(-1, order, value=True)
