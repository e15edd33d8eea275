"""The loop most people write first, as the yardstick of fine-tuning throughput.

The same network and loss in float32 and contiguous memory, fed by a DataLoader of two workers that augment each
slice with SciPy: rotation and zoom, an elastic deformation, intensity. It is written plainly but not badly.
"""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Iterator

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage
from torch import Tensor
from torch.nn import functional
from torch.utils.data import DataLoader, Dataset

from fewlabel.nets.unet import UNet, UNetConfig


class Slices(Dataset[tuple[Tensor, Tensor]]):
    """Labelled slices, augmented one by one with SciPy."""

    def __init__(self, images: NDArray[np.float32], labels: NDArray[np.uint8], length: int) -> None:
        self.images, self.labels, self.length = images, labels, length

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        draw = np.random.default_rng(index)
        row = int(draw.integers(len(self.images)))
        image, label = self.images[row], self.labels[row]
        angle, zoom = np.deg2rad(draw.uniform(-20, 20)), draw.uniform(0.8, 1.25)
        matrix = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]) / zoom
        centre = (np.array(image.shape) - 1) / 2
        points = np.stack(np.meshgrid(*map(np.arange, image.shape), indexing="ij")).reshape(2, -1) - centre[:, None]
        source = (matrix @ points + centre[:, None]).reshape(2, *image.shape)
        if draw.random() < 0.5:
            source += 8 * np.stack([ndimage.gaussian_filter(draw.uniform(-1, 1, image.shape), 8) for _ in range(2)])
        image = ndimage.map_coordinates(image, source, order=1)
        label = ndimage.map_coordinates(label, source, order=0)
        image = image * draw.uniform(0.75, 1.25) + draw.uniform(-0.05, 0.05) + draw.normal(0, 0.02, image.shape)
        image = (image - image.mean()) / (image.std() + 1e-6)
        return torch.from_numpy(image.astype(np.float32))[None], torch.from_numpy(label.astype(np.int64))


class PlainLoop:
    """One step per call.

    Args:
        network: The network to train, float32 and contiguous.
        images: (n, height, width) in [0, 1].
        labels: (n, height, width).
        batch: Slices of a batch.
        steps: How many steps will be asked for at most.
    """

    def __init__(
        self, network: UNet, images: NDArray[np.float32], labels: NDArray[np.uint8], batch: int, steps: int
    ) -> None:
        self.network = network.train()
        self.optimiser = torch.optim.Adam(network.parameters(), lr=1e-3)
        loader = DataLoader(Slices(images, labels, batch * steps), batch_size=batch, num_workers=2)
        self.batches: Iterator[list[Tensor]] = iter(loader)

    def step(self) -> None:
        """Fetch, forward, cross-entropy and soft Dice, backward, update."""
        images, labels = next(self.batches)
        logits = self.network(images)
        shares = torch.softmax(logits, dim=1)
        target = functional.one_hot(labels, self.network.classes).movedim(-1, 1).float()
        overlap = 2 * (shares * target).sum(dim=(2, 3)) / ((shares + target).sum(dim=(2, 3)) + 1e-5)
        loss = functional.cross_entropy(logits, labels) + 1 - overlap[:, 1:].mean()
        self.optimiser.zero_grad()
        loss.backward()
        self.optimiser.step()
        float(loss.detach())


if __name__ == "__main__":
    data, (width, size, repeats) = np.load(sys.argv[1]), map(int, sys.argv[2:5])
    torch.manual_seed(0)
    loop = PlainLoop(
        UNet(UNetConfig(width=width), int(data["classes"])), data["images"], data["labels"], size, repeats + 2
    )
    times = []
    for _ in range(repeats + 2):
        started = time.perf_counter()
        loop.step()
        times.append(time.perf_counter() - started)
    print(statistics.median(times[2:]))
