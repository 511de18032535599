"""Traces in files of columns: Parquet and Arrow, handed on as rows so that every rule of a trace holds."""

from __future__ import annotations

import io
import json
import math
import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal, TypeVar

from roofline_fast import _core
from roofline_fast.atomic_file import aside
from roofline_fast.errors import SpecError, TraceError
from roofline_fast.frames import without_lists

if TYPE_CHECKING:
    import polars as pl

T = TypeVar("T")
# Rows that are handed on at once: their text is some ten megabytes.
ROWS = 1 << 17
STDIN = "-"
# Under this name a Parquet file keeps the header of a native trace.
HEADER = "roofline-fast"
# What is written under each suffix, the first if nothing else is said.
WRITTEN = {
    ".jsonl": ("native", "mooncake"),
    ".csv": ("native", "vidur", "azure_llm"),
    ".parquet": ("native",),
}
# How a CSV file of each suffix is packed.
PACKED: dict[str, Literal["uncompressed", "gzip", "zstd"]] = {
    ".csv": "uncompressed",
    ".gz": "gzip",
    ".zst": "zstd",
}


def files_of(names: Sequence[str]) -> tuple[list[str], bool]:
    """Return the files that names stand for, and whether they hold columns instead of text.

    Raises
    ------
    TraceError
        A folder or a pattern without files; columns beside text.
    """
    files: list[str] = []
    for name in names:
        files += [name] if name == STDIN else [str(path) for path in _core.Trace.files(name)]
    columnar = [file for file in files if file != STDIN and _kind(file) is not None]
    if columnar and len(columnar) < len(files):
        other = next(file for file in files if file not in columnar)
        message = f"{other}: every file must be Parquet or Arrow, as {columnar[0]} is: text"
        raise TraceError(message, value="text", hint="convert one of them first", file=other)
    return files, bool(columnar)


def parts(files: Sequence[str]) -> Iterator[tuple[str, bytes, int]]:
    """Read files of columns, some rows at a time.

    Yields
    ------
    str, bytes, int
        The file, some of its rows as JSON Lines, and how many rows it has before them.
    """
    for file in files:
        table = _table(file)
        if header := _header(file):
            yield file, header.encode(), 0
        for start in range(0, table.height, ROWS):
            yield file, _lines(table.slice(start, ROWS)), start


def _lines(rows: pl.DataFrame) -> bytes:
    """Return rows as JSON Lines, in which a number that is none is the text of it and not null."""
    import polars as pl

    text = io.BytesIO()
    rows.write_ndjson(text)
    floats = pl.selectors.float()
    odd = rows.select(pl.any_horizontal(floats.is_nan() | floats.is_infinite())).to_series()
    if not odd.any():
        return text.getvalue()
    lines = text.getvalue().splitlines()
    for place in odd.fill_null(value=False).arg_true():
        told = {name: _told(value) for name, value in rows.row(place, named=True).items()}
        lines[place] = json.dumps(told, default=str).encode()
    return b"\n".join(lines) + b"\n"


def _told(value: object) -> object:
    """Return a value as JSON can hold it: no number as its text."""
    if not isinstance(value, float) or math.isfinite(value):
        return value
    return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"


def unit_of(files: Sequence[str]) -> str | None:
    """Return ``datetime`` where arrivals are of that type under a name that promises no unit."""
    import polars as pl

    schema = _read(files[0], pl.read_parquet_schema, pl.read_ipc_schema)
    dated = [name for name, kind in schema.items() if isinstance(kind, pl.Datetime)]
    return "datetime" if any(name in ("timestamp", "created_time") for name in dated) else None


def _kind(file: str) -> str | None:
    try:
        with open(file, "rb") as stream:
            magic = stream.read(6)
    except (OSError, ValueError):
        # Whatever reads the file as text says why it cannot be read.
        return None
    return "parquet" if magic.startswith(b"PAR1") else "arrow" if magic == b"ARROW1" else None


def _read(file: str, parquet: Callable[[str], T], arrow: Callable[[str], T]) -> T:
    """Return what polars reads from a file, or say what is wrong with it.

    Raises
    ------
    TraceError
        A file that cannot be read, or is not whole.
    """
    import polars as pl

    try:
        return parquet(file) if _kind(file) == "parquet" else arrow(file)
    except OSError as error:
        raise _refused(file, "the file must be readable", error.strerror or str(error)) from None
    except pl.exceptions.PolarsError as error:
        hint = "the download or the writer was probably interrupted; get the file again"
        reason = str(error).splitlines()[0]
        raise _refused(file, "the file must be complete and intact", reason, hint=hint) from None


