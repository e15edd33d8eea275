"""What the examples in docstrings of methods and regimes begin with: tiny networks, and batches of noise."""

import torch

from fewlabel.data.batch import PretrainBatch, SegmentationBatch
from fewlabel.methods.base import DataFacts
from fewlabel.nets.unet import UNet, UNetConfig, UNetEncoder

torch.manual_seed(0)
config = UNetConfig(width=4, depth=3)
encoder, network = UNetEncoder(config), UNet(config, classes=4)
facts = DataFacts({"patient": 2, "position": 2}, slices=4, image_size=(32, 32), store_slices=4, classes=4)

images, numbers = torch.randn(4, 1, 32, 32), torch.arange(4)
unmoved = torch.eye(3).expand(4, 3, 3)
pretrain_batch = PretrainBatch(
    views=(images, images + 0.1 * torch.randn_like(images)),
    matrices=(unmoved, unmoved),
    metadata={"patient": numbers // 2, "position": numbers % 2},
    positions=(numbers + 0.5) / 4,
    slices=numbers,
    step=0,
    total_steps=10,
    generator=torch.Generator().manual_seed(0),
)
segmentation_batch = SegmentationBatch(
    images=images[:2],
    labels=torch.randint(4, (2, 32, 32)),
    slices=numbers[:2],
    unlabelled=images[2:],
    unlabelled_again=(images[2:] + 0.1, images[2:] - 0.1),
    unlabelled_slices=numbers[2:],
    unlabelled_positions=(numbers[2:] + 0.5) / 4,
    step=9,
    total_steps=10,
    generator=torch.Generator().manual_seed(0),
)
