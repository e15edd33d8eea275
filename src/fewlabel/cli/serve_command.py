"""The command that serves a run to viewers."""

from __future__ import annotations

from importlib.util import find_spec
from typing import Annotated

import typer

from fewlabel.cli.overrides import Device, Run, Words, collect

PANEL = "The whole way"
#: What the extra ``serve`` brings.
_NEEDED = ("fastapi", "python_multipart")


def add_to(app: typer.Typer) -> None:
    """Register the command."""
    app.command(rich_help_panel=PANEL)(serve)


def serve(
    run: Run,
    words: Words = None,
    *,
    port: Annotated[
        int | None, typer.Option("--port", metavar="N", help="Port of this machine; 8000 by default.")
    ] = None,
    no_token: Annotated[
        bool, typer.Option("--no-token", help="Let every program of this machine call, without the token.")
    ] = False,
    device: Device = None,
) -> None:
    """Serve a run to 3D Slicer and OHIF, as MONAI Label does."""
    values = collect({"run": run}, words, {"port": port, "device": device, **({"token": False} if no_token else {})})
    from fewlabel.core.errors import Fault, SettingsError
    from fewlabel.service.monai_label.settings import ServeSettings

    settings = ServeSettings.parse(values)
    if missing := [name for name in _NEEDED if find_spec(name) is None]:
        fault = Fault(f"needs {', '.join(missing)}", "serve", 'Install the extra: pip install "fewlabel[serve]"')
        raise SettingsError("Nothing is served:", [fault])
    from fewlabel.service.monai_label import server

    server.run(settings)
