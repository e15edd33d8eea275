"""nnU-Net's trainer for so many seconds or steps, put beside its own ones in nnU-Net's own environment.

Everything is nnU-Net's but the length: the polynomial rate runs over the share of the budget that is spent, nothing is
validated in between, and a checkpoint is written now and then, from which ``--c`` goes on.
"""

import json
import os
import time
from pathlib import Path

from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer

#: Seconds between two checkpoints.
SAVE_EVERY = 300.0
RECORD = "versus.json"


class nnUNetTrainerMinutes(nnUNetTrainer):  # noqa: N801
    """Trains until ``VERSUS_SECONDS`` are over, or for ``VERSUS_STEPS`` steps where that is set."""

    def run_training(self) -> None:
        """Steps alone; their losses and the time they took go to ``versus.json`` beside the checkpoints."""
        self.on_train_start()
        self.network.train()
        seconds, steps = float(os.environ["VERSUS_SECONDS"]), int(os.environ.get("VERSUS_STEPS", "0"))
        path = Path(self.output_folder) / RECORD
        record = json.loads(path.read_text()) if path.is_file() else {"seconds": 0.0, "losses": []}
        losses, before, started, saved = record["losses"], record["seconds"], time.monotonic(), time.monotonic()
        while True:
            spent = before + time.monotonic() - started
            share = len(losses) / steps if steps else spent / seconds
            if share >= 1:
                break
            for group in self.optimizer.param_groups:
                group["lr"] = self.initial_lr * (1 - share) ** 0.9
            losses.append(round(float(self.train_step(next(self.dataloader_train))["loss"]), 4))
            if time.monotonic() - saved >= SAVE_EVERY:
                saved = time.monotonic()
                self.save_checkpoint(str(path.with_name("checkpoint_latest.pth")))
                self._write(path, before + time.monotonic() - started, losses)
        self._write(path, before + time.monotonic() - started, losses)
        self.on_train_end()

    def _write(self, path: Path, seconds: float, losses: list[float]) -> None:
        record = {"seconds": round(seconds, 1), "batch": int(self.batch_size), "losses": losses}
        path.write_text(json.dumps(record))

    def perform_actual_validation(self, save_probabilities: bool = False) -> None:
        """Leave it out: the test scans are scored by the suite."""
