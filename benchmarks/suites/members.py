"""Whether two members of an ensemble are faster in one grouped pass than one after the other.

Two U-Nets of width 16 are joined into one network whose convolutions have two groups, which gives the same outputs;
each member has images of its own, as in training. Ratios below 1 would speak for it. A step is a forward pass and all
gradients of 10 slices of 128x128; a prediction is a forward pass of 4 slices of 256x224. One thread, and its processor
time, which waiting for other programs does not lengthen.
"""

from __future__ import annotations

import copy
import json
import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from common import facts, timed
from fewlabel.engine.inference import folded
from fewlabel.engine.runtime import fast_kernels, has_bf16
from fewlabel.nets.synchronised_batch_norm import BatchNorm
from fewlabel.nets.unet import UNet, UNetConfig

ROUNDS = 7
WIDTH = 16
CLASSES = 4


class Grouped(nn.Module):
    """Several U-Nets as one: channels of all side by side, a group of every convolution for each.

    Args:
        networks: Of one architecture, 2D.
    """

    def __init__(self, networks: Sequence[UNet]) -> None:
        super().__init__()
        self.count = len(networks)
        self.joined = copy.deepcopy(networks[0])
        for name, module in list(self.joined.named_modules()):
            parts = [network.get_submodule(name) for network in networks]
            if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
                module.groups = self.count
            elif not isinstance(module, BatchNorm):
                continue
            for key, tensor in [*module.named_parameters(recurse=False), *module.named_buffers(recurse=False)]:
                if tensor.dim() > 0:
                    stacked = torch.cat([getattr(part, key).detach() for part in parts])
                    setattr(module, key, nn.Parameter(stacked) if isinstance(tensor, nn.Parameter) else stacked)

    def forward(self, images: Tensor) -> Tensor:
        """(n, members * channels, h, w) → logits (n, members * classes, h, w)."""
        maps = self.joined.encoder(images)
        x, decoder = maps[-1], self.joined.decoder
        for step, (up, block) in enumerate(zip(decoder.ups, decoder.blocks, strict=True)):
            x = block(self._beside(maps[-2 - step], up(x)))
        return torch.as_tensor(self.joined.classifier(x))

    def _beside(self, skip: Tensor, x: Tensor) -> Tensor:
        """Skip and decoder channels of each member next to each other."""
        parts = zip(skip.chunk(self.count, dim=1), x.chunk(self.count, dim=1), strict=True)
        return torch.cat([tensor for pair in parts for tensor in pair], dim=1)


def run(results: Path) -> None:
    """Check that both ways agree, print seconds and ratios, append a row to ``members.jsonl``."""
    fast_kernels("cpu")
    torch.set_num_threads(1)
    torch.manual_seed(0)
    networks = [UNet(UNetConfig(width=WIDTH), CLASSES).to(memory_format=torch.channels_last) for _ in range(2)]
    joined = Grouped(networks).to(memory_format=torch.channels_last)
    _check(networks, joined)
    figures = {}
    for mixed in (False, True) if has_bf16("cpu") else (False,):
        kind = "bf16" if mixed else "float32"
        for name, calls in {"step": _steps(networks, joined), "prediction": _predictions(networks)}.items():
            with torch.autocast("cpu", torch.bfloat16, enabled=mixed):
                seconds = timed(calls, ROUNDS, 2, time.process_time)
            ratios = [one / two for one, two in zip(seconds["grouped"], seconds["in turn"], strict=True)]
            medians = {way: round(statistics.median(values), 4) for way, values in seconds.items()}
            figures[f"{name} {kind}"] = {
                "ratio": round(statistics.median(ratios), 3),
                "from": round(min(ratios), 3),
                "to": round(max(ratios), 3),
                "seconds": medians,
            }
            print(f"{name} {kind}: grouped over in turn {figures[f'{name} {kind}']}")
    results.mkdir(parents=True, exist_ok=True)
    with (results / "members.jsonl").open("a") as stream:
        stream.write(json.dumps({"suite": "members", "rounds": ROUNDS, "figures": figures, **facts()}) + "\n")


def _check(networks: Sequence[UNet], joined: Grouped) -> None:
    """Both ways give the same outputs, in train mode and after it in eval mode."""
    images = torch.randn(2, 2, 32, 32)
    for training in (True, False):
        for module in (*networks, joined):
            module.train(training)
        with torch.no_grad():
            wanted = torch.cat([network(part) for network, part in zip(networks, images.chunk(2, 1), strict=True)], 1)
            torch.testing.assert_close(joined(images), wanted, rtol=1e-3, atol=1e-4)


def _steps(networks: Sequence[UNet], joined: Grouped) -> dict[str, Callable[[], object]]:
    images = torch.randn(10, 2, 128, 128).to(memory_format=torch.channels_last)
    parts = [part.contiguous(memory_format=torch.channels_last) for part in images.chunk(2, dim=1)]
    for module in (*networks, joined):
        module.train()

    def step(module: nn.Module, batch: Tensor) -> None:
        loss = module(batch).float().square().mean()
        torch.autograd.grad(loss, list(module.parameters()))

    return {
        "in turn": lambda: [step(network, part) for network, part in zip(networks, parts, strict=True)],
        "grouped": lambda: step(joined, images),
    }


def _predictions(networks: Sequence[UNet]) -> dict[str, Callable[[], object]]:
    images = torch.randn(4, 1, 256, 224).to(memory_format=torch.channels_last)
    twins = [folded(network) for network in networks]
    joined = Grouped(twins).to(memory_format=torch.channels_last)
    both = images.repeat(1, 2, 1, 1).contiguous(memory_format=torch.channels_last)

    def predict(*pairs: tuple[nn.Module, Tensor]) -> None:
        with torch.inference_mode():
            for module, batch in pairs:
                module(batch)

    return {
        "in turn": lambda: predict(*((twin, images) for twin in twins)),
        "grouped": lambda: predict((joined, both)),
    }
