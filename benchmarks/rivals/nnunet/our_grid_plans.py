"""nnU-Net's plans on another grid and batch, in its own environment: ``our_grid_plans.py PLANS SPACING SIZE BATCH``.

Depth, strides and widths are what nnU-Net's own rule makes of that patch. Writes ``nnUNetPlansOurGrid.json`` beside.
"""

import json
import sys
from pathlib import Path

from nnunetv2.experiment_planning.experiment_planners.network_topology import get_pool_and_conv_props

NAME = "nnUNetPlansOurGrid"
#: nnU-Net's own for 2D: smallest edge of the last map, widths.
SMALLEST, FIRST, WIDEST = 4, 32, 512

if __name__ == "__main__":
    path, spacing, size, batch = Path(sys.argv[1]), float(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4])
    plans = json.loads(path.read_text())
    plans["plans_name"] = NAME
    asked = plans["configurations"]["2d"]
    _, strides, kernels, patch, _ = get_pool_and_conv_props([spacing, spacing], [size, size], SMALLEST, 999999)
    asked |= {"spacing": [spacing, spacing], "patch_size": [int(edge) for edge in patch], "batch_size": batch}
    asked["data_identifier"] = f"{NAME}_2d"
    stages = len(strides)
    network = asked["architecture"]["arch_kwargs"]
    network |= {
        "n_stages": stages,
        "features_per_stage": [min(FIRST * 2**stage, WIDEST) for stage in range(stages)],
        "kernel_sizes": [list(map(int, kernel)) for kernel in kernels],
        "strides": [list(map(int, stride)) for stride in strides],
        "n_conv_per_stage": [2] * stages,
        "n_conv_per_stage_decoder": [2] * (stages - 1),
    }
    plans["configurations"] = {"2d": asked}
    path.with_name(f"{NAME}.json").write_text(json.dumps(plans, indent=2))
