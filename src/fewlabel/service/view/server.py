"""Serves the page of ``view`` until it is stopped."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from fewlabel.core.errors import DataError, Fault
from fewlabel.core.progress import say
from fewlabel.core.settings.value_syntax import show_value
from fewlabel.service.learn_process import LearnProcess
from fewlabel.service.loopback_server import link, loopback_socket, serve_until_stopped
from fewlabel.service.protection import protected
from fewlabel.service.token_check import new_token
from fewlabel.service.view.page_routes import POLICY, Viewing, view_app
from fewlabel.service.view.predictions_on_demand import PredictionQueue
from fewlabel.service.view.settings import ViewSettings
from fewlabel.service.view.viewed_scans import ViewedScans, viewed_scans


def run(settings: ViewSettings, ready: Callable[[str], None] = say) -> None:
    """Serve the page until Ctrl-C, SIGTERM or a closed terminal.

    Only this machine reaches it, by a link with a token of this call.

    Args:
        settings: What to show, and where.
        ready: Is given the link when the page is there.

    Raises:
        SettingsError: If a setting is wrong, or the port is in use.
        ArtifactError: If the place is a run without prepared data, or damaged.
        DataError: If there are no scans.
    """
    if not settings.place.exists():
        fault = Fault(f"{settings.place} does not exist", remedy="Check the path")
        raise DataError("There is nothing to show:", [fault])

    def load() -> ViewedScans:
        return viewed_scans(settings.place, settings.masks, settings.classes)

    scans = load()
    for note in scans.notes:
        say(note)
    learn = None if scans.run is None else LearnProcess(scans.run, _words(settings, scans.run))
    viewing = Viewing(scans, load, learn, PredictionQueue())
    token = new_token()
    app = protected(
        view_app(viewing, settings.place.resolve().name),
        token,
        largest_body=settings.largest_mask * 2**20,
        policy=POLICY,
    )
    bound = loopback_socket(settings.port)
    try:
        serve_until_stopped(app, bound, lambda: ready(link(bound, token)))
    finally:
        if learn is not None:
            learn.stop()


def _words(settings: ViewSettings, run: Path) -> list[str]:
    """Words of ``fewlabel learn``."""
    masks = [] if settings.masks is None or settings.masks == run / "annotations" else [f"masks={settings.masks}"]
    return [*masks, *_flat(settings.learn)]


def _flat(values: Mapping[str, Any], above: str = "") -> list[str]:
    words = []
    for key, value in values.items():
        if isinstance(value, Mapping):
            words += _flat(value, f"{above}{key}.")
        else:
            words.append(f"{above}{key}={show_value(value)}")
    return words
