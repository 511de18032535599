"""``roofline-fast calibrate``: efficiencies from a user's own measurements."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from roofline_fast.atomic_file import write_text
from roofline_fast.cli import flags, output, talk
from roofline_fast.cli.flags import with_flags
from roofline_fast.cli.grammar import Command
from roofline_fast.errors import SpecError

if TYPE_CHECKING:
    from roofline_fast.hardware import Hardware
    from roofline_fast.measurements.calibration import Calibration
    from roofline_fast.measurements.validation import Validation

HELP = """Fit efficiencies to measured kernels, steps or requests, or say what to measure (--plan).

Writes an efficiency file that --efficiency takes. Kernels (a column `op`): the numbers of each family.
Steps (`step_ms` with what a step consisted of) and served requests (`observed_ttft_s`, `observed_tpot_s`, or
the JSON of `vllm bench serve --save-detailed`): the host's time, what clients wait outside the engine, and a
factor a family. Rows that cannot be right are left out and counted. Errors are those on what was not fitted.
"""


# Share of a table's rows that may beat the datasheet before the others are doubted.
BEATEN = 0.1
# Share of a table's rows that may measure their launch before the others are too few kinds to tell the rest.
LAUNCHED = 0.5
# Kinds of rows that cannot be used, shown at most.
MOST = 12


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("calibrate", cls=Command, help=HELP)(calibrate)


@with_flags("served_as", flags.SERVED_AS)
def calibrate(
    measurements: Annotated[
        str | None, typer.Argument(metavar="MEASUREMENTS", help="CSV, Parquet or JSON Lines.")
    ] = None,
    hw: flags.Hw = None,
    engine: Annotated[
        str, typer.Option("--engine", "--backend", help="Whose kernels, where no column says; vllm.")
    ] = "",
    source: Annotated[str | None, typer.Option(help="Where they come from, for the file.")] = None,
    prior: Annotated[
        bool, typer.Option(help="Draw numbers to the nearest known, so that few rows do.")
    ] = True,
    extrapolate: Annotated[
        bool, typer.Option("--extrapolate", help="Fit without the largest quarter, and judge there.")
    ] = False,
    update: Annotated[
        Path | None, typer.Option(help="An efficiency file or folder whose other fits are kept.")
    ] = None,
    plan: Annotated[bool, typer.Option("--plan", help="Print the kernels worth measuring.")] = False,
    efficiency: Annotated[
        Path | None,
        typer.Option(help="What steps and requests are predicted with before.", rich_help_panel=flags.SERVED),
    ] = None,
    run: Annotated[
        str | None, typer.Option(help="Which run of a file of requests.", rich_help_panel=flags.SERVED)
    ] = None,
    served_as: dict[str, Any] | None = None,
    form: flags.Format = "table",
    out: Annotated[
        Path | None,
        typer.Option(
            "--output", "-o", help="FILE.toml, a folder for several devices, or SCRIPT.py for --plan."
        ),
    ] = None,
    quiet: flags.Quiet = False,
) -> int:
    """Fit and return the exit code."""
    output.checked(form, None, measurements)
    served = flags.served(served_as or {})
    if plan:
        return _plan(form, out, hw, engine, quiet=quiet)
    from roofline_fast.measurements.calibration import calibrate as ask

    fitted = ask(
        flags.required("MEASUREMENTS", measurements),
        hw,
        engine=engine,
        source=source,
        prior=prior,
        extrapolate=extrapolate,
        update=update,
        efficiency=efficiency,
        run=run,
        **served,
    )
    if out is not None and fitted.files:
        for path in fitted.write(out):
            talk.note(f"efficiencies written to {path}; use them with --efficiency {path}", quiet=quiet)
    output.show(form, screen=lambda: screen(fitted), record=fitted.fits.to_dicts, frame=lambda: fitted.fits)
    if fitted.errors.height and (fitted.errors["median_ape"] > fitted.errors["before_median_ape"]).any():
        talk.note("some errors are larger than before: these measurements tell too little", quiet=quiet)
    return _verdict(fitted)


def screen(fitted: Calibration) -> str:
    """Return the fits as a table, with what was left out below."""
    lines = _whole(fitted) if "number" in fitted.fits.columns else _kernels(fitted)
    lines += [f"  left out: {line}" for line in unusable(fitted)]
    return "\n".join(lines)


def unusable(found: Calibration | Validation) -> list[str]:
    """Return for each kind of row that cannot be used how many there are, why, and what the first holds."""
    lines = []
    for row in found.unusable.iter_rows(named=True):
        count = "" if row.get("rows", 1) == 1 else f" (and {row['rows'] - 1:,} more)"
        # What names itself is not named again.
        parts = [row["must"]]
        parts = parts if row["must"].startswith(f"{row['field']}:") else [row["field"], *parts]
        parts = parts if row["was"] in row["must"] else [*parts, row["was"]]
        lines.append(f"row {row['row']}: {': '.join(parts)}{count}")
    return lines[:MOST] + ([f"and {len(lines) - MOST:,} more rows"] if len(lines) > MOST else [])


def _whole(fitted: Calibration) -> list[str]:
    """Return numbers found in steps or requests, and their errors."""
    lines = [f"{'device / engine':<34}{'number':<26}{'found':>10}{'before':>10}{'rows':>9}"]
    for row in fitted.fits.iter_rows(named=True):
        name = f"{row['hw']} / {row['engine']}"
        if row["refused"] is not None:
            lines.append(f"{name:<34}refused: {row['refused']}")
            continue
        number = f"{row['family']} {row['number']}"
        value, prior = (_shown(row["number"], row[key]) for key in ("value", "prior"))
        lines.append(f"{name:<34}{number:<26}{value:>10}{prior:>10}{row['rows']:>9,}")
    if fitted.errors.height:
        lines += ["", f"{'':<34}{'metric':<12}{'n':>8}{'median':>9}{'P90':>8}{'bias':>8}{'before':>9}"]
    for row in fitted.errors.iter_rows(named=True):
        name = f"{row['hw']} / {row['engine']}"
        errors = f"{row['median_ape']:>7.1f} %{row['p90_ape']:>6.0f} %{row['bias']:>+6.1f} %"
        before = f"{row['before_median_ape']:>7.1f} %"
        lines.append(f"{name:<34}{row['metric']:<12}{row['n']:>8,}{errors}{before}")
    lines.append(
        "  errors of what was not fitted, a fifth left out in turn; before: with the numbers of kernels"
    )
    return lines


def _shown(number: str, value: float) -> str:
    if number == "factor":
        return f"{value:.3f}"
    return f"{value * 1e6:.1f} us" if number == "h1_s" else f"{value * 1e3:.2f} ms"


def _kernels(fitted: Calibration) -> list[str]:
    """Return the fits of kernels."""
    start = f"{'device / engine':<28}{'family':<19}{'dtype':<20}{'rows':>9}"
    head = f"{start}{'median':>8}{'P90':>7}{'bias':>7}{'roofline':>10}{'odd':>8}{'P90':>7}"
    lines = [head]
    left_out = {"beats_roofline": 0, "unit_slip": 0, "launch_floor": 0}
    for row in fitted.fits.iter_rows(named=True):
        for flaw in left_out:
            left_out[flaw] += row[flaw]
        name = f"{row['hw']} / {row['engine']}"
        start = f"{name:<28}{row['family']:<19}{row['dtype']:<20}{row['rows']:>9,}"
        if row["refused"] is not None:
            lines.append(f"{start}  refused: {row['refused']}")
            continue
        errors = f"{row['median_ape']:>6.1f} %{row['p90_ape']:>5.0f} %{row['bias']:>+5.1f} %"
        odd = ""
        if row["odd"]:
            odd = f"{row['odd_median_ape']:>6.1f} %{row['odd_p90_ape']:>5.0f} %"
        lines.append(f"{start}{errors}{row['ideal_median_ape']:>8.0f} %{odd}")
    why = {
        "beats_roofline": "faster than the datasheet roofline",
        "unit_slip": "of another unit, it seems",
        "launch_floor": "measuring an eager launch",
    }
    lines += [f"  left out: {count:,} rows {why[flaw]}" for flaw, count in left_out.items() if count]
    lines += [f"  {line}" for line in suspicious(fitted)]
    if fitted.noisy:
        lines.append(f"  left out: {fitted.noisy:,} rows marked noisy")
    lines.append(
        "  errors of rows that were not fitted: median and P90 of the absolute error, median of the signed; odd:"
        " those of shapes that serving hardly meets"
    )
    return lines


def suspicious(fitted: Calibration) -> list[str]:
    """Return what is told of rows that were fitted: loops in the cache, tables much of which cannot be."""
    import polars as pl

    lines = []
    hot = fitted.fits["hot"].sum()
    if hot:
        lines.append(
            f"in the cache: loops of {hot:,} rows read from the last-level cache, not from memory; their gain is fitted"
            " beside and no part of predictions"
        )
    for row in fitted.fits.filter(pl.col("rows") > 0).iter_rows(named=True):
        wrong, launched = row["beats_roofline"], row["launch_floor"]
        name = f"{row['hw']} / {row['engine']}, {row['family']} {row['dtype']}"
        if launched > LAUNCHED * (launched + row["rows"]):
            lines.append(
                f"warning: {launched:,} of {launched + row['rows']:,} rows of {name} measure their launch: what is said"
                " of other shapes than the few that are left is a guess"
            )
        if wrong > BEATEN * (wrong + row["rows"]):
            lines.append(
                f"warning: {wrong:,} of {wrong + row['rows']:,} rows of {name} beat the datasheet: are the others of"
                " this device, and from memory?"
            )
    return lines


def _plan(form: str, out: Path | None, hw: str | None, engine: str, *, quiet: bool) -> int:
    from roofline_fast.hardware import find_hardware
    from roofline_fast.measurements.benchmarks import benchmarks, script

    device = find_hardware(flags.required("--hw", hw))
    rows = benchmarks(device)
    if out is not None:
        if out.suffix != ".py":
            message = f"--output must end in .py with --plan: {out}"
            raise SpecError(message, field="--output", value=str(out))
        write_text(out, script(device, engine or "any"))
        talk.note(
            f"script written to {out}; run it on the device, then calibrate what it writes", quiet=quiet
        )
    output.show(form, screen=lambda: _table(device), record=rows.to_dicts, frame=lambda: rows)
    return 0


def _table(device: Hardware) -> str:
    from roofline_fast.measurements.benchmarks import benchmarks

    lines = [f"{device.name}: kernels worth measuring", ""]
    for row in benchmarks(device).iter_rows(named=True):
        sizes = "  ".join(f"{name} {value:,}" for name, value in row.items() if isinstance(value, int))
        lines.append(f"  {row['op']:<22}{row['dtype']:<6}{sizes}")
    lines += [
        "",
        "  -o bench.py writes a script that measures them with PyTorch, in CUDA graphs; its numbers hold for",
    ]
    lines += ["  every engine unless --engine names one, and collectives need torchrun on several devices"]
    return "\n".join(lines)


def _verdict(fitted: Calibration) -> int:
    """Say on stderr what was refused; a calibration without a fit is bad input."""
    refused = fitted.fits.filter(fitted.fits["refused"].is_not_null())
    if not fitted.files:
        rows = unusable(fitted)
        first = refused["refused"].to_list()[0] if refused.height else "no row can be used"
        talk.say(f"error: measurements must allow a fit: {first}")
        for line in rows:
            talk.say(f"  {line}")
        return talk.BAD_INPUT
    return talk.PARTIAL if refused.height else 0
