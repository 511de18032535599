"""``roofline-fast trace inspect``: what a trace is like."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from roofline_fast.cli import flags, output, talk
from roofline_fast.cli.grammar import Command, Group

if TYPE_CHECKING:
    from roofline_fast.trace import Trace

HELP = "Traces: who asks for how much, and when."
INSPECT_HELP = "Say what a trace is like: rate, lengths, burstiness, what a prefix cache could save."


def register(app: typer.Typer) -> None:
    """Add the commands."""
    group = typer.Typer(cls=Group, help=HELP, rich_markup_mode=None, no_args_is_help=True)
    group.command("inspect", cls=Command, help=INSPECT_HELP)(inspect)
    app.add_typer(group, name="trace")


def inspect(
    file: Annotated[str | None, typer.Argument(metavar="FILE", help="JSON Lines, JSON or CSV.")] = None,
    trace_format: flags.TraceFormat = None,
    trace_block_size: flags.TraceBlockSize = None,
    time_unit: flags.TimeUnit = None,
    on_error: flags.OnError = "stop",
    zero_output: flags.ZeroOutput = None,
    window: flags.Window = None,
    speedup: flags.Speedup = None,
    limit: flags.Limit = None,
    form: flags.Format = "table",
    out: flags.Output = None,
    quiet: flags.Quiet = False,
) -> int:
    """Inspect and return the exit code."""
    output.checked(form, out, file)
    path = flags.required("FILE", file)
    from roofline_fast.trace import Trace

    trace = Trace.read(
        path,
        format=trace_format,
        trace_block_size=trace_block_size,
        time_unit=time_unit,
        on_error=on_error,
        zero_output=zero_output,
        window=window,
        speedup=speedup,
        limit=limit,
    )
    metrics = trace.inspect()
    if out is not None:
        output.save(metrics, out)
        talk.note(f"{metrics.height} metrics written to {out}", quiet=quiet)
    output.show(form, screen=lambda: _screen(trace), record=lambda: _record(trace), frame=lambda: metrics)
    return 0


def _record(trace: Trace) -> dict[str, Any]:
    metrics = dict(trace.inspect().select("metric", "value").iter_rows())
    about: dict[str, Any] = {
        "file": trace.origin,
        "format": trace.format,
        "why": trace.why,
        "time_unit": trace.time_unit,
    }
    about |= {"model": trace.model, "block_size": trace.block_size}
    return {**about, **metrics, "information": trace.information, "warnings": trace.warnings}


def _screen(trace: Trace) -> str:
    from roofline_fast.cli.figures import digits

    unit = f", arrivals in {trace.time_unit}" if trace.time_unit else ""
    lines = [f"{trace.origin}  {trace.format}: {trace.why}{unit}"]
    if trace.model:
        lines.append(f"  model {trace.model}")
    rows = [
        [metric.replace("_", " "), "unknown" if value is None else digits(value), unit]
        for metric, value, unit in trace.inspect().iter_rows()
    ]
    width = max(len(row[0]) for row in rows)
    lines += [f"  {name:<{width}}  {value:>11} {unit}".rstrip() for name, value, unit in rows]
    lines += [f"  note: {note}" for note in [*trace.information, *trace.warnings]]
    return "\n".join(lines)
