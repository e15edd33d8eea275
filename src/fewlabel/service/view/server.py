"""Serves the page of ``view`` until it is stopped."""

from __future__ import annotations

from collections.abc import Callable

from fewlabel.core.errors import DataError, Fault
from fewlabel.core.output_paths import with_a_name
from fewlabel.core.progress import say
from fewlabel.service.learning_job import LearningJob
from fewlabel.service.loopback_server import link, loopback_socket, serve_until_stopped
from fewlabel.service.protection import protected
from fewlabel.service.token_check import new_token
from fewlabel.service.view.page_routes import POLICY, view_app
from fewlabel.service.view.page_state import Viewing
from fewlabel.service.view.predictions_on_demand import PredictionQueue
from fewlabel.service.view.settings import ViewSettings
from fewlabel.service.view.viewed_scans import viewed_scans


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

    scans = viewed_scans(settings.place, settings.masks, settings.classes, settings.reader)
    for note in scans.notes:
        say(note)
    learn = None if scans.run is None else LearningJob(scans.run)
    masks = {} if settings.masks is None else {"masks": settings.masks.absolute()}
    viewing = Viewing(scans, PredictionQueue(), learn, {**masks, **settings.learn})
    token = new_token()
    app = protected(
        view_app(viewing, with_a_name(settings.place).name),
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
