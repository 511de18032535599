"""Traces in Parquet and Arrow files: polars reads the columns, the compiled half takes them."""

from __future__ import annotations

from os import PathLike, fspath
from typing import TYPE_CHECKING

from roofline_fast.errors import TraceError
from roofline_fast.trace import Trace

if TYPE_CHECKING:
    import polars as pl

# Nanoseconds of a unit, for the arrivals whose name tells it (the native schema and Baseten's).
_ARRIVALS = {
    "arrival_s": 1_000_000_000,
    "arrival_ms": 1_000_000,
    "arrival_us": 1_000,
    "arrival_ns": 1,
    "timestamp_start_unix_ms": 1_000_000,
    "timestamp": 1_000_000,
    "arrival": None,
}
_PROMPT = ("prompt_tokens", "input_tokens", "input_length")
_OUTPUT = ("output_tokens", "output_length")
_IDS = ("id", "request_id")


def read_columns(path: str | PathLike[str]) -> tuple[Trace, list[str]]:
    """Read a Parquet file or an Arrow IPC file.

    Parameters
    ----------
    path : path
        A file with an arrival (``arrival_s``, ``arrival_ms``, …, ``timestamp_start_unix_ms``, or dates in
        ``arrival`` or ``timestamp``), a prompt length and an output length.

    Returns
    -------
    Trace, list of str
        Its requests, from 0 on; what was assumed and what the file has besides, in sentences.

    Raises
    ------
    TraceError
        A file that is not complete, a column that is absent, of the wrong type, or with nulls.
    """
    file = fspath(path)
    table = _table(file)
    columns = table.columns
    arrival, prompt, output = (
        _named(file, columns, names, what)
        for names, what in (
            (tuple(_ARRIVALS), "arrival times"),
            (_PROMPT, "prompt lengths"),
            (_OUTPUT, "output lengths"),
        )
    )
    ids = next((name for name in _IDS if name in columns), None)
    priority = "priority" if "priority" in columns else None
    used = [name for name in (arrival, prompt, output, ids, priority) if name]
    for name in used:
        _complete(file, table[name])
    told: list[str] = []
    trace = Trace(
        _seconds(file, table[arrival], told),
        _counts(file, table[prompt]),
        _counts(file, table[output]),
        ids=None if ids is None else table[ids].cast(str).to_list(),
        priority=None if priority is None else _whole(file, table[priority]),
    )
    if rest := [name for name in columns if name not in used]:
        told.append(f"columns that have no effect yet: {', '.join(rest)}")
    return trace, told


def _table(file: str) -> pl.DataFrame:
    import polars as pl

    try:
        with open(file, "rb") as stream:
            magic = stream.read(6)
        if magic.startswith(b"PAR1"):
            return pl.read_parquet(file, glob=False)
        if magic == b"ARROW1":
            return pl.read_ipc(file)
    except OSError as error:
        raise _refused(file, "the file must be readable", error.strerror or str(error)) from None
    except pl.exceptions.PolarsError as error:
        hint = "the download or the writer was probably interrupted; get the file again"
        reason = str(error).splitlines()[0]
        raise _refused(file, "the file must be complete and intact", reason, hint=hint) from None
    hint = "`Trace.read` reads text"
    raise _refused(file, "the file must be Parquet or Arrow", "another one", hint=hint)


def _named(file: str, columns: list[str], names: tuple[str, ...], what: str) -> str:
    """Return the one column of these names that the table has."""
    found = [name for name in names if name in columns]
    if not found:
        value = f"looked for {', '.join(names)}; found {', '.join(columns)}"
        raise _refused(file, f"the file must have {what}", value)
    return found[0]


def _complete(file: str, column: pl.Series) -> None:
    if nulls := column.null_count():
        row = column.is_null().arg_max()
        value = f"null in row {1 + (row or 0)} ({nulls} of {len(column)})"
        raise _refused(file, "must be given", value, field=column.name)


def _seconds(file: str, column: pl.Series, told: list[str]) -> pl.Series:
    """Return arrivals in seconds from the first on, exact in whole numbers as long as can be."""
    import polars as pl

    unit = _ARRIVALS[column.name]
    if column.dtype == pl.Datetime:
        nanos = column.dt.epoch("ns")
    elif unit is None or not column.dtype.is_numeric():
        must = "must be dates with a time of day" if unit is None else "must be a number or a date"
        raise _refused(file, must, f"a column of {column.dtype}", field=column.name)
    elif column.dtype.is_integer():
        nanos = column.cast(pl.Int64) * unit
    else:
        _finite(file, column)
        return (column - _first(column)) * (unit / 1e9)
    if first := _first(nanos):
        told.append(f"the first arrival is at {first / 1e9} s of the file's clock, shifted to 0")
    return (nanos - first) / 1e9


def _finite(file: str, column: pl.Series) -> None:
    broken = ~column.is_finite()
    if broken.any():
        row = broken.arg_max() or 0
        raise _refused(file, "must be a finite number", f"{column[row]} in row {row + 1}", field=column.name)


def _first(column: pl.Series) -> float:
    """Return the earliest time of a column."""
    first = column.min()
    assert isinstance(first, int | float)
    return first


def _whole(file: str, column: pl.Series) -> pl.Series:
    if not column.dtype.is_integer():
        raise _refused(file, "must be whole numbers", f"a column of {column.dtype}", field=column.name)
    return column


def _counts(file: str, column: pl.Series) -> pl.Series:
    negative = _whole(file, column) < 0
    if negative.any():
        row = negative.arg_max() or 0
        raise _refused(file, "must be at least 0", f"{column[row]} in row {row + 1}", field=column.name)
    return column


def _refused(file: str, must: str, value: str, *, field: str = "", hint: str = "") -> TraceError:
    message = f"{file}: {field}{' ' if field else ''}{must}: {value}"
    return TraceError(message, field=field, value=value, hint=hint, file=file)
