"""The Typer application: one group, its guard against exceptions, its commands."""

from __future__ import annotations

import sys

try:
    import logging
    from collections.abc import Sequence
    from typing import Annotated, Any

    import typer
    from typer.core import TyperGroup

    import fewlabel
    from fewlabel.cli import lists, pipelines, run_checks, serve_command, stages, study_command, table_command
    from fewlabel.cli.terminal_output import any_encoding, show_progress
    from fewlabel.core.stop_signals import stopping_on_signals
except KeyboardInterrupt:
    # Most of the time before the first line is spent here, where nobody guards yet.
    sys.stderr.write("Interrupted.\n")
    sys.exit(130)

EPILOG = (
    "Exit codes: 0 ok, 2 usage or settings, 3 data, 4 diverged, 5 out of memory, 6 disk full, 7 another process lost, "
    "130 interrupted and saved."
)

#: Where a context keeps the words of the command line.
_WORDS = "fewlabel.words"
_VERBOSE = ("-v", "--verbose")


class _Guarded(TyperGroup):
    """Turns every exception of a command into a message and an exit code."""

    def make_context(self, info_name: str | None, args: list[str], *rest: Any, **extra: Any) -> Any:
        """Read the words; typer leaves without a word where it is interrupted."""
        words = list(args)
        verbose = [word for word in args if word in _VERBOSE]
        try:
            # It may stand behind the command, too.
            moved = [*verbose, *(word for word in args if word not in _VERBOSE)]
            context = super().make_context(info_name, moved, *rest, **extra)
        except KeyboardInterrupt:
            sys.stderr.write("Interrupted.\n")
            raise typer.Exit(130) from None
        context.meta[_WORDS] = words
        return context

    def invoke(self, ctx: Any) -> Any:
        """Run the chosen command."""
        try:
            return super().invoke(ctx)
        except (typer.Exit, typer.Abort, BrokenPipeError):
            raise
        except (Exception, KeyboardInterrupt) as error:
            if type(error).__module__.startswith(("click", "typer")):
                raise
            from fewlabel.cli.failures import report_failure
            from fewlabel.cli.options_in_errors import with_options
            from fewlabel.core.errors import SettingsError

            command = self.get_command(ctx, ctx.invoked_subcommand) if ctx.invoked_subcommand else None
            if isinstance(error, SettingsError) and command is not None:
                raise typer.Exit(report_failure(with_options(error, ctx.meta[_WORDS], command, self))) from error
            raise typer.Exit(report_failure(error)) from error


app = typer.Typer(
    name="fewlabel",
    cls=_Guarded,
    help="Segment medical images from a handful of annotations and the metadata that scans carry for free.",
    epilog=EPILOG,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _show_version(asked: bool) -> None:
    """Print the version alone, for scripts; ``fewlabel version`` says more."""
    if asked:
        sys.stdout.write(f"fewlabel {fewlabel.__version__}\n")
        raise typer.Exit


@app.callback()
def _options(
    *,
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Show what the library logs.")] = False,
    version: Annotated[  # noqa: ARG001
        bool, typer.Option("--version", help="Show the version and leave.", is_eager=True, callback=_show_version)
    ] = False,
) -> None:
    logging.basicConfig(level=logging.DEBUG if verbose else logging.ERROR, format="%(name)s: %(message)s", force=True)
    if verbose:
        for noisy in ("matplotlib", "PIL", "fsspec", "asyncio"):
            logging.getLogger(noisy).setLevel(logging.WARNING)
    show_progress()


pipelines.add_to(app)
study_command.add_to(app)
table_command.add_to(app)
serve_command.add_to(app)
stages.add_to(app)
run_checks.add_to(app)
lists.add_to(app)


def main(words: Sequence[str] | None = None) -> None:
    """Run the command line; leaves with an exit code.

    Args:
        words: Command-line words; those of the process by default.
    """
    try:
        any_encoding()
        with stopping_on_signals():
            app(args=list(words) if words is not None else None, prog_name="fewlabel")
    except KeyboardInterrupt:
        # While the commands are put together, before one of them is guarded.
        sys.stderr.write("Interrupted.\n")
        sys.exit(130)
