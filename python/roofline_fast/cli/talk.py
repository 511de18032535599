"""What the command says beside its results: errors and hints on stderr, and their exit codes."""

from __future__ import annotations

import platform
import sys
from typing import Any

import typer

from roofline_fast.cli.elsewhere import HINTS
from roofline_fast.errors import DoesNotFitError, InternalError, RooflineError, SpecError
from roofline_fast.suggest import unknown

INTERNAL = 1
BAD_INPUT = 2
INFEASIBLE = 3
PARTIAL = 4
INTERRUPTED = 130  # 128 + SIGINT, as shells report it
BROKEN_PIPE = 141  # 128 + SIGPIPE


class StoppedError(Exception):
    """Ctrl-C where something was written: what there is. The parser would lose the words of a `KeyboardInterrupt`."""


def say(text: str) -> None:
    """Write one line to stderr."""
    typer.echo(text, err=True)


def note(text: str, *, quiet: bool = False) -> None:
    """Write one line of talk to stderr, unless the user wants quiet."""
    if not quiet:
        say(text)


def failure(error: BaseException) -> int:
    """Tell the user what went wrong, never with a traceback, and return the exit code."""
    if isinstance(error, BrokenPipeError):
        return _broken_pipe()
    if isinstance(error, typer.Abort | KeyboardInterrupt | StoppedError):
        say(f"interrupted: {error if isinstance(error, StoppedError) else 'nothing was written'}")
        return INTERRUPTED
    if type(error).__name__ == "NoArgsIsHelpError":
        return _incomplete(error)
    if isinstance(error, typer.TyperException):
        error = _usage(error)
    if isinstance(error, InternalError) or not isinstance(error, RooflineError | OSError):
        return _internal(error)
    say(f"error: {_message(error)}")
    if hint := getattr(error, "hint", ""):
        say(f"hint: {hint}")
    return INFEASIBLE if isinstance(error, DoesNotFitError) else BAD_INPUT


def _message(error: BaseException) -> str:
    if isinstance(error, OSError) and error.strerror:
        # A rule that a file breaks follows its name; what the system says comes after a colon.
        link = " " if error.strerror.startswith("must ") else ": "
        return f"{error.filename}{link}{error.strerror}" if error.filename else error.strerror
    return str(error)


def _usage(error: typer.TyperException) -> RooflineError:
    """Rewrite what the parser says in our words: the rule, and where to read about it."""
    context = getattr(error, "ctx", None)
    option = getattr(error, "option_name", None)
    if context is not None and type(error).__name__ == "NoSuchOption" and option:
        known = [name for parameter in context.command.get_params(context) for name in parameter.opts]
        slip = unknown("flag", option, (name for name in known if name.startswith("--")))
        if context.command.name == "simulate":
            slip.hint = HINTS.get(option, slip.hint)
        return slip
    path = context.command_path if context is not None else "roofline-fast"
    if wrong := _wrong_type(error):
        return wrong
    text = error.format_message().rstrip(".")
    return RooflineError(text[:1].lower() + text[1:], hint=f"see `{path} --help`")


# What the parser calls the kinds of values, and what we do.
_KINDS = {"int": "a whole number", "float": "a number", "bool": "yes or no"}


def _wrong_type(error: typer.TyperException) -> RooflineError | None:
    """Return the error for a value that is not of its flag's type, with the value."""
    parameter, cause = getattr(error, "param", None), getattr(error.__cause__, "errors", None)
    if parameter is None or cause is None:
        return None
    first = cause()[0]
    kind = _KINDS.get(first["type"].partition("_")[0])
    if kind is None:
        return None
    name = next((name for name in parameter.opts if name.startswith("--")), parameter.name)
    value = str(first["input"])
    hint = (
        "`roofline-fast sweep` tries several values, with `--simulate` in simulations" if "," in value else ""
    )
    return SpecError(f"{name} must be {kind}: {value}", field=name, value=value, hint=hint)


def _incomplete(error: Any) -> int:
    """Answer a command that only has subcommands: which there are, and its help."""
    context = error.ctx
    known = ", ".join(context.command.list_commands(context))
    say(f"error: `{context.command_path}` must be given a command: {known}")
    say(f"\n{context.get_help()}")
    return BAD_INPUT


def no_output() -> int:
    """Answer that there is nowhere to write results to."""
    say("error: stdout must be open: it is closed")
    return BAD_INPUT


def _internal(error: BaseException) -> int:
    """Print what to send with a report; it fits one screen."""
    from roofline_fast import __version__

    say("error: roofline-fast broke one of its own rules: a mistake of the program, not of your input")
    for line in [*f"{type(error).__name__}: {error}".splitlines()[:8], *_places(error)]:
        say(f"  {line}")
    say(f"  roofline-fast {__version__}, Python {platform.python_version()}, {platform.platform()}")
    say("  " + " ".join(["roofline-fast", *sys.argv[1:]]))
    say("hint: please report these lines")
    return INTERNAL


def _places(error: BaseException) -> list[str]:
    """Return where in this package it happened, innermost last."""
    import traceback

    places = []
    for frame in traceback.extract_tb(error.__traceback__):
        _, package, file = frame.filename.rpartition("roofline_fast")
        if package:
            places.append(f"at {frame.name}, {package}{file}:{frame.lineno}")
    return places[-5:]


def _broken_pipe() -> int:
    """Let `| head` end quietly: nothing more may be written, not even when Python closes stdout."""
    import os

    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return BROKEN_PIPE
