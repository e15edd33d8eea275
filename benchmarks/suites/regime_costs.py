"""What each regime costs: time of a fine-tuning step over the supervised one, and memory beside the network.

Slices of 128x128, ten labelled and ten unlabelled, a network of width 16: the batch of ``acdc-lite``. All regimes take
turns, one step each in a round, and a time is divided by the supervised one of the same round. A step is losses,
gradients and what follows them, late in the run, when every part counts; where a regime trains in stages, the first is
a row of its own. The optimiser and the batch are left out: they are the same for all.

Writes ``results/regime-costs.json``, and the figures that ``fewlabel regimes`` shows into the package.
"""

from __future__ import annotations

import statistics
from pathlib import Path

import fewlabel
from common import compact, facts, timed, write
from fewlabel.core.plugin_discovery import plugin_names
from fewlabel.engine.runtime import fast_kernels, start
from fewlabel.regimes.base import Regime
from suites.regime_steps import TOTAL, build, stepper

SUITE = "regime-costs"
REFERENCE = "supervised"
#: The recipe whose sizes the made slices have.
RECIPE = "acdc-lite"
PACKAGED = Path(fewlabel.__file__).parent / "regimes" / "costs.json"
ROUNDS, WARM_UP = 9, 2
LATE, EARLY = 90, 10


def run(results: Path, chosen: list[str], rounds: int = ROUNDS, package: Path | None = None) -> None:
    """Measure, print a line per regime, write the results.

    Args:
        results: Folder of ``regime-costs.json``.
        chosen: Regimes to measure; all if empty. The package's figures are written for all only.
        rounds: Timed steps of each.
        package: File of the figures that ``fewlabel regimes`` shows; None leaves them as they are.
    """
    fast_kernels(start().device.type)
    names = list(dict.fromkeys([REFERENCE, *(chosen or plugin_names("fewlabel.regimes"))]))
    regimes = {name: build(name) for name in names}
    steps = {name: stepper(regime, LATE) for name, regime in regimes.items()}
    for name in names:
        if regimes[name].training_phase(EARLY, TOTAL) != regimes[name].training_phase(LATE, TOTAL):
            regimes[f"{name}, stage 1"] = build(name)
            steps[f"{name}, stage 1"] = stepper(regimes[f"{name}, stage 1"], EARLY)
    times = timed(steps, rounds, WARM_UP)
    rows = {}
    for name, took in times.items():
        ratios = [ours / plain for ours, plain in zip(took, times[REFERENCE], strict=True)]
        rows[name] = {
            "step": round(statistics.median(ratios), 3),
            "step_seconds": round(statistics.median(took), 4),
            "extra_bytes": extra_bytes(regimes[name]),
        }
        print(f"{name}: {rows[name]['step']:.2f} x, {rows[name]['extra_bytes'] / 2**20:.1f} MiB beside the network")
    known = facts()
    content = {"suite": SUITE, "reference": REFERENCE, "steps": rounds, "regimes": rows, **known}
    write(results / f"{SUITE}.json", content)
    if package is not None and not chosen:
        write(package, compact({name: rows[name] for name in names}, RECIPE, REFERENCE, known))


def extra_bytes(regime: Regime) -> int:
    """Bytes of the parameters and buffers that a regime has beside the network: teachers, heads, banks, optimisers."""
    own = {id(tensor) for tensor in [*regime.network.parameters(), *regime.network.buffers()]}
    found = {id(tensor): tensor for tensor in [*regime.parameters(), *regime.buffers()] if id(tensor) not in own}
    return sum(tensor.numel() * tensor.element_size() for tensor in found.values())
