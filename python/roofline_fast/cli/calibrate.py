"""``roofline-fast calibrate``: efficiencies from a user's own measurements."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from roofline_fast.aside import write_text
from roofline_fast.cli import flags, output, talk
from roofline_fast.cli.grammar import Command
from roofline_fast.errors import SpecError

if TYPE_CHECKING:
    from roofline_fast.calibration import Calibration

HELP = """Fit efficiencies to measured kernels, or say which kernels to measure (--plan).

Writes an efficiency file that --efficiency takes. Rows that cannot be right are left out and counted:
faster than the datasheet, in another unit, or a launch's floor. Errors are those on rows that were not
fitted.
"""


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("calibrate", cls=Command, help=HELP)(calibrate)


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
    if plan:
        return _plan(form, out, hw, engine, quiet=quiet)
    from roofline_fast.calibration import calibrate as ask

    fitted = ask(
        flags.required("MEASUREMENTS", measurements),
        hw,
        engine=engine,
        source=source,
        prior=prior,
        extrapolate=extrapolate,
        update=update,
    )
    if out is not None and fitted.files:
        for path in fitted.write(out):
            talk.note(f"efficiencies written to {path}; use them with --efficiency {path}", quiet=quiet)
    output.show(form, screen=lambda: screen(fitted), record=fitted.fits.to_dicts, frame=lambda: fitted.fits)
    return _verdict(fitted)


def screen(fitted: Calibration) -> str:
    """Return the fits as a table, with what was left out below."""
    start = f"{'device / engine':<28}{'family':<19}{'dtype':<20}{'rows':>9}"
    head = f"{start}{'median':>8}{'P90':>7}{'bias':>7}{'roofline':>10}"
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
        lines.append(f"{start}{errors}{row['ideal_median_ape']:>8.0f} %")
    why = {
        "beats_roofline": "faster than the datasheet roofline",
        "unit_slip": "of another unit, it seems",
        "launch_floor": "measuring an eager launch",
    }
    lines += [f"  left out: {count:,} rows {why[flaw]}" for flaw, count in left_out.items() if count]
    if fitted.noisy:
        lines.append(f"  left out: {fitted.noisy:,} rows marked noisy")
    lines.append(
        "  errors of rows that were not fitted: median and P90 of the absolute error, median of the signed"
    )
    return "\n".join(lines)


def _plan(form: str, out: Path | None, hw: str | None, engine: str, *, quiet: bool) -> int:
    from roofline_fast.benchmarks import benchmarks, script
    from roofline_fast.hardware import find_hardware

    device = find_hardware(flags.required("--hw", hw))
    rows = benchmarks()
    if out is not None:
        if out.suffix != ".py":
            message = f"--output must end in .py with --plan: {out}"
            raise SpecError(message, field="--output", value=str(out))
        write_text(out, script(device.name, engine or "torch"))
        talk.note(
            f"script written to {out}; run it on the device, then calibrate what it writes", quiet=quiet
        )
    output.show(form, screen=lambda: _table(device.name), record=rows.to_dicts, frame=lambda: rows)
    return 0


def _table(device: str) -> str:
    from roofline_fast.benchmarks import benchmarks

    lines = [f"{device}: kernels worth measuring", ""]
    for row in benchmarks().iter_rows(named=True):
        sizes = "  ".join(f"{name} {value:,}" for name, value in row.items() if isinstance(value, int))
        lines.append(f"  {row['op']:<22}{row['dtype']:<6}{sizes}")
    lines += ["", "  -o bench.py writes a script that measures them with PyTorch, one CUDA graph a kernel"]
    return "\n".join(lines)


def _verdict(fitted: Calibration) -> int:
    """Say on stderr what was refused; a calibration without a fit is bad input."""
    refused = fitted.fits.filter(fitted.fits["refused"].is_not_null())
    if not fitted.files:
        first = refused["refused"].to_list()[0] if refused.height else "no row can be used"
        talk.say(f"error: measurements must allow a fit: {first}")
        return talk.BAD_INPUT
    return talk.PARTIAL if refused.height else 0
