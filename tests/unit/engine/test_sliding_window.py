"""Windows slab by slab are MONAI's sliding window, to the bit; slabs do not hold the volume."""

from __future__ import annotations

import pytest
import torch
from monai.inferers import SlidingWindowInferer

from fewlabel.engine.fitting_batch import fitting_batch
from fewlabel.engine.sliding_window import windowed_logits
from fewlabel.nets.unet import UNet, UNetConfig


@pytest.mark.parametrize("batch", [1, 3, 50])
@pytest.mark.parametrize(
    ("shape", "size"),
    [((13, 10, 9), (4, 6, 5)), ((8, 6, 6), (8, 6, 6)), ((9, 7, 7), (1, 7, 4)), ((12, 8, 6), (6, 4, 6))],
)
def test_they_are_those_of_monai(shape, size, batch):
    generator = torch.Generator().manual_seed(0)
    volume = torch.randn((1, 2, *shape), generator=generator)
    conv = torch.nn.Conv3d(2, 3, 3, padding=1).requires_grad_(requires_grad=False)
    wanted = SlidingWindowInferer(size, sw_batch_size=batch, overlap=0.5, mode="gaussian")(volume, conv)[0]
    asked = []

    def rows(start, stop):
        asked.append(stop - start)
        return volume[:, :, start:stop]

    slabs = list(windowed_logits(conv, rows, shape, size, batch))
    found = torch.cat(slabs, dim=1)
    assert found.shape == (3, *shape)
    assert torch.equal(found, wanted)
    if batch == 1:
        assert max(asked) == size[0]
        assert max(slab.shape[1] for slab in slabs) <= size[0]


def test_a_batch_is_what_memory_has_room_for():
    network = UNet(UNetConfig(width=8, depth=3), 4)
    assert fitting_batch(network, (64, 64), "cpu", left=1 << 40) == 4
    assert fitting_batch(network, (64, 64), "cpu", batch=500, left=1 << 40) == 500
    few = fitting_batch(network, (256, 256), "cpu", batch=500, left=1 << 30)
    assert 1 < few < 500
    assert fitting_batch(network, (256, 256), "cpu", batch=500, left=1 << 29) == pytest.approx(few / 2, abs=1)
    assert fitting_batch(network, (256, 256), "cpu", batch=500, left=0) == 1
    deep = UNet(UNetConfig(ndim=3, width=8, depth=3), 4)
    window = (32, 160, 160)
    assert 1 <= fitting_batch(deep, (256, 256), "cpu", batch=8, window=window, left=1 << 30) < 8
