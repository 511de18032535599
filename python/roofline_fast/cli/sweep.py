"""``roofline-fast sweep``: every combination of some axes, to a screen or to a folder of Parquet parts."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from roofline_fast.cli import flags, talk
from roofline_fast.cli.grammar import Command
from roofline_fast.cli.progress import shown
from roofline_fast.errors import SpecError
from roofline_fast.suggest import choice

if TYPE_CHECKING:
    import polars as pl

    from roofline_fast.cli.sweep_spec import AnyRun
    from roofline_fast.sweeps.dataset import DataSet, Dropped
    from roofline_fast.sweeps.run import Run
    from roofline_fast.sweeps.simulations import SimulateRun

HELP = """Price every combination of some axes; with --trace or --simulate, simulate every one.

Axes come from a scenario file, from flags, or from both (flags win): values with commas between them, ranges
(1:64, every one; 16:4096:16, a step; 1:1024:x2, a factor). A repeated axis adds its values, a repeated --with
joins its techniques to the others'. With -o a folder of Parquet parts, which the same command resumes; without
it the best few on the screen, or with --across one column for each value of an axis.
"""

AXES = "Axes (1,2,4 · 1:64 · 16:4096:16 · 1:1024:x2)"
POINTS = "Which points"
RUN = "How it runs"
FILE = "Settings from a file"
FORMATS = ("table", "json", "csv")
EXECUTORS = ("local", "ray")
SHOWN = 5
# Points priced between two looks at the bar.
WINDOW = 1 << 18


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("sweep", cls=Command, help=HELP)(sweep)


def _axis(*names: str, about: str) -> Any:
    return Annotated[
        list[str] | None, typer.Option(*names, metavar="VALUES", help=about, rich_help_panel=AXES)
    ]


# Axes that have a flag of their own.
AXIS_FLAGS: dict[str, Any] = {
    "model": _axis("--model", "-m", "--model-path", about="Names or configurations."),
    "hw": _axis("--hw", "--hardware", "--system", "--gpu", about="Names or TOML files."),
    "tp": _axis("--tp", "--tensor-parallel-size", about="GPUs that share a layer."),
    "pp": _axis("--pp", "--pipeline-parallel-size", about="Pipeline stages."),
    "dp": _axis("--dp", "--data-parallel-size", about="Replicas."),
    "ep": _axis("--ep", "--expert-parallel-size", about="GPUs that share experts."),
    "quantization": _axis("--quantization", "-q", "--dtype", about="Schemes (bf16,fp8)."),
    "kv_cache_dtype": _axis("--kv-cache-dtype", about="KV cache formats."),
    "techniques": _axis(
        "--with",
        "--techniques",
        about="Techniques, joined by + or by repeating it (none,kv-quant:bits=4).",
    ),
    "w_bits": _axis("--w-bits", about="Bits of a weight, instead of -q."),
    "a_bits": _axis("--a-bits", about="Bits of an activation, instead of -q."),
    "kv_bits": _axis("--kv-bits", about="Bits of a KV element; with --compat."),
    "mode": _axis("--mode", about="predicted, ideal."),
    "phase": _axis("--phase", about="decode, prefill, mixed, chat."),
    "batch_size": _axis("--batch-size", "-b", about="Sequences of a replica."),
    "input_len": _axis("--input-len", "--isl", about="Prompt tokens, or context."),
    "output_len": _axis("--output-len", "--osl", about="Tokens generated (chat)."),
    "prefix_len": _axis("--prefix-len", "--prefix", about="Tokens cached before."),
    "chunk": _axis("--chunk", about="Largest prompt chunk, tokens."),
    "engine": _axis("--engine", "--backend", about="Engines."),
    "max_num_seqs": _axis("--max-num-seqs", about="Sequences of the largest step."),
    "max_num_batched_tokens": _axis("--max-num-batched-tokens", about="Tokens of the largest step."),
    "gpu_memory_utilization": _axis("--gpu-memory-utilization", about="Shares of memory the engine uses."),
    "block_size": _axis("--block-size", "--page-size", about="Tokens of a KV block."),
    "spec_method": _axis("--spec-method", about="Where drafts come from (none,eagle)."),
    "num_speculative_tokens": _axis(
        "--num-speculative-tokens", "--spec-tokens", about="Drafts a step (0,1,3)."
    ),
    "spec_acceptance": _axis("--spec-acceptance", about="Chances that a draft is accepted."),
    "request_rate": _axis("--request-rate", "-r", "--qps", about="Requests a second (simulations)."),
}


@flags.with_flags("by_flag", AXIS_FLAGS)
def sweep(
    space: Annotated[
        Path | None, typer.Argument(metavar="SPACE", help="Scenario file, TOML or JSON.", show_default=False)
    ] = None,
    by_flag: dict[str, Any] | None = None,
    axis: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME=VALUES", help="Any other axis; repeatable.", rich_help_panel=AXES),
    ] = None,
    trace: Annotated[
        str | None, typer.Option(help="Simulate this trace at every point.", rich_help_panel=AXES)
    ] = None,
    simulate: Annotated[
        bool,
        typer.Option("--simulate", help="Simulate generated traffic at every point.", rich_help_panel=AXES),
    ] = False,
    keep: Annotated[
        str | None, typer.Option(help="feasible, all, pareto or topk.", rich_help_panel=POINTS)
    ] = None,
    pareto: Annotated[
        list[str] | None,
        typer.Option(metavar="A,B", help="Keep what nothing beats in these results.", rich_help_panel=POINTS),
    ] = None,
    by: Annotated[
        str | None, typer.Option(metavar="RESULT", help="Rank by this result.", rich_help_panel=POINTS)
    ] = None,
    top: Annotated[
        int | None, typer.Option(help="Rows that --keep topk keeps.", rich_help_panel=POINTS)
    ] = None,
    slo: Annotated[
        list[str] | None,
        typer.Option(metavar="TEXT", help='At most so many ms: "ttft:500 tpot:50".', rich_help_panel=POINTS),
    ] = None,
    min_gpus: Annotated[int | None, typer.Option(help="Fewest GPUs.", rich_help_panel=POINTS)] = None,
    max_gpus: Annotated[int | None, typer.Option(help="Most GPUs.", rich_help_panel=POINTS)] = None,
    within_context: Annotated[
        bool,
        typer.Option("--within-context", help="No context longer than made for.", rich_help_panel=POINTS),
    ] = False,
    compat: Annotated[
        str | None,
        typer.Option(
            help="llm-viewer[@version]: that tool's figures at every point.", rich_help_panel=POINTS
        ),
    ] = None,
    columns: Annotated[
        list[str] | None,
        typer.Option(metavar="A,B", help="Results to write; all unless said.", rich_help_panel=POINTS),
    ] = None,
    threads: Annotated[
        int | None, typer.Option(help="Threads, one a core at most.", rich_help_panel=RUN)
    ] = None,
    shard: Annotated[
        str | None,
        typer.Option(metavar="I/N", help="Only share I of N, counted from 0.", rich_help_panel=RUN),
    ] = None,
    fresh: Annotated[
        bool, typer.Option("--fresh/--resume", help="Start anew, or go on.", rich_help_panel=RUN)
    ] = False,
    executor: Annotated[str, typer.Option(help="local or ray.", rich_help_panel=RUN)] = "local",
    address: Annotated[
        str | None, typer.Option(help="The Ray cluster's address.", rich_help_panel=RUN)
    ] = None,
    points_a_part: Annotated[
        int | None, typer.Option(help="Points of one Parquet part.", rich_help_panel=RUN)
    ] = None,
    config: Annotated[
        Path | None,
        typer.Option(
            "--config", "-c", "--scenario", metavar="FILE", help="The same as SPACE.", rich_help_panel=FILE
        ),
    ] = None,
    assignments: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="KEY=VALUE",
            help="One setting of the file, otherwise (axes.tp=1,2); repeatable.",
            rich_help_panel=FILE,
        ),
    ] = None,
    across: Annotated[
        str | None,
        typer.Option(
            metavar="AXIS",
            help="One column for each value of this axis, a table for each of --columns (step_s unless said).",
            rich_help_panel=flags.OUTPUT,
        ),
    ] = None,
    relative: Annotated[
        bool,
        typer.Option("--relative", help="Shares of the first column.", rich_help_panel=flags.OUTPUT),
    ] = False,
    schema: Annotated[
        bool,
        typer.Option(
            "--schema", help="Print the JSON Schema of scenario files.", rich_help_panel=flags.OUTPUT
        ),
    ] = False,
    form: Annotated[
        str, typer.Option("--format", help="table, json or csv.", rich_help_panel=flags.OUTPUT)
    ] = "table",
    out: Annotated[
        Path | None,
        typer.Option(
            "--output", "-o", metavar="FOLDER", help="Write Parquet parts.", rich_help_panel=flags.OUTPUT
        ),
    ] = None,
    quiet: flags.Quiet = False,
) -> int:
    """Sweep and return the exit code."""
    if schema:
        from roofline_fast.sweeps.scenario import schema as of_files

        sys.stdout.write(json.dumps(of_files(), indent=2) + "\n")
        return 0
    choice("format", form, FORMATS)
    choice("executor", executor, EXECUTORS)
    _check_folder(out, shard, executor)
    _check_across(across, out, relative=relative)
    given: dict[str, list[str] | None] = dict(by_flag or {})
    for name, text in _others(axis):
        given[name] = [*(given.get(name) or ()), text]
    if min_gpus is not None and max_gpus is not None and min_gpus > max_gpus:
        message = f"--min-gpus must be at most --max-gpus: {min_gpus} and {max_gpus}"
        raise SpecError(message, field="--min-gpus", value=str(min_gpus))
    limits = {"min_gpus": min_gpus, "max_gpus": max_gpus, "within_context": within_context or None}
    asked = {
        "keep": keep,
        "pareto": ",".join(pareto) if pareto else None,
        "by": by,
        "top": top,
        "slo": " ".join(slo) if slo else None,
        "limits": {name: value for name, value in limits.items() if value is not None},
        "columns": ",".join(columns) if columns else None,
        "points_a_part": points_a_part,
        "threads": threads,
        "simulate": simulate,
        "compat": compat,
    }
    results = ",".join(columns) if columns else None
    if across is not None and results is None and not (simulate or trace):
        results = asked["columns"] = "step_s" if compat is None else "inference_time"
    from roofline_fast.cli import sweep_file, sweep_spec
    from roofline_fast.sweeps.llm_viewer import ViewerRun

    axes = {name: texts for name, texts in given.items() if texts}
    run = sweep_spec.run_of(sweep_file.named(space, config), assignments or (), axes, trace, asked)
    began = time.perf_counter()
    if across is not None:
        return _across(run, across, results, form, relative=relative, quiet=quiet)
    if out is None:
        found = _in_memory(run, form, quiet=quiet)
    elif isinstance(run, ViewerRun):
        hint = "redirect `--format csv` to a file"
        raise SpecError("--output must be left out with --compat", field="--output", hint=hint)
    else:
        done = _to_folder(run, out, shard, fresh=fresh, executor=executor, address=address, quiet=quiet)
        if isinstance(done, int):
            return done
        found = done
    rows, kept, dropped, note = found
    from roofline_fast.cli import sweep_screen

    seconds = time.perf_counter() - began
    talk.note(sweep_screen.speed(run.points, kept, seconds, note), quiet=quiet)
    if kept == 0:
        return _nothing(dropped)
    if form == "table":
        sys.stdout.write(sweep_screen.screen(run, rows, kept, dropped) + "\n")
    elif form == "json":
        sys.stdout.write(json.dumps(sweep_screen.record(run, rows, kept, dropped), indent=2) + "\n")
    elif out is not None or sweep_spec.picks(run):
        sys.stdout.write(rows.write_csv())
    return 0


def _check_folder(out: Path | None, shard: str | None, executor: str) -> None:
    for flag, given in (("--shard", shard is not None), ("--executor ray", executor == "ray")):
        if given and out is None:
            raise SpecError(
                f"--output must be given with {flag}", field="--output", hint="for example `-o out/`"
            )


def _check_across(across: str | None, out: Path | None, *, relative: bool) -> None:
    """Refuse what does not go with a table on the screen."""
    if across is not None and out is not None:
        hint = "redirect `--format csv` to a file"
        raise SpecError("--output must be left out with --across", field="--output", hint=hint)
    if relative and across is None:
        hint = "for example `--across techniques --relative`"
        raise SpecError("--across must be given with --relative", field="--across", hint=hint)


def _across(run: AnyRun, across: str, columns: str | None, form: str, *, relative: bool, quiet: bool) -> int:
    """Show every point, one column for each value of an axis."""
    from roofline_fast.cli import sweep_across, sweep_screen

    axis = sweep_across.axis(run, across)
    began = time.perf_counter()
    rows, dropped = run.read(0, run.points)
    talk.note(sweep_screen.speed(run.points, rows.height, time.perf_counter() - began, ""), quiet=quiet)
    if rows.height == 0:
        return _nothing(dropped)
    known = [name for name in sweep_screen.RESULTS if name in rows.columns and rows[name].count()]
    results = [name.strip() for name in columns.split(",")] if columns else known
    found = sweep_across.tables(run, rows, axis, results, relative=relative)
    if form == "csv":
        sys.stdout.write(sweep_across.wide(found).write_csv())
    elif form == "json":
        said = {"points": run.points, "across": axis, "relative": relative}
        record = {**said, "tables": {name: frame.to_dicts() for name, frame in found.items()}}
        sys.stdout.write(json.dumps(record, indent=2) + "\n")
    else:
        lines = sweep_across.screen(run, found, axis, relative=relative)
        sys.stdout.write(sweep_screen.across(run, lines, rows.height, dropped) + "\n")
    return 0


def _others(axes: list[str] | None) -> list[tuple[str, str]]:
    found = []
    for text in axes or ():
        name, equals, values = text.partition("=")
        if not equals or not name:
            raise SpecError(f"--axis must read NAME=VALUES: {text}", field="--axis", value=text)
        found.append((name.strip().replace("-", "_"), values))
    return found


class _Counter:
    """How far a sweep has come."""

    def __init__(self, total: int) -> None:
        self.done = 0
        self.total = total


Found = tuple["pl.DataFrame", int, "Dropped", str]


def _in_memory(run: AnyRun, form: str, *, quiet: bool) -> Found:
    """Sweep in windows, keep the best few rows (all of a front), and write rows as CSV where asked for."""
    import polars as pl

    from roofline_fast.cli import sweep_spec
    from roofline_fast.sweeps.dataset import added

    counter = _Counter(run.points)
    best: pl.DataFrame | None = None
    kept, dropped = 0, []
    window = sweep_spec.window(run, WINDOW)
    with shown("sweeping", counter, quiet=quiet):
        for start in range(0, run.points, window):
            stop = min(start + window, run.points)
            rows, why = run.read(start, stop)
            dropped.append(why)
            kept += rows.height
            if form == "csv" and not sweep_spec.picks(run) and rows.height:
                sys.stdout.write(rows.write_csv(include_header=kept == rows.height))
            best = rows if best is None else pl.concat([best, rows], how="diagonal_relaxed")
            best = sweep_spec.best(run, best, SHOWN)
            counter.done = stop
    if best is None:
        best = run.read(0, 0)[0]
    return best, best.height if sweep_spec.picks(run) else kept, added(dropped), ""


def _to_folder(
    run: Run | SimulateRun,
    out: Path,
    shard: str | None,
    *,
    fresh: bool,
    executor: str,
    address: str | None,
    quiet: bool,
) -> Found | int:
    """Write the parts that are missing, and the manifest once none is."""
    from roofline_fast.sweeps.dataset import added, shard_of

    share = shard_of(shard)
    data = run.data_set(out, fresh=fresh)
    missing = data.missing(share)
    of_shard = len(range(share[0], data.plan.parts, share[1]))
    if len(missing) < of_shard:
        talk.note(f"{of_shard - len(missing):,} of {of_shard:,} parts are there already", quiet=quiet)
    counter = _Counter(len(missing))
    try:
        with shown("sweeping, parts", counter, quiet=quiet):
            if executor == "ray":
                _on_ray(run, out, missing, address, counter)
            else:
                for part in missing:
                    data.write(part, run.compute)
                    counter.done += 1
    except KeyboardInterrupt:
        there = data.plan.parts - len(data.missing())
        written = f"{there:,} of {data.plan.parts:,} parts are written; the same command goes on"
        raise talk.StoppedError(written) from None
    manifest = data.finish(run.pick if run.picks else None)
    if manifest is None:
        left = len(data.missing())
        talk.note(
            f"{len(missing):,} parts written to {out}, {left:,} of other shards are missing", quiet=quiet
        )
        return 0
    kept = manifest["best"]["rows"] if "best" in manifest else manifest["rows"]
    rows = _best_of(run, data)
    note = f", {data.plan.parts:,} parts in {out} (plan {data.plan.id})"
    return rows, kept, added([manifest["dropped"]]), note


def _on_ray(
    run: Run | SimulateRun, out: Path, missing: list[int], address: str | None, counter: _Counter
) -> None:
    from roofline_fast.sweeps.ray import run_on_ray

    def seen(parts: int) -> None:
        counter.done += parts

    run_on_ray(run.recipe(), out, missing, address=address, seen=seen)


def _best_of(run: Run | SimulateRun, data: DataSet) -> pl.DataFrame:
    """Return the best few rows of all parts, one part at a time; the whole front of a sweep that keeps one."""
    import polars as pl

    from roofline_fast.cli import sweep_spec

    if sweep_spec.picks(run):
        return pl.read_parquet(data.folder / "best.parquet")
    best: pl.DataFrame | None = None
    for part in map(data.part, range(data.plan.parts)):
        rows = pl.read_parquet(part)
        if rows.height:
            best = rows if best is None else pl.concat([best, rows], how="diagonal_relaxed")
            best = sweep_spec.best(run, best, SHOWN)
    return pl.DataFrame() if best is None else best


def _nothing(dropped: Dropped) -> int:
    """Say that no point is feasible, and why."""
    total = sum(points for _, points, _ in dropped)
    talk.say(f"error: at least one point must be feasible: all {total:,} were dropped")
    for reason, points, example in sorted(dropped, key=lambda each: -each[1]):
        talk.say(f"  {points:>14,}  {reason}" + (f" ({example})" if example and example != reason else ""))
    talk.say("hint: relax the largest of these; --keep all shows every point with its reason")
    return talk.INFEASIBLE
