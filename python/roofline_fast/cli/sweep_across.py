"""What ``sweep --across AXIS`` shows: one column for each value of an axis, one table for each result."""

from __future__ import annotations

import string
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from roofline_fast.cli.figures import GIB, digits, table
from roofline_fast.errors import SpecError
from roofline_fast.suggest import unknown

if TYPE_CHECKING:
    import polars as pl

# Points that a table may have; more belong into a file.
MOST_POINTS = 10_000
# Characters of all values of the axis that fit above columns.
MOST_HEADS = 72
# Results of another tool: what they are divided by, and the unit that remains.
UNITS = {"inference_time": (1e-3, "ms"), "throughput": (1.0, "tok/s"), "OPs": (1e9, "GOP")}


def axis(run: Any, name: str) -> str:
    """Return the axis that ``--across`` names.

    Raises
    ------
    SpecError
        One that is not varied, or more points than a table shows.
    """
    plain = name.strip().lstrip("-").replace("-", "_")
    plain = {"with": "techniques"}.get(plain, plain)
    if plain not in run.varied:
        if not run.varied:
            hint = "give an axis several values, for example `--batch-size 1,8,64`"
            raise SpecError(
                f"--across must name an axis of several values: {name}", field="--across", hint=hint
            )
        raise unknown("axis of several values", plain, run.varied)
    if len(run.varied[plain]) > len(string.ascii_uppercase):
        most = len(string.ascii_uppercase)
        message = (
            f"--across must name an axis of at most {most} values: {plain} has {len(run.varied[plain]):,}"
        )
        raise SpecError(message, field="--across", hint="name another axis; this one becomes the rows")
    if run.points > MOST_POINTS:
        message = f"--across must be asked of at most {MOST_POINTS:,} points: {run.points:,}"
        raise SpecError(message, field="--across", hint="leave --across out, and write to a folder with -o")
    return plain


def tables(
    run: Any, rows: pl.DataFrame, across: str, results: Sequence[str], *, relative: bool
) -> dict[str, pl.DataFrame]:
    """Return a table for each result: a row for each choice of the other axes, a column for each value of `across`.

    What was dropped is null; ``relative`` divides every column by the first.

    Raises
    ------
    SpecError
        Shares of what is no number.
    """
    import polars as pl

    others = [name for name in run.varied if name != across]
    heads = [_key(value) for value in run.varied[across]]
    places = [{_key(value): place for place, value in enumerate(run.varied[name])} for name in others]

    def place(key: tuple[Any, ...]) -> list[int]:
        return [known.get(_key(value), len(known)) for known, value in zip(places, key, strict=True)]

    found = {}
    for result in results:
        if relative and not rows[result].dtype.is_numeric():
            raise SpecError(
                f"--relative must be asked of numbers: {result}", field="--relative", value=result
            )
        cells: dict[tuple[Any, ...], dict[str, Any]] = {}
        for row in rows.iter_rows(named=True):
            line = cells.setdefault(tuple(row[name] for name in others), dict.fromkeys(heads))
            line[_key(row[across])] = row[result]
        lines = [{**dict(zip(others, key, strict=True)), **cells[key]} for key in sorted(cells, key=place)]
        frame = pl.DataFrame(lines, infer_schema_length=None)
        if relative:
            frame = frame.with_columns([(pl.col(head) / pl.col(heads[0])).alias(head) for head in heads])
        found[result] = frame
    return found


def screen(run: Any, found: dict[str, pl.DataFrame], across: str, *, relative: bool) -> list[str]:
    """Return the lines of all tables; where they would be too wide, values of `across` have letters."""
    others = [name for name in run.varied if name != across]
    keys = [_key(value) for value in run.varied[across]]
    heads = [_text(value) for value in run.varied[across]]
    short, legend = heads, []
    if sum(map(len, heads)) > MOST_HEADS:
        short = list(string.ascii_uppercase[: len(heads)])
        legend = ["", *(f"  {letter}  {head}" for letter, head in zip(short, heads, strict=True))]
    lines: list[str] = []
    for result, frame in found.items():
        size, unit = _unit(result, frame.select(keys))
        unit = f"as a share of {short[0]}" if relative else unit
        lines += ["", f"{result}{', ' + unit if unit else ''}, by {across}"]
        cells = [
            [_text(row[name]) for name in others]
            + [_cell(row[key], 0.01 if relative else size, relative=relative) for key in keys]
            for row in frame.iter_rows(named=True)
        ]
        texts = tuple(place for place, name in enumerate(others) if not frame[name].dtype.is_numeric())
        lines += ["  " + line for line in table([*others, *short], cells, left=texts)]
    return lines + legend


def wide(found: dict[str, pl.DataFrame]) -> pl.DataFrame:
    """Return all tables as one, the result's name in front where there are several."""
    import polars as pl

    if len(found) == 1:
        return next(iter(found.values()))
    named = [frame.select(pl.lit(result).alias("result"), pl.all()) for result, frame in found.items()]
    return pl.concat(named, how="diagonal_relaxed")


def _unit(result: str, values: pl.DataFrame) -> tuple[float, str]:
    """Return what the values of a result are divided by, and the unit that remains."""
    if result in UNITS:
        return UNITS[result]
    if result.startswith("memory_consumption"):
        return GIB, "GiB"
    if result.startswith(("load_", "store_", "memory_access")):
        return 1e9, "GB"
    if result.endswith("_s") and not result.startswith("tokens"):
        most = max((value for row in values.rows() for value in row if value is not None), default=0.0)
        return (1e-3, "ms") if most >= 1e-3 else (1e-6, "us")
    return (GIB, "GiB") if result.endswith("_bytes") else (1.0, "")


def _cell(value: Any, size: float, *, relative: bool) -> str:
    if value is None:
        return "–"
    if isinstance(value, bool | str):
        return _text(value)
    if relative:
        return f"{value / size:.2f} %"
    return f"{value:,}" if isinstance(value, int) else digits(value / size)


def _key(value: Any) -> str:
    """Return a value as the name of a column that programs read."""
    return ("yes" if value else "no") if isinstance(value, bool) else str(value)


def _text(value: Any) -> str:
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else _key(value)
