"""Whether several draws or seeds of a fine-tuning are faster as one batched network than one after the other.

Three networks of one architecture, each with slices, labels and an Adam of its own, take steps in three ways: in turn;
as one network whose convolutions have a group for each (:class:`suites.members.Grouped`); and by ``torch.func``, their
weights stacked and the forward pass mapped over them by ``vmap``. All three must leave the same weights within float
tolerance. A ratio below 1 speaks for a way. One thread, and its processor time, which waiting for other programs does
not lengthen: as many processes of one thread take, all together, the processor time of *in turn*.
"""

from __future__ import annotations

import copy
import json
import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call, stack_module_state, vmap
from torch.nn import functional

from common import facts, timed
from fewlabel.engine.runtime import fast_kernels
from fewlabel.nets.unet import UNet, UNetConfig
from suites.members import Grouped

COUNT, CLASSES, ROUNDS, STEPS, RATE = 3, 4, 5, 2, 1e-3
#: Width of the network, slices of a batch, their side: small ones, as these leave most of a machine idle. What two
#: networks of width 16 take on 10 slices of 128x128 is told by :mod:`suites.members`.
SIZES = {"width 16, 4 x 64x64": (16, 4, 64), "width 8, 4 x 64x64": (8, 4, 64), "width 8, 2 x 32x32": (8, 2, 32)}
Step = Callable[[], None]
Networks = Sequence[UNet]
Images = Sequence[Tensor]
Make = Callable[[Any], torch.optim.Optimizer]


def adam(parameters: Any) -> torch.optim.Optimizer:
    """The optimiser of fine-tuning."""
    return torch.optim.Adam(parameters, lr=RATE)


def sgd(parameters: Any) -> torch.optim.Optimizer:
    """One whose steps are as small as the gradients: Adam makes whole steps of the rounding of a gradient of 0."""
    return torch.optim.SGD(parameters, lr=0.1, momentum=0.9)


def run(results: Path) -> None:
    """Check that all ways agree, print seconds and ratios, append a row to ``batched.jsonl``."""
    fast_kernels("cpu")
    torch.set_num_threads(1)
    figures = {}
    for name, (width, batch, side) in SIZES.items():
        agreement = {way: agrees(way, width, min(batch, 4), 32) for way in WAYS if way != "in turn"}
        steps = {way: WAYS[way](*made(width, batch, side))[0] for way in WAYS}
        seconds = timed(steps, ROUNDS, 1, time.process_time)
        figures[name] = {"largest_difference": agreement}
        for way in WAYS:
            ratios = [one / two for one, two in zip(seconds[way], seconds["in turn"], strict=True)]
            figures[name][way] = {
                "seconds": round(statistics.median(seconds[way]), 4),
                "ratio": round(statistics.median(ratios), 3),
                "from": round(min(ratios), 3),
                "to": round(max(ratios), 3),
            }
            print(f"{name}, {way}: {figures[name][way]}", flush=True)
        print(f"{name}: largest difference of a weight after {STEPS} steps {agreement}", flush=True)
    results.mkdir(parents=True, exist_ok=True)
    row = {"suite": "batched", "networks": COUNT, "rounds": ROUNDS, "figures": figures, **facts()}
    with (results / "batched.jsonl").open("a") as stream:
        stream.write(json.dumps(row) + "\n")


def made(width: int, batch: int, side: int) -> tuple[list[UNet], list[Tensor], list[Tensor]]:
    """Networks, and slices and labels of each."""
    torch.manual_seed(0)
    networks = [UNet(UNetConfig(width=width), CLASSES).to(memory_format=torch.channels_last) for _ in range(COUNT)]
    images = [torch.randn(batch, 1, side, side).to(memory_format=torch.channels_last) for _ in range(COUNT)]
    labels = [torch.randint(CLASSES, (batch, side, side)) for _ in range(COUNT)]
    return networks, images, labels


def in_turn(networks: Networks, images: Images, labels: Images, make: Make = adam) -> tuple[Step, Any]:
    """A step of each network after the other, and its weights."""
    optimisers = [make(network.train().parameters()) for network in networks]

    def step() -> None:
        for network, optimiser, image, label in zip(networks, optimisers, images, labels, strict=True):
            optimiser.zero_grad(set_to_none=True)
            functional.cross_entropy(network(image), label).backward()
            optimiser.step()

    return step, lambda: [list(network.parameters()) for network in networks]


def grouped(networks: Networks, images: Images, labels: Images, make: Make = adam) -> tuple[Step, Any]:
    """A step of the network whose convolutions have a group for each, and the weights of each."""
    joined = Grouped(networks).to(memory_format=torch.channels_last).train()
    optimiser = make(joined.parameters())
    together = torch.cat(list(images), dim=1).contiguous(memory_format=torch.channels_last)

    def step() -> None:
        optimiser.zero_grad(set_to_none=True)
        parts = joined(together).chunk(COUNT, dim=1)
        # The sum: the gradient of each is that of its own loss.
        losses = [functional.cross_entropy(part, label) for part, label in zip(parts, labels, strict=True)]
        torch.stack(losses).sum().backward()
        optimiser.step()

    def weights() -> list[list[Tensor]]:
        chunked = [parameter.chunk(COUNT, dim=0) for parameter in joined.parameters()]
        return [[parts[at] for parts in chunked] for at in range(COUNT)]

    return step, weights


def mapped(networks: Networks, images: Images, labels: Images, make: Make = adam) -> tuple[Step, Any]:
    """A step of stacked weights by ``vmap``, and the weights of each."""
    for network in networks:
        network.train()
    parameters, buffers = stack_module_state(list(networks))
    skeleton: nn.Module = copy.deepcopy(networks[0])
    optimiser = make(parameters.values())
    stacked, wanted = torch.stack(list(images)), torch.stack(list(labels))

    def forward(weights: dict[str, Tensor], state: dict[str, Tensor], image: Tensor) -> Tensor:
        return torch.as_tensor(functional_call(skeleton, (weights, state), (image,)))

    def step() -> None:
        optimiser.zero_grad(set_to_none=True)
        logits = vmap(forward)(parameters, buffers, stacked)
        losses = [functional.cross_entropy(part, label) for part, label in zip(logits, wanted, strict=True)]
        torch.stack(losses).sum().backward()
        optimiser.step()

    return step, lambda: [[parameter[at] for parameter in parameters.values()] for at in range(COUNT)]


WAYS: dict[str, Callable[..., tuple[Step, Any]]] = {
    "in turn": in_turn,
    "grouped": grouped,
    "vmap": mapped,
}


def agrees(way: str, width: int, batch: int, side: int) -> float:
    """The largest difference of a weight from that of a network trained by itself, after a few steps.

    Raises:
        AssertionError: If it is beyond float tolerance.
    """
    found = []
    for name in ("in turn", way):
        step, weights = WAYS[name](*made(width, batch, side), sgd)
        for _ in range(STEPS):
            step()
        found.append([[tensor.detach().clone() for tensor in one] for one in weights()])
    pairs = [pair for alone, other in zip(*found, strict=True) for pair in zip(alone, other, strict=True)]
    differences = [float((alone - other.reshape(alone.shape)).abs().max()) for alone, other in pairs]
    torch.testing.assert_close(torch.tensor(max(differences)), torch.tensor(0.0), rtol=0, atol=1e-4)
    return max(differences)
