"""``roofline-fast validate``: how far predictions are off known measurements."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from roofline_fast.cli import flags, output, talk
from roofline_fast.cli.bundle import with_flags
from roofline_fast.cli.grammar import Command

if TYPE_CHECKING:
    from roofline_fast.validation import Validation

HELP = """Hold predictions against measurements: kernels, steps, requests, points of real servers.

Errors in percent: median, mean and P90 of the absolute error, bias (median of the signed one), coverage
(share inside the 80 % band), beside the pure roofline's median. What was not priced is listed with its
reason.
"""
SERVED = "How requests were served, where nothing recorded beside the file says it"
# Errors that published simulators report on other data of this kind, percent (median absolute).
PEERS = {
    "tpot_ms": "aiconfigurator's tables 12 on dense models, 17 on all it prices",
    "ttft_ms": "aiconfigurator's tables 49",
}


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("validate", cls=Command, help=HELP)(validate)


@with_flags("served", flags.served(SERVED))
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
    served: dict[str, Any] | None = None,
    form: flags.Format = "table",
    out: flags.Output = None,
    quiet: flags.Quiet = False,
) -> int:
    """Validate and return the exit code."""
    output.checked(form, out, measurements)
    from roofline_fast.validation import validate as ask

    found = ask(
        flags.required("FILE_OR_FOLDER", measurements),
        hw,
        engine=engine,
        efficiency=efficiency or None,
        **{key: value for key, value in (served or {}).items() if value is not None},
    )
    if found.skipped:
        several = f" and {len(found.skipped) - 1} more" if len(found.skipped) > 1 else ""
        talk.note(f"skipped {found.skipped[0]}{several}: no measurements that can be predicted", quiet=quiet)
    if out is not None:
        output.save(found.errors, out)
        talk.note(f"{found.errors.height} lines written to {out}", quiet=quiet)
    output.show(form, screen=lambda: screen(found), record=found.to_list, frame=lambda: found.errors)
    return 0


def screen(found: Validation) -> str:
    """Return the errors as a table, what was refused below, and what peers report."""
    head = ["metric", "group", "n", "refused", "median", "mean", "P90", "bias", "coverage", "roofline"]
    lines = [f"{head[0]:<38}{head[1]:<42}" + "".join(f"{name:>10}" for name in head[2:])]
    for row in found.errors.iter_rows(named=True):
        if "," in row["group"]:
            continue
        metric = row["metric"] if row["group"] == "all" else ""
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
