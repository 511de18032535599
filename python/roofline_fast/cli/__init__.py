"""The ``roofline-fast`` command: its subcommands, and what becomes of their errors."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from importlib import import_module
from typing import Annotated

import typer

from roofline_fast.cli.grammar import Group
from roofline_fast.cli.talk import INTERRUPTED, failure, no_output

# Every command, in the order of help, with the first line of its own. Only the one that runs is loaded: building the
# hundreds of parameters of the others would take longer than most commands do.
COMMANDS = {
    "analyze": "Price one step, or one whole request, operator by operator.",
    "sweep": "Price every combination of some axes; with --trace or --simulate, simulate every one.",
    "compare": "Explain why B is faster or slower than A: a waterfall per operator and resource that adds up.",
    "break-even": "Solve where techniques begin and cease to pay in decode, on the exact cost.",
    "simulate": "Replay a trace, or generated traffic, through an engine: latencies, throughput, where the time went.",
    "calibrate": "Fit efficiencies to measured kernels, steps or requests, or say what to measure (--plan).",
    "validate": "Hold predictions against measurements: kernels, steps, requests, points of real servers.",
    "trace": "Traces: who asks for how much, and when.",
    "catalog": "What is known by name: devices, models and techniques.",
}


def _version(wanted: bool) -> None:
    if wanted:
        from roofline_fast import __version__

        typer.echo(f"roofline-fast {__version__}")
        raise typer.Exit


def _root(
    context: typer.Context,
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())


def _app(asked: str | None) -> typer.Typer:
    """Return the command with the subcommand that is asked for, and the names of the others; all for completion."""
    # Plain help: drawing boxes costs 0.3 s of CPU more.
    app = typer.Typer(
        cls=Group,
        name="roofline-fast",
        help="What a language model costs to serve, what bounds it, and what to buy.",
        rich_markup_mode=None,
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
    )
    app.callback(invoke_without_command=True)(_root)
    completing = "_ROOFLINE_FAST_COMPLETE" in os.environ
    for name, summary in COMMANDS.items():
        if name == asked or completing:
            import_module(f"roofline_fast.cli.{name.replace('-', '_')}").register(app)
        else:
            app.command(name, help=summary, short_help=summary)(_elsewhere)
    return app


def _elsewhere() -> None:
    """Stand for a command that is not run."""


def run(arguments: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code.

    0 ok, 2 usage or bad input, 3 infeasible, 4 partial,
    130 interrupted.
    """
    # Python's word for a descriptor that the shell closed.
    if sys.stdout is None:
        return no_output()
    try:
        words = sys.argv[1:] if arguments is None else arguments
        asked = next((word for word in words if not word.startswith("-")), None)
        code = _app(asked)(args=arguments, prog_name="roofline-fast", standalone_mode=False)
    except (Exception, KeyboardInterrupt) as error:
        return failure(error)
    # The parser turns Ctrl-C into an exit code of its own.
    if code == INTERRUPTED:
        return failure(KeyboardInterrupt())
    return code if isinstance(code, int) else 0


def main() -> None:
    """Run the command and leave with its exit code."""
    sys.exit(run())
