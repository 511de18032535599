"""What ``simulate`` tells beside its screen: why requests were slow, files of requests and steps."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from roofline_fast.atomic_file import aside
from roofline_fast.cli import flags, output, talk
from roofline_fast.cli.figures import digits, percent
from roofline_fast.errors import SpecError
from roofline_fast.suggest import choice

if TYPE_CHECKING:
    from roofline_fast.simulation.result import Simulation

RECORDS = ("summary", "stretches", "steps", "decisions")
PERFETTO = ".perfetto.json"

Output = Annotated[
    Path | None,
    typer.Option(
        "--output",
        "-o",
        help="Requests to FILE.parquet|csv|jsonl|json|html, or everything to a FOLDER.",
        rich_help_panel=flags.OUTPUT,
    ),
]
Stream = Annotated[
    bool | None,
    typer.Option(
        "--stream/--no-stream",
        help="Draw generated requests as they are served, keep none: any number. Default: from 10 million on.",
        rich_help_panel=flags.OUTPUT,
    ),
]
TELLING = {
    "record": Annotated[
        str | None,
        typer.Option(
            help="Steps kept: summary, stretches (of steps alike), steps, decisions.",
            rich_help_panel=flags.OUTPUT,
        ),
    ],
    "explain": Annotated[
        int | None,
        typer.Option(metavar="N", help="Say why the N slowest were.", rich_help_panel=flags.OUTPUT),
    ],
    "timeline_interval": Annotated[
        float | None, typer.Option(help="Seconds of a row of the timeline; 1.", rich_help_panel=flags.OUTPUT)
    ],
    "requests": Annotated[
        Path | None, typer.Option("--requests", help="File: one row a request.", rich_help_panel=flags.OUTPUT)
    ],
    "request_times": Annotated[
        Path | None,
        typer.Option(
            "--request-times", help="File: where each request's time went.", rich_help_panel=flags.OUTPUT
        ),
    ],
    "steps": Annotated[
        Path | None, typer.Option("--steps", help="File: steps, as recorded.", rich_help_panel=flags.OUTPUT)
    ],
    "timeline": Annotated[
        Path | None, typer.Option("--timeline", help="File: one row a second.", rich_help_panel=flags.OUTPUT)
    ],
    "perfetto": Annotated[
        Path | None,
        typer.Option(
            "--perfetto", help="File.json: a trace for ui.perfetto.dev.", rich_help_panel=flags.OUTPUT
        ),
    ],
}

# Kinds of time, as screens call them.
BOUNDS = {
    "weights": "weights",
    "kv": "KV reads",
    "activations": "activations",
    "compute": "compute",
    "vector": "vector unit",
    "link": "links",
    "launch": "launch",
    "unattributed": "--step-cost",
    "idle": "nothing: idle",
}

TABLES = ("requests", "request_times", "steps", "timeline")


def checked(asked: Mapping[str, Any], out: Path | None, form: str, inputs: list[str | None]) -> None:
    """Refuse what cannot be told, before any work is done."""
    if (record := asked["record"]) is not None:
        choice("record", record, RECORDS)
    if (count := asked["explain"]) is not None and count < 1:
        message = f"--explain must be at least 1: {count}"
        raise SpecError(message, field="--explain", value=str(count))
    interval = asked["timeline_interval"]
    if interval is not None and not 0 < interval < float("inf"):
        message = f"--timeline-interval must be above 0 s: {interval}"
        raise SpecError(
            message, field="--timeline-interval", value=str(interval), hint="for example 1, or 0.1"
        )
    for name in TABLES:
        if (file := asked[name]) is not None:
            output.checked_file(f"--{name.replace('_', '-')}", file, inputs)
    if (file := asked["perfetto"]) is not None:
        if file.suffix.lower() != ".json":
            message = f"--perfetto must end in .json: {file}"
            raise SpecError(message, field="--perfetto", value=str(file))
        output.check_place(file, *inputs, flag="--perfetto")
    _check_apart(asked, out)
    into_folder = out is not None and output.is_folder(out)
    special = out is not None and (into_folder or out.name.endswith(PERFETTO))
    output.checked(form, None if special else out, *inputs)
    if out is not None and into_folder:
        output.check_folder(out, *inputs)
    elif out is not None and special:
        output.check_place(out, *inputs)


def _check_apart(asked: Mapping[str, Any], out: Path | None) -> None:
    """Refuse two results for one file."""
    places: dict[Path, str] = {}
    for name in (*TABLES, "perfetto", "output"):
        file = out if name == "output" else asked[name]
        if file is None:
            continue
        flag = f"--{name.replace('_', '-')}"
        if (other := places.setdefault(file.absolute(), flag)) != flag:
            message = f"{flag} must be another file than {other}: {file}"
            raise SpecError(message, field=flag, value=str(file))


def one_rate_only(asked: Mapping[str, Any]) -> None:
    """Refuse what is told of one simulation where there are several."""
    for name, value in asked.items():
        if value is not None:
            flag = f"--{name.replace('_', '-')}"
            hint = "several request rates give one row a rate; ask for a single rate to look closer"
            raise SpecError(f"{flag} must be left out with several rates: {value}", field=flag, hint=hint)


def streamed(asked: Mapping[str, Any], out: Path | None, said: bool | None) -> Path | None:
    """Return the Parquet file to which requests go as they end, if they are drawn as they are served."""
    if not said:
        return None
    files = [file for file in (asked["requests"], out) if file is not None]
    for file in files:
        if file.suffix.lower() != ".parquet" or output.is_folder(file) or len(files) > 1:
            flag = "--output" if file is out else "--requests"
            message = f"{flag} must be one Parquet file with --stream: {file}"
            hint = "requests are written as they end, and forgotten; leave --stream out for other files"
            raise SpecError(message, field=flag, value=str(file), hint=hint)
    return files[0] if files else None


def record(asked: Mapping[str, Any], out: Path | None) -> str:
    """Return how steps are to be kept for what was asked."""
    if asked["record"] is not None:
        return str(asked["record"])
    needs = ["explain", "request_times", "steps", "timeline", "perfetto"]
    told = any(asked[name] is not None for name in needs)
    folder = out is not None and (output.is_folder(out) or out.name.endswith(PERFETTO))
    return "stretches" if told or folder else "summary"


def stream(asked: Mapping[str, Any], out: Path | None, said: bool | None) -> bool | None:
    """Return whether requests are drawn as they are served: as said, else not where a file is to hold them."""
    needed = out is not None or asked["requests"] is not None or record(asked, out) != "summary"
    return False if said is None and needed else said


def write(
    simulation: Simulation, asked: Mapping[str, Any], out: Path | None, written: Path | None, quiet: bool
) -> None:
    """Write the files that were asked for, each whole or not at all; one was `written` as requests ended."""
    if written is not None:
        talk.note(f"{simulation.summary['injected']:,} requests written to {written}", quiet=quiet)
        return
    interval = asked["timeline_interval"] or 1.0
    for name in TABLES:
        if asked[name] is not None:
            _save(simulation, name, asked[name], interval, quiet)
    if asked["perfetto"] is not None:
        _perfetto(simulation, asked["perfetto"], quiet)
    if out is None:
        return
    if output.is_folder(out):
        tables = {name: partial(simulation.write_parquet, name, interval_s=interval) for name in TABLES}
        save_folder(out, simulation.to_dict(), tables, quiet)
    elif out.name.endswith(PERFETTO):
        _perfetto(simulation, out, quiet)
    else:
        _save(simulation, "requests", out, interval, quiet)


def save_folder(
    out: Path, record: Mapping[str, Any], tables: Mapping[str, Callable[[Path], object]], quiet: bool
) -> None:
    """Write a summary and tables to a folder, one after the other; all of them or nothing."""
    with output.folder(out) as place:
        output.save_record(record, place / "summary.json")
        for name, write_table in tables.items():
            write_table(place / f"{name}.parquet")
    names = ["summary.json", *(f"{name}.parquet" for name in tables)]
    talk.note(f"{', '.join(names)} written to {out}", quiet=quiet)


def _save(simulation: Simulation, name: str, file: Path, interval_s: float, quiet: bool) -> None:
    if file.suffix.lower() == ".parquet":
        count = simulation.write_parquet(name, file, interval_s=interval_s)
    else:
        table = simulation.timeline(interval_s) if name == "timeline" else getattr(simulation, name)
        output.save(table, file)
        count = table.height
    rows = {"requests": "requests", "request_times": "requests' times"}.get(name, f"rows of {name}")
    talk.note(f"{count:,} {rows} written to {file}", quiet=quiet)


def _perfetto(simulation: Simulation, file: Path, quiet: bool) -> None:
    with aside(file) as part:
        simulation.write_perfetto(part)
    talk.note(f"trace for ui.perfetto.dev written to {file}", quiet=quiet)


def as_record(simulation: Simulation, count: int) -> dict[str, Any]:
    """Return the summary as one object, with the slowest requests where they were asked for."""
    record = simulation.to_dict()
    return {**record, "slowest": simulation.explain(count).to_dicts()} if count else record


def explained(simulation: Simulation, count: int) -> list[str]:
    """Return why the slowest requests were slow, in sentences."""
    lines = ["", "  slowest requests"]
    for row in simulation.explain(count).iter_rows(named=True):
        lines.append(f"  {row['request_id']}: {_outline(row)}")
        swapped = simulation.settings.get("preemption_mode") == "swap"
        lines += [f"    {line}" for line in _reasons(row, "swapped out" if swapped else "recomputed")]
    return lines


def _s(seconds: float) -> str:
    return f"{digits(seconds)} s" if seconds >= 1 else f"{digits(seconds * 1e3)} ms"


def _outline(row: dict[str, Any]) -> str:
    size = f"{row['prompt_tokens']:,} in, {row['output_tokens']:,} out"
    parts = [
        f"{name} {_s(row[f'{name}_s'])}"
        for name in ("queue", "prefill", "decode", "preempted", "outside")
        if row[f"{name}_s"]
    ]
    return f"{_s(row['e2e_s'])} for {size} = {' + '.join(parts)}"


WAITED = {
    "slots": "for a place among --max-num-seqs",
    "tokens": "for room in a step (--max-num-batched-tokens)",
    "blocks": "for KV blocks",
    "step": "for the step under way to end",
}


def _reasons(row: dict[str, Any], fate: str) -> list[str]:
    lines = []
    parts = {name: row[f"waited_for_{name}_s"] for name in WAITED}
    waited = sum(parts.values())
    if waited > 0:
        told = [
            f"{WAITED[name]} {percent(part / waited)}"
            for name, part in sorted(parts.items(), key=lambda entry: -entry[1])
            if part > 0
        ]
        others = "1 other" if row["ahead"] == 1 else f"{row['ahead']:,} others"
        ahead = f", behind {others}" if row["ahead"] else ""
        bound = f"; the engine was bound by {BOUNDS[row['waiting_bound']]}" if row["waiting_bound"] else ""
        lines.append(f"waited {_s(waited)}{ahead}: {', '.join(told)}{bound}")
    if row["preemptions"]:
        times = "once" if row["preemptions"] == 1 else f"{row['preemptions']} times"
        lines.append(f"gave way {times} for want of KV blocks, and was {fate}")
    if row["running_bound"]:
        lines.append(f"while it ran, the engine was mostly bound by {BOUNDS[row['running_bound']]}")
    return lines
