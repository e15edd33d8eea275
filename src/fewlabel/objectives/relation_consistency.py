"""What a student should share with its teacher about other slices: likeness to them all, or nearness to the nearest.

* **Relational instance discrimination** (ISD, 2012.09259; ARCO, 2302.01735, stage 1): both see the same slice in views
  of their own and say how alike it is to each of a set of mined views; ``KL(u_t ‖ u_s)`` with
  ``u_t = softmax(v·k/τ_t)``, ``u_s = softmax(w·k/τ_s)``. The paper prints KL(u_s ‖ u_t); the public code, ISD and the
  usual meaning of a target have the teacher first, and so it is here.
* **Nearest neighbours** (ARCO, stage 2): the slices that the teacher's embeddings find nearest to a slice should be
  near the student's embedding of it. The public code has the roles exchanged: the distance is the teacher's, so the
  loss has no gradient at all.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from fewlabel.core.full_precision import full_precision
from fewlabel.objectives.contrastive import anchor_mean


def relational_kl(
    student: Tensor, teacher: Tensor, candidates: Tensor, *, student_temperature: float, teacher_temperature: float
) -> Tensor:
    """Mean over rows of KL(u_t ‖ u_s) ≥ 0: this rank's share.

    Args:
        student: (a, k) cosines of the student's rows to the mined views.
        teacher: (a, k) the teacher's; detached.
        candidates: (a, k) bool, mined views that count for a row. A row without any is left out.
        student_temperature: τ_s > 0.
        teacher_temperature: τ_t > 0.
    """
    with torch.autocast(student.device.type, enabled=False):
        some = candidates.any(dim=1)
        lowest = torch.finfo(full_precision(student).dtype).min
        target_logits = (full_precision(teacher.detach()) / teacher_temperature).masked_fill(~candidates, lowest)
        said = (full_precision(student) / student_temperature).masked_fill(~candidates, lowest)
        target = functional.log_softmax(target_logits, dim=1)
        difference = (target - functional.log_softmax(said, dim=1)).masked_fill(~candidates, 0)
        losses = (target.exp() * difference).sum(dim=1)
        return anchor_mean(losses.masked_fill(~some, 0), some)


def nearest(teacher: Tensor, bank: Tensor, candidates: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """The nearest keys of a bank by cosine, up to ``count`` of them.

    Args:
        teacher: (a, d) unit vectors.
        bank: (k, d) unit vectors.
        candidates: (a, k) bool, keys that may be neighbours of a row.
        count: K.

    Returns:
        (a, min(K, k)) int64 places, nearest first, and bool, whether there was a neighbour to take.
    """
    with torch.no_grad(), torch.autocast(teacher.device.type, enabled=False):
        cosines = (full_precision(teacher) @ full_precision(bank).T).masked_fill(~candidates, -torch.inf)
        best = cosines.topk(min(count, len(bank)), dim=1)
        return best.indices, best.values > -torch.inf


def neighbour_distance(student: Tensor, bank: Tensor, places: Tensor, real: Tensor) -> Tensor:
    """Mean over rows and their neighbours of ‖s - k‖² = 2 - 2 s·k, in [0, 4]: this rank's share.

    Args:
        student: (a, d) unit vectors, with gradient.
        bank: (k, d) unit vectors, detached.
        places: (a, K) int64 of :func:`nearest`.
        real: (a, K) bool of :func:`nearest`; a row without neighbour is left out.
    """
    with torch.autocast(student.device.type, enabled=False):
        distances = 2 - 2 * torch.einsum("ad,akd->ak", full_precision(student), full_precision(bank.detach())[places])
        count = real.sum(dim=1)
        losses = distances.masked_fill(~real, 0).sum(dim=1) / count.clamp_min(1)
        return anchor_mean(losses, count > 0)
