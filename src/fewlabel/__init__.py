"""fewlabel: segment medical images from a handful of annotations and the metadata scans carry for free.

Each stage and pipeline is a function that takes the settings of the command line as keywords::

    import fewlabel

    run = fewlabel.train(data="scans", out="run", recipe="acdc-lite", finetune={"labelled": 2})
    fewlabel.predict(model=run, scans="new_scans", out="masks")

The examples of the functions are run one after another, :func:`report` after :func:`train`, in a folder begun with::

    from fewlabel.data.phantom.scans import write_phantom

    write_phantom("scans", patients=4, labelled=2, test=1)
    write_phantom("others", patients=4, labelled=2, test=1, seed=1)

Importing this package loads neither torch nor any other heavy library; the functions do.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fewlabel.core.errors import (
    ArtifactError,
    DataError,
    DivergedError,
    Fault,
    FewlabelError,
    MemoryLimitError,
    RunStoppedError,
    SettingsError,
)

if TYPE_CHECKING:
    from types import ModuleType

__version__ = "0.1.0"

__all__ = [
    "ArtifactError",
    "DataError",
    "DivergedError",
    "Fault",
    "FewlabelError",
    "MemoryLimitError",
    "RunStoppedError",
    "SettingsError",
    "__version__",
    "demo",
    "evaluate",
    "export",
    "finetune",
    "learn",
    "merge",
    "predict",
    "prepare",
    "pretrain",
    "relabel",
    "report",
    "study",
    "suggest",
    "train",
]


def prepare(*, recipe: str | Path | None = None, **settings: Any) -> Path:
    """Bring scans onto one grid, with their metadata and a split; see ``fewlabel settings prepare``.

    Args:
        recipe: Name or file of a recipe; its section for this stage counts.
        **settings: Settings of the stage; ``data`` and ``out`` are required.

    Returns:
        The prepared folder.

    Raises:
        FewlabelError: If a setting is wrong, or the scans break a rule.

    Example:
        >>> fewlabel.prepare(data="scans", out="prepared", spacing=[6.0, 6.0], size=[32, 32]).name
        'prepared'
    """
    return _stage("prepare", settings, recipe)


def merge(**settings: Any) -> Path:
    """Join prepared folders into one, to pre-train on all of them; see ``fewlabel settings merge``.

    Args:
        **settings: ``data`` and ``others`` (prepared folders) and ``out`` are required.

    Returns:
        The merged folder, an artifact of kind ``prepared``.

    Raises:
        FewlabelError: If the folders do not fit together.

    Example:
        >>> other = fewlabel.prepare(data="others", out="prepared-others", spacing=[6.0, 6.0], size=[32, 32])
        >>> fewlabel.merge(data="prepared", others=[str(other)], out="merged").name
        'merged'
    """
    return _stage("merge", settings, None)


def relabel(**settings: Any) -> Path:
    """Take new and corrected masks into prepared scans; see ``fewlabel settings relabel``.

    Args:
        **settings: ``data`` (a prepared folder), ``masks`` (a folder of masks) and ``out`` are required.

    Returns:
        The folder of the new prepared store.

    Raises:
        FewlabelError: If there is no new mask, or one cannot be used.

    Example:
        >>> fewlabel.relabel(data="prepared", masks="scans/labels", out="relabelled").name
        'relabelled'
    """
    return _stage("relabel", settings, None)


def pretrain(*, recipe: str | Path | None = None, **settings: Any) -> Path:
    """Train an encoder on slices without labels; see ``fewlabel settings pretrain``.

    Args:
        recipe: Name or file of a recipe; its section for this stage counts.
        **settings: Settings of the stage, such as ``method="gcl"`` or ``method={"name": "gcl", "temperature": 0.2}``;
            ``data`` (a prepared folder) and ``out`` are required.

    Returns:
        The encoder folder.

    Raises:
        FewlabelError: If a setting is wrong or training fails.

    Example:
        >>> network = {"width": 4}
        >>> fewlabel.pretrain(data="prepared", out="encoder", method="simclr", network=network, steps=2, batch=4).name
        'encoder'
    """
    return _stage("pretrain", settings, recipe)


def finetune(*, recipe: str | Path | None = None, **settings: Any) -> Path:
    """Train a segmentation network on the few labels; see ``fewlabel settings finetune``.

    Args:
        recipe: Name or file of a recipe; its section for this stage counts.
        **settings: Settings of the stage, such as ``encoder`` and ``labelled``; ``data`` (a prepared folder) and
            ``out`` are required.

    Returns:
        The segmenter folder.

    Raises:
        FewlabelError: If a setting is wrong or training fails.

    Example:
        >>> fewlabel.finetune(data="prepared", out="segmenter", encoder="encoder", labelled=1, steps=2, batch=2).name
        'segmenter'
    """
    return _stage("finetune", settings, recipe)


def evaluate(*, recipe: str | Path | None = None, **settings: Any) -> Path:
    """Score a network on test patients, against a control; see ``fewlabel settings evaluate``.

    Args:
        recipe: Name or file of a recipe; its section for this stage counts.
        **settings: Settings of the stage; ``data`` (a prepared folder), ``segmenter`` and ``out`` are required.

    Returns:
        The scores folder.

    Raises:
        FewlabelError: If a setting is wrong or the folders do not fit together.

    Example:
        >>> fewlabel.evaluate(data="prepared", segmenter="segmenter", out="scores").name
        'scores'
    """
    return _stage("evaluate", settings, recipe)


def predict(**settings: Any) -> Path:
    """Write a mask for each scan, on the scan's own grid; see ``fewlabel settings predict``.

    Args:
        **settings: Settings of the stage; ``model`` (a run or segmenter folder), ``scans`` and ``out`` are required.

    Returns:
        The folder of masks.

    Raises:
        FewlabelError: If a setting is wrong or a scan cannot be read.

    Example:
        >>> fewlabel.predict(model="segmenter", scans="scans", out="masks").name
        'masks'
    """
    return _stage("predict", settings, None)


def suggest(**settings: Any) -> Path:
    """Say which scans to annotate next, and why; see ``fewlabel settings suggest``.

    Args:
        **settings: Settings of the stage, such as ``count``; ``run`` (a run or prepared folder) is required.

    Returns:
        The table of suggestions, a choice at random below them.

    Raises:
        FewlabelError: If a setting is wrong, or every training scan is annotated.

    Example:
        >>> fewlabel.suggest(run="prepared", count=1, out="suggestions.csv").name
        'suggestions.csv'
    """
    return _stage("suggest", settings, None)


def export(**settings: Any) -> Path:
    """Write what was trained for other programs; see ``fewlabel settings export``.

    Args:
        **settings: Settings of the stage; ``source`` (a run folder or a part of one), ``to`` (such as ``"onnx"``) and
            ``out`` are required.

    Returns:
        What was written.

    Raises:
        FewlabelError: If a setting is wrong, or the other program cannot take what is to be exported.

    Example:
        >>> fewlabel.export(source="encoder", to="monai", out="encoder.pth").name
        'encoder.pth'
    """
    return _stage("export", settings, None)


def report(**settings: Any) -> Path:
    """Write one HTML page about a run; see ``fewlabel settings report``.

    Args:
        **settings: Settings of the stage; ``run`` (a run folder) and ``out`` are required.

    Returns:
        The folder of the page.

    Raises:
        FewlabelError: If a setting is wrong or an artifact is missing.

    Example:
        >>> fewlabel.report(run="run", out="page").name
        'page'
    """
    return _stage("report", settings, None)


def train(*, recipe: str | Path | None = None, **settings: Any) -> Path:
    """From a folder of scans to a model, its scores and a report; see ``fewlabel settings train``.

    Args:
        recipe: Name or file of a recipe.
        **settings: ``data`` and ``out`` are required. A bare setting goes to every stage that has it; settings of one
            stage are given as a mapping, such as ``pretrain={"steps": 400}``.

    Returns:
        The run folder.

    Raises:
        FewlabelError: If a setting is wrong (before any work) or a stage fails.

    Example:
        >>> small = {"prepare": {"spacing": [6.0, 6.0]}, "finetune": {"network": {"width": 4}}}
        >>> fewlabel.train(data="scans", out="run", budget="off", pretraining=False, steps=2, **small).name
        'run'
    """
    pipeline = _load("pipelines.train")
    return Path(pipeline.run(pipeline.train_settings(settings, recipe)))


def study(spec: str | Path | Mapping[str, Any], **settings: Any) -> Path:
    """Methods compared over label budgets, draws and seeds; see ``fewlabel settings study``.

    Args:
        spec: Name of a study of the package, a YAML file, or the same as a mapping.
        **settings: Settings over those of the study; ``out`` is required, and ``data`` unless the study has it.

    Returns:
        The folder of the study; tables and statistics are in ``results``.

    Raises:
        FewlabelError: If a setting is wrong (before any work) or cells fail (once all others are done).

    Example:
        >>> small = {"prepare": {"spacing": [6.0, 6.0]}, "finetune": {"network": {"width": 4}, "steps": 2, "batch": 2}}
        >>> arms = {"fixmatch": {}, "supervised": {"regime": "supervised"}}
        >>> fewlabel.study({"arms": arms, "draws": 1, **small}, data="scans", out="study").name
        'study'
    """
    pipeline = _load("pipelines.study")
    return Path(pipeline.run(pipeline.study_of(spec, settings)))


def learn(**settings: Any) -> Path:
    """Take new and corrected masks into a run, and go on from its network; see ``fewlabel settings learn``.

    Args:
        **settings: ``run`` (a run folder) is required; ``masks`` is a folder of masks, ``RUN/annotations`` by default.

    Returns:
        The folder of the round.

    Raises:
        FewlabelError: If there is no new mask, or one cannot be used, or training fails.

    Example:
        >>> fewlabel.learn(run="run", masks="scans/labels", steps=2, scans=1).name
        '1'
    """
    pipeline = _load("pipelines.learn")
    return Path(pipeline.run(pipeline.learn_settings(settings)))


def demo(**settings: Any) -> Path:
    """The whole way on synthetic beating hearts; see ``fewlabel settings demo``.

    Args:
        **settings: Settings of the demo, and any that :func:`train` takes; none is required.

    Returns:
        The run folder.

    Raises:
        FewlabelError: If a setting is wrong or a stage fails.

    Example:
        >>> small = {"prepare": {"spacing": [6.0, 6.0]}, "finetune": {"network": {"width": 4}}}
        >>> fewlabel.demo(out="demo", patients=4, test=1, budget="off", pretraining=False, steps=2, **small).name
        'demo'
    """
    pipeline = _load("pipelines.demo")
    return Path(pipeline.run(pipeline.demo_settings(settings)))


def _stage(name: str, settings: dict[str, Any], recipe: str | Path | None) -> Path:
    return Path(_load("pipelines.stage_table").run_values(name, settings, recipe))


def _load(name: str) -> ModuleType:
    # By name: a module that imports this package, for its version, does not import the pipelines by it.
    return import_module(f"fewlabel.{name}")
