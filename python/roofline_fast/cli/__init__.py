"""The ``roofline-fast`` command: its subcommands, and what becomes of their errors."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Annotated

import typer

from roofline_fast.cli import (
    analyze,
    break_even,
    calibrate,
    catalog,
    compare,
    simulate,
    sweep,
    trace,
    validate,
)
from roofline_fast.cli.grammar import Group
from roofline_fast.cli.talk import INTERRUPTED, failure, no_output

# Plain help: drawing boxes costs 0.3 s of CPU more.
app = typer.Typer(
    cls=Group,
    name="roofline-fast",
    help="What a language model costs to serve, what bounds it, and what to buy.",
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
)


def _version(wanted: bool) -> None:
    if wanted:
        from roofline_fast import __version__

        typer.echo(f"roofline-fast {__version__}")
        raise typer.Exit


@app.callback(invoke_without_command=True)
def _root(
    context: typer.Context,
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())


for command in (analyze, sweep, compare, break_even, simulate, trace, calibrate, validate, catalog):
    command.register(app)


def run(arguments: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code.

    0 ok, 2 usage or bad input, 3 infeasible, 4 partial,
    130 interrupted.
    """
    # Python's word for a descriptor that the shell closed.
    if sys.stdout is None:
        return no_output()
    try:
        code = app(args=arguments, prog_name="roofline-fast", standalone_mode=False)
    except (Exception, KeyboardInterrupt) as error:
        return failure(error)
    # The parser turns Ctrl-C into an exit code of its own.
    if code == INTERRUPTED:
        return failure(KeyboardInterrupt())
    return code if isinstance(code, int) else 0


def main() -> None:
    """Run the command and leave with its exit code."""
    sys.exit(run())
