"""``roofline-fast validate``: how far predictions are off known measurements."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from roofline_fast.cli import flags, output, talk
from roofline_fast.cli.calibrate import MOST, unusable
from roofline_fast.cli.flags import with_flags
from roofline_fast.cli.grammar import Command

if TYPE_CHECKING:
    from roofline_fast.measurements.validation import Validation

HELP = """Hold predictions against measurements: kernels, steps, requests, points of real servers.

Errors in percent: median, mean and P90 of the absolute error, bias (median of the signed one), coverage
(share inside the 80 % band), beside the pure roofline's median. What was not priced is listed with its
reason.
"""
# Whose kernels the shipped fits are of.
ENGINES = {"vllm", "sglang", "trtllm", "nccl", "any"}
# Errors that published simulators report on other data of this kind, percent (median absolute).
PEERS = {
    "tpot_ms": "aiconfigurator's tables 12 on dense models, 17 on all it prices",
    "ttft_ms": "aiconfigurator's tables 49",
}


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("validate", cls=Command, help=HELP)(validate)


@with_flags("served_as", flags.SERVED_AS)
def validate(
    measurements: Annotated[
        str | None,
        typer.Argument(metavar="FILE_OR_FOLDER", help="Parquet, CSV or JSON Lines, told by columns."),
    ] = None,
    hw: flags.Hw = None,
    engine: Annotated[
        str, typer.Option("--engine", "--backend", help="Whose kernels, where no column says; vllm.")
    ] = "",
    efficiency: Annotated[
        list[Path] | None, typer.Option(help="Efficiency files that come before the shipped ones.")
    ] = None,
    served_as: dict[str, Any] | None = None,
    form: flags.Format = "table",
    out: flags.Output = None,
    quiet: flags.Quiet = False,
) -> int:
    """Validate and return the exit code."""
    output.checked(form, out, measurements)
    from roofline_fast.measurements.validation import validate as ask

    serving = flags.served(served_as or {})
    found = ask(
        flags.required("FILE_OR_FOLDER", measurements),
        hw,
        engine=engine,
        efficiency=efficiency or None,
        **serving,
    )
    if found.skipped:
        several = f" and {len(found.skipped) - 1} more" if len(found.skipped) > 1 else ""
        talk.note(f"skipped {found.skipped[0]}{several}: no measurements that can be predicted", quiet=quiet)
    for name in strangers(found) if efficiency is None else ():
        talk.note(
            f"{name}: no kernels of this engine were fitted; predicted by others', with wider bands",
            quiet=quiet,
        )
    if out is not None:
        output.save(found.errors, out)
        talk.note(f"{found.errors.height} lines written to {out}", quiet=quiet)
    output.show(form, screen=lambda: screen(found), record=found.to_list, frame=lambda: found.errors)
    return _verdict(found)


def strangers(found: Validation) -> list[str]:
    """Return the engines of kernels that no shipped fit is of."""
    groups = found.errors.filter(found.errors["metric"].str.starts_with("kernel:"))["group"]
    named = groups.filter(groups.str.starts_with("engine=") & ~groups.str.contains(","))
    return sorted({name.removeprefix("engine=") for name in named} - ENGINES)


def _verdict(found: Validation) -> int:
    """Say on stderr why nothing could be priced, if so, which is bad input."""
    if found.errors["n"].sum():
        return 0
    talk.say("error: measurements must hold a row that can be priced: none can")
    lines = unusable(found)
    reasons = found.refused.sort("rows", descending=True).head(MOST)
    from roofline_fast.measurements.reader import MODULES

    chains = tuple(f"kernel:{module}" for module in MODULES)
    lines += [
        f"{metric}: {why} ({rows:,} rows)"
        for metric, why, rows in reasons.iter_rows()
        if not found.unusable.height or metric in chains
    ]
    for line in lines:
        talk.say(f"  {line}")
    return talk.BAD_INPUT


def screen(found: Validation) -> str:
    """Return the errors as a table, what was refused below, and what peers report."""
    head = ["metric", "group", "n", "refused", "median", "mean", "P90", "bias", "coverage", "roofline"]
    lines = [f"{head[0]:<38}{head[1]:<42}" + "".join(f"{name:>10}" for name in head[2:])]
    for row in found.errors.iter_rows(named=True):
        if "," in row["group"]:
            continue
        first = row["group"] == "all" or row["group"].startswith("variant=")
        metric = row["metric"] if first else ""
        numbers = [f"{row['n']:>10,}", f"{row['refused']:>10,}"]
        for name in ("median_ape", "mape", "p90_ape", "bias", "coverage", "ideal_median_ape"):
            numbers.append(f"{'–':>10}" if row[name] is None else f"{row[name]:>10.1f}")
        lines.append(f"{metric:<38}{row['group']:<42}" + "".join(numbers))
    if found.refused.height:
        lines += ["", "not priced:"]
        lines += [f"  {metric:<38}{rows:>10,}  {why}" for metric, why, rows in found.refused.iter_rows()]
    metrics = set(found.errors["metric"].to_list())
    peers = [f"  {metric:<38}{told}" for metric, told in PEERS.items() if metric in metrics]
    return "\n".join([*lines, *(["", "peers, on other data, median percent:", *peers] if peers else [])])
