"""``roofline-fast trace``: what a trace is like, in other formats, and traces that nobody recorded."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from roofline_fast.cli import flags, output, scenario, talk, trace_flags, trace_screen, traffic
from roofline_fast.cli.flags import with_flags
from roofline_fast.cli.grammar import Command, Group
from roofline_fast.errors import SpecError

if TYPE_CHECKING:
    import polars as pl

    from roofline_fast.traffic.trace import Trace

HELP = "Traces: who asks for how much, and when."
INSPECT_HELP = "Say what a trace is like: rate, lengths, burstiness, what a prefix cache could save."
CONVERT_HELP = """Write a trace in another format, or a part of it.

FILE.jsonl, .csv and .parquet are native unless --to says otherwise; .jsonl.gz and .jsonl.zst are packed.
"""
GENERATE_HELP = """Write traffic that nobody sent, drawn from distributions or from what a trace is like.

FILE.jsonl, .csv and .parquet are native unless --to says otherwise; .jsonl.gz and .jsonl.zst are packed.
"""
To = Annotated[
    str | None, typer.Option("--to", help="native, mooncake, vidur or azure.", rich_help_panel=flags.OUTPUT)
]
Out = Annotated[
    Path | None,
    typer.Option(
        "--output", "-o", help="The file to write: .jsonl, .csv or .parquet.", rich_help_panel=flags.OUTPUT
    ),
]


def register(app: typer.Typer) -> None:
    """Add the commands."""
    group = typer.Typer(cls=Group, help=HELP, rich_markup_mode=None, no_args_is_help=True)
    group.command("inspect", cls=Command, help=INSPECT_HELP)(inspect)
    group.command("convert", cls=Command, help=CONVERT_HELP)(convert)
    group.command("generate", cls=Command, help=GENERATE_HELP)(generate)
    app.add_typer(group, name="trace")


@with_flags("reading", trace_flags.READING)
@with_flags("scaling", trace_flags.SCALING)
def inspect(
    trace: flags.TraceArgument = None,
    reading: dict[str, Any] | None = None,
    scaling: dict[str, Any] | None = None,
    by_window: Annotated[
        float | None,
        typer.Option(
            metavar="SECONDS", help="One row a window of so many seconds: rate, burstiness, tokens."
        ),
    ] = None,
    seed: Annotated[int, typer.Option(help="Seed of every draw.")] = 0,
    form: flags.Format = "table",
    out: flags.Output = None,
    quiet: flags.Quiet = False,
) -> int:
    """Inspect and return the exit code."""
    names = flags.required("TRACE", trace)
    output.checked(form, out, *names)
    from roofline_fast.traffic.trace import Trace

    read = Trace.read(names, arrivals_elsewhere=True, **trace_flags.reading(reading or {}))
    scale = {word: value for word, value in (scaling or {}).items() if value is not None}
    told = read.scaled(**scale, seed=seed) if scale else read
    rows, what = (told.inspect(), "metrics") if by_window is None else (told.windows(by_window), "windows")
    if out is not None:
        output.save(rows, out)
        talk.note(f"{rows.height} {what} written to {out}", quiet=quiet)
    windows = None if by_window is None else rows
    output.show(
        form,
        screen=lambda: trace_screen.screen(read, told, windows),
        record=lambda: _record(read, told, windows),
        frame=lambda: rows,
    )
    return 0


@with_flags("reading", trace_flags.READING)
@with_flags("scaling", trace_flags.SCALING)
@with_flags("arrivals", {**traffic.ARRIVALS, **traffic.ONE_RATE})
def convert(
    trace: flags.TraceArgument = None,
    out: Out = None,
    to: To = None,
    seed: Annotated[int, typer.Option(help="Seed of every draw.")] = 0,
    reading: dict[str, Any] | None = None,
    scaling: dict[str, Any] | None = None,
    arrivals: dict[str, Any] | None = None,
    quiet: flags.Quiet = False,
) -> int:
    """Convert and return the exit code."""
    names, path = flags.required("TRACE", trace), flags.required("--output", out)
    _check_output(path, to, *names)
    from roofline_fast.traffic.workload import load

    read = load(names, {**trace_flags.reading(reading or {}), **(scaling or {}), **(arrivals or {})}, seed)
    return _write(read, path, to, seed, quiet)


@with_flags("words", {**traffic.TRAFFIC, **traffic.ONE_RATE})
@with_flags("reading", trace_flags.OF_LIKE)
@with_flags("scaling", trace_flags.SCALING)
def generate(
    out: Out = None,
    to: To = None,
    like: Annotated[
        str | None, typer.Option(metavar="TRACE", help="Lengths, rate and burstiness as in this trace.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Seed of every draw.")] = 0,
    trace_block_size: Annotated[int | None, typer.Option(help="Tokens of a hash id.")] = None,
    words: dict[str, Any] | None = None,
    reading: dict[str, Any] | None = None,
    scaling: dict[str, Any] | None = None,
    config: scenario.Config = None,
    assignments: scenario.Assignments = None,
    quiet: flags.Quiet = False,
) -> int:
    """Generate and return the exit code."""
    path = flags.required("--output", out)
    _check_output(path, to, like)
    from roofline_fast.traffic.trace import Trace
    from roofline_fast.traffic.workload import load

    given = {word: value for word, value in (words or {}).items() if value is not None}
    if like is None and not given:
        hint = "for example `--num-prompts 1000 --request-rate 4`, or `--like TRACE`"
        raise SpecError("--num-prompts must be given", field="--num-prompts", hint=hint)
    how = trace_flags.reading(reading or {})
    if like is None and how:
        word = next(word for word, value in (reading or {}).items() if value is not None)
        flag = f"--{word.replace('_', '-')}"
        message = f"{flag} must be left out without --like: {(reading or {})[word]}"
        raise SpecError(message, field=flag, hint="it says how the trace is read that traffic is to be like")
    original = None if like is None else Trace.read(like, **how)
    if like is None and not any((scaling or {}).values()) and _is_large(given, path, to):
        return _streamed(given, path, to, seed, trace_block_size, quiet)
    options = {**given, **(scaling or {}), "trace_block_size": trace_block_size, "like": original}
    return _write(load(None, options, seed), path, to, seed, quiet)


# Beyond, requests are written as they are drawn, and what they are like is not measured.
LARGE = 5_000_000


def _is_large(words: dict[str, str], path: Path, to: str | None) -> bool:
    """Return whether more requests are asked for than need be in memory."""
    from roofline_fast.traffic.trace_files import format_of, streams

    try:
        count = float(words.get("num_prompts", "0").replace("_", ""))
    except ValueError:
        return False
    return (
        count > LARGE
        and not {"turns", "workload"} & set(words)
        and streams(str(path), format_of(str(path), to))
    )


def _streamed(
    words: dict[str, str], path: Path, to: str | None, seed: int, trace_block_size: int | None, quiet: bool
) -> int:
    """Write requests as they are drawn."""
    from roofline_fast import _core
    from roofline_fast.cli.progress import shown
    from roofline_fast.traffic.trace import Trace
    from roofline_fast.traffic.trace_files import block_size_note, format_of

    progress = _core.Progress()
    with shown("generating", progress, quiet=quiet):
        traffic: dict[str, Any] = {**words, "seed": seed, "trace_block_size": trace_block_size}
        count, notes = Trace.generate_to(path, format=to, progress=progress, **traffic)
    form = format_of(str(path), to)
    lines = [f"{path.name}  {form}, {count:,} requests   seed {seed}", *(f"  note: {note}" for note in notes)]
    if trace_block_size and (told := block_size_note(form, str(path), trace_block_size)):
        lines.append(f"  note: {told}")
    talk.note("\n".join(lines), quiet=quiet)
    return 0


def _check_output(path: Path, to: str | None, *inputs: str | None) -> None:
    """Refuse a file that cannot be written, or that is read too, before any work is done."""
    from roofline_fast.traffic.trace_files import format_of

    format_of(str(path), to)
    output.check_place(path, *inputs)


def _write(trace: Trace, path: Path, to: str | None, seed: int, quiet: bool) -> int:
    """Write a trace, and say what it is and what was lost."""
    from roofline_fast.cli.simulate_screen import traffic as described
    from roofline_fast.traffic.trace_files import block_size_note, format_of

    left_out = trace.write(path, format=to)
    form = format_of(str(path), to)
    lines = [f"{path.name}  {form}, {described(trace.outline)}   seed {seed}", *trace_screen.notes(trace)]
    if left_out:
        lines.append(f"  note: {form} cannot hold, left out: {', '.join(left_out)}")
    if told := block_size_note(form, str(path), trace.block_size):
        lines.append(f"  note: {told}")
    talk.note("\n".join(lines), quiet=quiet)
    return 0


def _record(trace: Trace, told: Trace, windows: pl.DataFrame | None) -> dict[str, Any]:
    metrics = told.metrics
    about: dict[str, Any] = {
        "file": trace.origin,
        "format": trace.format,
        "why": trace.why,
        "time_unit": trace.time_unit,
    }
    about |= {"model": trace.model, "block_size": trace.block_size}
    by_window = {} if windows is None else {"windows": windows.to_dicts()}
    return {**about, **metrics, **by_window, "information": trace.information, "warnings": trace.warnings}
