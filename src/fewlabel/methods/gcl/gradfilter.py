"""GradFilter: gradient norms of pixel pairs at the encoder's last convolution, in closed form (GCL Eq. 7 and 8).

For the loss ℓ(p, q) of anchor pixel p and positive pixel q with keys v_k = embeddings of the partner's pixels::

    ∂ℓ/∂v_p = -a_pq (v_q - m_p),   m_p = Σ_k π_k v_k

where, for one positive per denominator, a_pq = (1 - e^{s_q}/(e^{s_q} + S_p))/τ and π is the softmax over the
negatives. The criterion is g(p, q) = ‖∂ℓ(p, q)/∂θ‖, θ the last convolution's weight (it has no bias), with the
normalisation statistics held constant. Pushed back through the unit length, the head and the encoder's activation
the gradient at one pixel is a vector δ of the convolution's output channels, and the gradient of θ has rank one, so

* ``embedding``: ‖∂ℓ/∂v_p‖ itself, Eq. 7;
* ``anchor``: ‖δ_pq‖ · ‖x̃_p‖ with x̃ the patch under the kernel, positive and negatives held constant.

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

from fewlabel.methods.gcl.last_convolution_gradients import PixelTail, flat_rows

FilterPath = Literal["anchor", "embedding"]

#: Numbers per working block: four megabytes on the CPU stay in its cache, an accelerator prefers few large blocks.
_CPU_BLOCK = 2**20
_DEVICE_BLOCK = 2**26


@torch.no_grad()
def pair_gradients(
    logits: Tensor, pool: Tensor, temperature: float, *, all_positives: bool = False
) -> tuple[Tensor, Tensor]:
    """∂ℓ(p, q)/∂v_p = -a_pq (v_q - Σ_k π_k v_k) of every pair, as its factors.

    Args:
        logits: (b, a, p) s of the anchors and all pixels of their partner image.
        pool: (b, a, k) int64 positives.
        temperature: τ.
        all_positives: The denominator holds all pixels of the partner, not one positive and the negatives.

    Returns:
        π (b, a, p) and a (b, a, k).
    """
    scores = logits.gather(-1, pool)
    if all_positives:
        attention = logits.softmax(dim=-1)
        return attention, torch.full_like(scores, 1 / temperature)
    outside = logits.scatter(-1, pool, torch.finfo(logits.dtype).min)
    highest = outside.amax(dim=-1, keepdim=True)
    attention = outside.sub_(highest).exp_()
    total = attention.sum(dim=-1, keepdim=True)
    factor = torch.sigmoid(highest + total.log() - scores) / temperature
    return attention.div_(total), factor


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
    matmul_dtype: torch.dtype | None = None,
) -> Tensor:
    """g(p, q) of every anchor p and every q of its pool.

    Args:
        path: Whose gradient, see the module.
        anchors: The a anchor pixels of b images.
        keys: All pixels of all images that partners come from.
        partners: (b,) int64, the partner image of each anchor image among ``keys``.
        logits: (b, a, p) similarities over temperature of anchors and the partner's pixels.
        pool: (b, a, k) int64 positives.
        first: (h, c) weight W₁ of the head's first layer.
        temperature: τ.
        all_positives: As in :func:`pair_gradients`.
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
            attention, factor = pair_gradients(logits[block], pool[block], temperature, all_positives=all_positives)
            pairs = _Pairs(
                anchors.map(operator.itemgetter(block)), keys, partners[block], logits[block], pool[block], temperature
            )
            if path == "embedding":
                norms.append(factor * pairs.embedding_norms(attention))
            else:
                length = torch.linalg.vector_norm(pairs.anchor_deltas(attention, weight), dim=-1)
                norms.append(factor * length * (pairs.anchors.patch_square.sqrt() * pairs.anchors.inverse_norm))
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
