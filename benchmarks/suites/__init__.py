"""The suites by name; each takes the command line's arguments."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

#: Where committed results lie.
RESULTS = Path(__file__).resolve().parents[1] / "results"


def _speed(arguments: argparse.Namespace) -> None:
    from suites.speed import run

    run(arguments.results)


def _ground(arguments: argparse.Namespace) -> None:
    from suites.ground_run import run
    from suites.grounds import GROUNDS

    chosen = [arm for arm in arguments.arms.split(",") if arm]
    run(GROUNDS[arguments.suite], arguments.data, arguments.work, arguments.results, chosen)


def _method_costs(arguments: argparse.Namespace) -> None:
    from suites.method_costs import PACKAGED, STEPS, run

    package = _package(PACKAGED, arguments)
    chosen = [arm for arm in arguments.arms.split(",") if arm]
    run(arguments.data, arguments.work, arguments.results, chosen, arguments.steps or STEPS, package)


def _package(packaged: Path, arguments: argparse.Namespace) -> Path:
    """Where costs for the package go: rows written elsewhere are a trial, and leave what it carries as it is."""
    elsewhere = Path(arguments.results) / f"{packaged.parent.name}-costs.json"
    return packaged if arguments.results.resolve() == RESULTS else elsewhere


def _probe(arguments: argparse.Namespace) -> None:
    from suites.probe import run

    run(arguments.data, arguments.work, arguments.results, [arm for arm in arguments.arms.split(",") if arm])


def _regime_costs(arguments: argparse.Namespace) -> None:
    from suites.regime_costs import PACKAGED, ROUNDS, run

    package = _package(PACKAGED, arguments)
    run(arguments.results, [arm for arm in arguments.arms.split(",") if arm], arguments.steps or ROUNDS, package)


def _sampling(arguments: argparse.Namespace) -> None:
    from suites.sampling import run

    run(arguments.results)


def _suggest(arguments: argparse.Namespace) -> None:
    from suites.suggest import run

    run(arguments.data, arguments.work, arguments.results, [arm for arm in arguments.arms.split(",") if arm])


def _temperature(arguments: argparse.Namespace) -> None:
    from suites.temperature import run

    run(arguments.data, arguments.work, arguments.results)


def _freed_memory(arguments: argparse.Namespace) -> None:
    from suites.freed_memory import run

    run(arguments.results)


def _memory(arguments: argparse.Namespace) -> None:
    from suites.memory import run

    run(arguments.results, [arm for arm in arguments.arms.split(",") if arm])


def _scaling(arguments: argparse.Namespace) -> None:
    from suites.scaling import run

    run(arguments.results, [arm for arm in arguments.arms.split(",") if arm])


def _streaming(arguments: argparse.Namespace) -> None:
    from suites.streaming import run

    run(arguments.results, [arm for arm in arguments.arms.split(",") if arm])


def _compiled(arguments: argparse.Namespace) -> None:
    from suites.compiled import run

    run(arguments.results)


def _batched(arguments: argparse.Namespace) -> None:
    from suites.batched import run

    run(arguments.results)


def _executors(arguments: argparse.Namespace) -> None:
    from suites.executors import run

    run(arguments.results)


def _members(arguments: argparse.Namespace) -> None:
    from suites.members import run

    run(arguments.results)


def _versus(arguments: argparse.Namespace) -> None:
    from suites.versus import run

    chosen = [arm for arm in arguments.arms.split(",") if arm]
    run(arguments.data, arguments.work, arguments.results, chosen, arguments.minutes)


SUITES: dict[str, Callable[[argparse.Namespace], None]] = {
    "speed": _speed,
    "acdc-ground": _ground,
    "batched": _batched,
    "compiled": _compiled,
    "executors": _executors,
    "freed-memory": _freed_memory,
    "hippocampus-ground": _ground,
    "la-ground": _ground,
    "members": _members,
    "memory": _memory,
    "method-costs": _method_costs,
    "probe": _probe,
    "regime-costs": _regime_costs,
    "sampling": _sampling,
    "scaling": _scaling,
    "streaming": _streaming,
    "suggest": _suggest,
    "temperature": _temperature,
    "versus": _versus,
}
