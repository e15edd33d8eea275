"""Figures of a training on TensorBoard and MLflow, beside its own record; neither is loaded unless it is asked for."""

from __future__ import annotations

import importlib.util
import os
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, Protocol

from pydantic import Field

from fewlabel.core.artifact.files import read_json, write_json
from fewlabel.core.collective import rank
from fewlabel.core.errors import Fault, SettingsError, reason
from fewlabel.core.progress import say
from fewlabel.core.settings.value_syntax import assignments

Tracking = Annotated[tuple[Literal["tensorboard", "mlflow"], ...], Field(strict=False)]
#: What is written where, below the folder of a training.
EVENTS, RUN = "tensorboard", "mlflow.json"
#: MLflow's own variable: where it writes.
PLACE = "MLFLOW_TRACKING_URI"
#: Most parameters that MLflow takes at a time, and the longest value.
_MOST, _LONGEST = 100, 500


class Tracker(Protocol):
    """Takes the figures of a training."""

    def add(self, step: int, figures: Mapping[str, float]) -> None:
        """Take the figures of a step."""

    def close(self, *, whole: bool) -> None:
        """Write what is not written yet, and say whether the training took all its steps."""


class TensorBoard:
    """Event files in the folder of a training, for ``tensorboard --logdir``.

    Args:
        folder: Of the training.
        first_step: Figures of this step and later are dropped: a resumed run writes them again.
    """

    def __init__(self, folder: Path, first_step: int) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self._writer = SummaryWriter(str(folder / EVENTS), purge_step=first_step or None)

    def add(self, step: int, figures: Mapping[str, float]) -> None:
        """Take the figures of a step."""
        for name, value in figures.items():
            self._writer.add_scalar(name, value, step)

    def close(self, *, whole: bool) -> None:  # noqa: ARG002  # event files do not say how a training ended
        """Write what is not written yet."""
        self._writer.close()


class MLflow:
    """A run of MLflow, in the experiment that ``MLFLOW_EXPERIMENT_NAME`` names, else ``fewlabel``.

    A resumed training goes on in the run that it began.

    Args:
        folder: Of the training.
        settings: Its settings, which become parameters.
    """

    def __init__(self, folder: Path, settings: Mapping[str, Any]) -> None:
        # MLflow tells its makers how it is used, unless this is set before it is loaded.
        os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
        if os.environ[PLACE].startswith("file:"):
            # MLflow keeps plain files only for those who ask for them, as whoever set the place did.
            os.environ.setdefault("MLFLOW_ALLOW_FILE_STORE", "true")
        from mlflow import MlflowClient
        from mlflow.entities import Param

        self._client = MlflowClient()
        path = folder / RUN
        if path.is_file():
            self._run = str(read_json(path)["run"])
            self._client.update_run(self._run, status="RUNNING")
            return
        name = os.environ.get("MLFLOW_EXPERIMENT_NAME", "fewlabel")
        known = self._client.get_experiment_by_name(name)
        experiment = known.experiment_id if known else self._client.create_experiment(name)
        self._run = self._client.create_run(experiment, run_name=f"{folder.parent.name}/{folder.name}").info.run_id
        write_json(path, {"run": self._run})
        words = [word.partition("=") for word in assignments(settings)]
        parameters = [Param(key, value[:_LONGEST]) for key, _, value in words]
        for at in range(0, len(parameters), _MOST):
            self._client.log_batch(self._run, params=parameters[at : at + _MOST])

    def add(self, step: int, figures: Mapping[str, float]) -> None:
        """Take the figures of a step."""
        from mlflow.entities import Metric

        now = int(1000 * time.time())
        self._client.log_batch(self._run, metrics=[Metric(name, value, now, step) for name, value in figures.items()])

    def close(self, *, whole: bool) -> None:
        """Say that the run is over, and that it has failed if steps are left."""
        self._client.set_terminated(self._run, "FINISHED" if whole else "FAILED")


class Trackers:
    """All trackers of a training; one that fails is told once and left out, and the training goes on.

    Args:
        names: ``tensorboard``, ``mlflow``.
        folder: Of the training.
        first_step: Its first step now.
        settings: Its settings.

    Raises:
        SettingsError: If one cannot begin.
    """

    def __init__(self, names: Sequence[str], folder: Path, first_step: int, settings: Mapping[str, Any]) -> None:
        self._trackers: dict[str, Tracker] = {}
        for name in names if rank() == 0 else ():
            try:
                made = TensorBoard(folder, first_step) if name == "tensorboard" else MLflow(folder, settings)
            except Exception as error:
                fault = Fault(f"{name} cannot begin ({reason(error)})", "tracking", "Leave it out, or mend it")
                raise SettingsError("These settings cannot be used:", [fault]) from error
            self._trackers[name] = made

    def add(self, step: int, values: Mapping[str, Any]) -> None:
        """Hand on those of a row's values that are finite numbers."""
        figures = {
            name: float(value)
            for name, value in values.items()
            if isinstance(value, int | float) and not isinstance(value, bool)
        }
        for name in list(self._trackers):
            self._try(name, lambda tracker: tracker.add(step, figures))

    def close(self, *, whole: bool) -> None:
        """Write what is not written yet.

        Args:
            whole: Whether the training took all its steps, and was neither stopped nor failed.
        """
        for name in list(self._trackers):
            self._try(name, lambda tracker: tracker.close(whole=whole))

    def _try(self, name: str, act: Any) -> None:
        try:
            act(self._trackers[name])
        except Exception as error:  # noqa: BLE001
            # Whatever it is, a training of hours is not lost for its picture.
            del self._trackers[name]
            say(f"{name} takes no more figures ({reason(error)}); the training goes on, metrics.jsonl has them all.")


def missing_trackers(names: Sequence[str], where: str = "") -> list[Fault]:
    """A fault for each tracker that is not installed, or does not know where to write.

    Args:
        names: ``tensorboard``, ``mlflow``.
        where: Prefix of keys in messages.
    """
    faults = [
        Fault(f"{name} is not installed", f"{where}tracking", 'Run pip install "fewlabel[tracking]"')
        for name in names
        if importlib.util.find_spec(name) is None
    ]
    if "mlflow" in names and not os.environ.get(PLACE):
        remedy = f"Set it to a server, or to a folder: export {PLACE}=file://$PWD/mlruns"
        faults.append(Fault(f"mlflow writes where {PLACE} says, which is not set", f"{where}tracking", remedy))
    return faults
