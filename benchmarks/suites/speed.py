"""Speed and memory as ratios within one run; prints ``name ratio goal ok|short`` lines and keeps them as a row.

All on synthetic slices of 128x128: 64 views, network of width 16, the precision that ``auto`` chooses here.
"""

from __future__ import annotations

import json
import math
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from common import PeakMemory, facts, medians
from suites.plain_loop import PlainLoop

import fewlabel
from fewlabel.core.config import Settings
from fewlabel.data.loading import PretrainLoader
from fewlabel.data.phantom import write_phantom
from fewlabel.data.store import PreparedStore
from fewlabel.engine.inference import predict_volume
from fewlabel.engine.runtime import fast_kernels, start
from fewlabel.engine.step import apply_gradients, total_norm
from fewlabel.nets.unet import UNet, UNetConfig
from fewlabel.objectives.pixel import pixel_loss_peak_probe
from fewlabel.stages import finetune, pretrain