def _table(file: str) -> pl.DataFrame:
    import polars as pl

    table = _read(file, lambda file: pl.read_parquet(file, glob=False), pl.read_ipc)
    if table.height == 0:
        raise _refused(
            file, "the file must hold requests", f"columns ({', '.join(table.columns)}) but no rows"
        )
    return table.drop(pl.selectors.binary(), pl.selectors.object())


def _header(file: str) -> str | None:
    """Return the header of a native trace, as `written` keeps it."""
    import polars as pl

    return pl.read_parquet_metadata(file).get(HEADER) if _kind(file) == "parquet" else None


def _refused(file: str, must: str, value: str, *, hint: str = "") -> TraceError:
    return TraceError(f"{file}: {must}: {value}", value=value, hint=hint, file=file)


def format_of(path: str, wanted: str | None) -> str:
    """Return what is written to a file: what is wanted, or what its suffix stands for.

    Raises
    ------
    SpecError
        A suffix under which traces, or those of the wanted format, are not written.
    """
    packed = path.lower().removesuffix(".gz").removesuffix(".zst")
    suffix = next((suffix for suffix in WRITTEN if packed.endswith(suffix)), None)
    if suffix is None or (packed != path.lower() and suffix == ".parquet"):
        hint = "`.jsonl` and `.csv` may be followed by `.gz` or `.zst`"
        message = f"output must end in one of {', '.join(WRITTEN)}: {path}"
        raise SpecError(message, field="output", value=path, hint=hint)
    form = {"azure": "azure_llm"}.get(wanted or "", wanted) or WRITTEN[suffix][0]
    if form not in WRITTEN[suffix] and any(form in forms for forms in WRITTEN.values()):
        fitting = next(name for name, forms in WRITTEN.items() if form in forms)
        message = f"output must end in {fitting} for {form}: {path}"
        raise SpecError(message, field="output", value=path)
    return form


def streams(path: str, form: str) -> bool:
    """Return whether a file of that format is written row by row, and not column by column."""
    return form != "native" or not path.lower().endswith((".csv", ".csv.gz", ".csv.zst", ".parquet"))


def written(trace: _core.Trace, path: str, wanted: str | None) -> list[str]:
    """Write a trace in the format that is wanted, or that the file's suffix stands for; what is left out."""
    form = format_of(path, wanted)
    if not streams(path, form):
        _write_columns(trace, Path(path))
        return []
    return trace.write(path, form)


def _write_columns(trace: _core.Trace, path: Path) -> None:
    """Write the native schema as columns; lists are JSON text in a CSV file."""
    import polars as pl

    with aside(path) as part:
        trace.write(part, "native")
        with part.open("rb") as stream:
            header = stream.readline().decode().strip()
            table = pl.read_ndjson(_of_one_kind(stream.read()), infer_schema_length=None)
        table = table.with_columns(pl.col("arrival_s").cast(pl.Float64))
        if path.suffix.lower() == ".parquet":
            table.write_parquet(part, metadata={HEADER: header})
        else:
            packed = PACKED[path.suffix.lower()]
            without_lists(table).write_csv(part, compression=packed, check_extension=False)


def _of_one_kind(lines: bytes) -> bytes:
    """Return rows of which all have tokens of images as lists, if any has: a column is of one kind."""
    if not re.search(rb'"image_tokens": \[', lines):
        return lines
    counted = rb'("images": \d+, )?"image_tokens": (\d+)'
    # A list says how many images there are, which a count leaves open.
    return re.sub(
        counted, lambda row: (row[1] or b'"images": 0, ') + b'"image_tokens": [' + row[2] + b"]", lines
    )


def block_size_note(form: str, path: str, block_size: int | None) -> str | None:
    """Return what a reader of the file must be told, because the file cannot."""
    usual = {"mooncake": 512, "native": 16}.get(form)
    told = form == "native" and not path.lower().removesuffix(".gz").removesuffix(".zst").endswith(".csv")
    if block_size is None or usual is None or block_size == usual or told:
        return None
    return f"hash ids stand for {block_size} tokens: read it with --trace-block-size {block_size}"
