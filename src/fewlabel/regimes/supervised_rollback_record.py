"""Remembers when a guard took the supervised weights back, and why: for the record of the run and for its reader."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn


class Returns(nn.Module):
    """What each return was for. All state is in buffers, so a resumed run reports the same as an uninterrupted one.

    Args:
        most: Returns there may be.
        classes: Number of classes.
    """

    steps: Tensor
    out: Tensor
    shares: Tensor

    def __init__(self, most: int, classes: int) -> None:
        super().__init__()
        self.register_buffer("steps", torch.full((most,), -1, dtype=torch.int64))
        self.register_buffer("out", torch.zeros(most, classes, dtype=torch.bool))
        # Now, and at the beginning of the second phase; 0 and 0 where a class had no pixel to begin with.
        self.register_buffer("shares", torch.zeros(most, 2))

    @torch.no_grad()
    def add(self, step: int, classes: Sequence[int], now: float = 0.0, first: float = 0.0) -> None:
        """Take in a return.

        Args:
            step: At which it happened.
            classes: That were lost or flooded the scans.
            now: Share of the pseudo-labels that the class has.
            first: The one it had; 0 for classes without a pixel.
        """
        place = int((self.steps >= 0).sum())
        self.steps[place] = step
        self.out[place, list(classes)] = True
        self.shares[place, 0], self.shares[place, 1] = now, first

    def record(self) -> list[dict[str, Any]]:
        """Step, classes and their share, now and at first, of each return; JSON values."""
        rows = zip(self.steps.tolist(), self.out.tolist(), self.shares.tolist(), strict=True)
        return [
            {
                "step": step,
                "classes": [label for label, flag in enumerate(out) if flag],
                "share": round(now, 6),
                "share_at_first": round(first, 6),
            }
            for step, out, (now, first) in rows
            if step >= 0
        ]

    def sentence(self, names: Mapping[int, str], steps: int, *, given_up: bool) -> str:
        """What the returns made of the network, in one sentence; empty without any.

        Args:
            names: Class to its name.
            steps: Number of steps that the weights which are kept have seen.
            given_up: Whether the last return ended the second phase.
        """
        events = self.record()
        if not events:
            return ""
        last = events[-1]
        if steps <= last["step"]:
            made = f"the weights that are kept are from before, after {steps} steps"
        elif given_up:
            made = "the network is a supervised one"
        else:
            made = f"pseudo-labels had {0.5 ** len(events):g} of their weight from then on"
        if given_up:
            return f"The second phase was given up at step {last['step']}: {_why(last, names)}; {made}."
        before = ", ".join(str(event["step"]) for event in events[:-1])
        when = f"steps {before} and {last['step']}" if before else f"step {last['step']}"
        return f"The supervised weights came back at {when}: {_why(last, names)}; {made}."


def _why(event: Mapping[str, Any], names: Mapping[int, str]) -> str:
    class_names = [names.get(label, f"class {label}") for label in event["classes"]]
    if event["share_at_first"] == 0:
        listed = class_names[0] if len(class_names) == 1 else f"any of {', '.join(class_names)}"
        return f"no pixel of the unlabelled scans was labelled as {listed}"
    return f"{class_names[0]} took {event['share']:.2%} of the pseudo-labels, {event['share_at_first']:.2%} at first"
