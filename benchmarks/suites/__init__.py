"""The suites by name; each takes the command line's arguments."""

from __future__ import annotations

import argparse
from collections.abc import Callable


def _speed(arguments: argparse.Namespace) -> None:
    from suites.speed import run

    run(arguments.results)


def _acdc_lite(arguments: argparse.Namespace) -> None:
    from suites.acdc_lite import run

    run(arguments.data, arguments.work, arguments.results, [arm for arm in arguments.arms.split(",") if arm])


def _acdc_methods(arguments: argparse.Namespace) -> None:
    from suites.acdc_methods import run

    run(arguments.data, arguments.work, arguments.results, [arm for arm in arguments.arms.split(",") if arm])


def _temperature(arguments: argparse.Namespace) -> None:
    from suites.temperature import run

    run(arguments.data, arguments.work, arguments.results)


def _memory(arguments: argparse.Namespace) -> None:
    from suites.memory import run

    run(arguments.results)


SUITES: dict[str, Callable[[argparse.Namespace], None]] = {
    "speed": _speed,
    "acdc-lite": _acdc_lite,
    "acdc-methods": _acdc_methods,
    "memory": _memory,
    "temperature": _temperature,
}
