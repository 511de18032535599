"""``roofline-fast catalog``: what is known by name."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from roofline_fast.cli import flags, output, talk
from roofline_fast.cli.grammar import Command, Group
from roofline_fast.errors import SpecError
from roofline_fast.suggest import unknown

if TYPE_CHECKING:
    import polars as pl

HELP = "What is known by name: devices, models and techniques."
NAME = typer.Argument(metavar="[NAME]", help="One of them, all its figures.")

# Which columns of the lists a screen has room for.
HARDWARE = (
    "name",
    "memory_gib",
    "bandwidth_gb_s",
    "bf16_tflops",
    "fp8_tflops",
    "fp4_tflops",
    "scale_up_gb_s",
    "tdp_w",
    "usd_per_hour",
)
TECHNIQUES = ("name", "class", "changes")
MODELS = ("name", "parameters", "active_parameters", "layers", "max_context", "dtype", "quantization")


def register(app: typer.Typer) -> None:
    """Add the commands."""
    group = typer.Typer(cls=Group, help=HELP, rich_markup_mode=None, no_args_is_help=True)
    group.command("hardware", cls=Command, help="Devices: memory, bandwidth, peaks, links, with sources.")(
        hardware
    )
    group.command("models", cls=Command, help="Models: sizes, layers, formats.")(models)
    group.command(
        "techniques", cls=Command, help="Techniques for --with: what they change, formulas, settings."
    )(techniques)
    app.add_typer(group, name="catalog")


def hardware(
    name: Annotated[str | None, NAME] = None,
    field: Annotated[
        str | None,
        typer.Option(metavar="PREFIX", help="Of one device, the fields that begin so: ridge, memory.device."),
    ] = None,
    form: flags.Format = "table",
    out: flags.Output = None,
    quiet: flags.Quiet = False,
) -> int:
    """List devices, or one of them."""
    if field is not None and name is None:
        hint = "for example `catalog hardware h100 --field ridge`"
        raise SpecError("NAME must be given with --field", field="NAME", hint=hint)
    return _list("hardware", name, HARDWARE, form, out, quiet, field)


def models(
    name: Annotated[str | None, NAME] = None,
    form: flags.Format = "table",
    out: flags.Output = None,
    quiet: flags.Quiet = False,
) -> int:
    """List models, or one of them."""
    return _list("models", name, MODELS, form, out, quiet)


def techniques(
    name: Annotated[str | None, NAME] = None,
    form: flags.Format = "table",
    out: flags.Output = None,
    quiet: flags.Quiet = False,
) -> int:
    """List techniques, or one of them."""
    return _list("techniques", name, TECHNIQUES, form, out, quiet)


def _list(
    kind: str,
    name: str | None,
    columns: tuple[str, ...],
    form: str,
    out: Any,
    quiet: bool,
    prefix: str | None = None,
) -> int:
    output.checked(form, out, name)
    from roofline_fast.listing import catalog, own_names

    rows = catalog(kind, name)
    if prefix is not None:
        known = rows["field"].to_list()
        rows = rows.filter(rows["field"].str.starts_with(prefix))
        if rows.is_empty():
            raise unknown("field", prefix, known)
    if out is not None:
        output.save(rows, out)
        talk.note(f"{rows.height} rows written to {out}", quiet=quiet)
    shown = rows if name is not None else rows.select(columns)
    output.show(form, screen=lambda: _screen(shown), record=rows.to_dicts, frame=lambda: rows)
    if name is None and (own := own_names(kind)):
        talk.note(f"and in $ROOFLINE_FAST_DATA: {', '.join(own)}", quiet=quiet)
    return 0


def _screen(rows: pl.DataFrame) -> str:
    from roofline_fast.cli.figures import table

    texts = tuple(place for place, dtype in enumerate(rows.dtypes) if not dtype.is_numeric())
    return "\n".join(
        table(rows.columns, [[_cell(value) for value in row] for row in rows.iter_rows()], texts)
    )


def _cell(value: Any) -> str:
    from roofline_fast.cli.figures import digits, scaled

    if value is None:
        return "–"
    if isinstance(value, int):
        return scaled(value) if value >= 10_000_000 else f"{value:,}"
    return digits(value) if isinstance(value, float) else str(value)
