"""How many positives of a pool count at a training step (GCL Eq. 8): few and easy ones first, all at the end."""

from __future__ import annotations

import math
from typing import Literal

Pace = Literal["linear", "root", "log", "exp", "constant"]


def pace_share(pace: Pace, progress: float, start: float) -> float:
    """Share of the pool, rising from ``start`` at progress 0 to 1 at progress 1.

    GCL says only that it is monotone. ``linear``, ``root``, ``log`` and ``exp`` are the usual pace functions of
    curriculum learning (after Wu et al., ICLR 2021, with base e); ``constant`` stays at ``start``.

    Args:
        pace: Shape of the curve.
        progress: t/T in [0, 1].
        start: λ₀ in (0, 1].
    """
    u = min(max(progress, 0.0), 1.0)
    if pace == "constant":
        return start
    if pace == "root":
        return math.sqrt(start**2 + (1 - start**2) * u)
    if pace == "log":
        u = math.log1p((math.e - 1) * u)
    elif pace == "exp":
        u = math.expm1(u) / (math.e - 1)
    return start + (1 - start) * u


def pool_size(pace: Pace, pool: int, step: int, total_steps: int, start: float) -> int:
    """K_t = ⌈K · share(t/T)⌉, within 1 and K.

    Args:
        pace: Shape of the curve.
        pool: K, size of the full pool.
        step: t, from 0.
        total_steps: T.
        start: λ₀, share of the pool at step 0.
    """
    share = pace_share(pace, step / max(total_steps, 1), start)
    # The small term keeps 16 · 0.25 at 4 when a share carries rounding error.
    return min(max(math.ceil(pool * share - 1e-9), 1), pool)
