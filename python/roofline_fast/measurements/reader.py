"""Files of measurements as users have them: read, told apart by their columns, and handed over."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from roofline_fast import _core
from roofline_fast.errors import SpecError
from roofline_fast.json_text import parsed

if TYPE_CHECKING:
    import polars as pl

    from roofline_fast.hardware import Hardware

SUFFIXES = (".parquet", ".csv", ".jsonl", ".ndjson")
# Tokens of a block of vLLM's cache.
BLOCK = 16
# A column that only one kind of file has, and the kind; the first that is there decides.
KINDS = (
    ("op", "kernels"),
    ("op_name", "kernels"),
    ("operation", "kernels"),
    ("silicon_tpot_ms", "points"),
    ("silicon_ttft_ms", "points"),
    ("cycle_ms", "steps"),
    ("step_ms", "steps"),
    ("step_us", "steps"),
    ("step_s", "steps"),
    ("isl_eq_osl", "batches"),
    ("observed_ttft_s", "requests"),
    ("ttft_s", "requests"),
)
# What a file of each kind has at least.
NEEDED = {
    "kernels": "`op` and a time (`latency_us`, …)",
    "steps": "`step_ms`, `decode_seqs` and `decode_kv_tokens`",
    "served requests": "`arrival_s`, `prompt_tokens`, `output_tokens` and `observed_ttft_s`",
    "points of servers": "`model_path`, `system`, `silicon_ttft_ms` and `silicon_tpot_ms`",
}
# Columns of served requests in seconds that may be in milliseconds.
SECONDS = ("observed_ttft", "observed_tpot", "observed_e2e", "ttft", "tpot", "e2e")
# Operations of kernels that are chains of them.
MODULES = ("mla_context_module", "mla_generation_module")
# How names of columns of times begin, or end.
TIMED = ("latency", "duration")
UNITS = ("_s", "_ms", "_us")
# Columns that are words whatever stands in them.
WORDS = ("version", "backend_version", "engine_version", "id", "run", "run_id", "measured_date")


def files(path: str | Path) -> list[Path]:
    """Return the files of measurements at a path: itself, or those of a folder and its folders, by name."""
    place = Path(path).expanduser()
    if place.is_dir():
        found = sorted(file for file in place.rglob("*") if file.suffix.lower() in SUFFIXES)
        if not found:
            raise SpecError(f"{place} must hold files of measurements: none ends in {', '.join(SUFFIXES)}")
        return found
    if not place.exists():
        raise FileNotFoundError(2, "no such file or folder", str(place))
    if place.suffix.lower() not in SUFFIXES:
        raise SpecError(f"measurements must end in one of {', '.join(SUFFIXES)}: {place}", value=str(place))
    return [place]


def read(path: Path) -> pl.DataFrame:
    """Read one file, every column of a type of its own."""
    import polars as pl

    suffix = path.suffix.lower()
    try:
        if suffix == ".parquet":
            return tidy(pl.read_parquet(path))
        if suffix == ".csv":
            return tidy(pl.read_csv(path, infer_schema_length=None, separator=_separator(path)))
        return tidy(pl.read_ndjson(path, infer_schema_length=None))
    except (pl.exceptions.PolarsError, UnicodeDecodeError) as why:
        raise _unreadable(path, why) from None


def columns_of(path: Path) -> list[str]:
    """Return the columns of a file without reading its rows, under the names that `read` gives them."""
    import polars as pl

    suffix = path.suffix.lower()
    try:
        if suffix == ".parquet":
            return tidy(pl.DataFrame(schema=pl.read_parquet_schema(path))).columns
        if suffix == ".csv":
            return tidy(
                pl.read_csv(path, n_rows=1, infer_schema=False, separator=_separator(path)).clear()
            ).columns
        return tidy(pl.read_ndjson(path, n_rows=1).clear()).columns
    except (pl.exceptions.PolarsError, UnicodeDecodeError) as why:
        raise _unreadable(path, why) from None


def _unreadable(path: Path, why: Exception) -> SpecError:
    """Return what is said of a file that is not what its name says, with the line where it is of lines."""
    suffix = path.suffix.lower()
    said = str(why).splitlines()[0]
    if suffix in (".jsonl", ".ndjson"):
        said = _first_wrong_line(path) or said
    return SpecError(f"{path} must be {suffix[1:]}: {said}", field="measurements", value=str(path))


def _first_wrong_line(path: Path) -> str | None:
    """Return which line of a file of JSON objects is none, and why."""
    with path.open("rb") as lines:
        for number, line in enumerate(lines, start=1):
            try:
                if line.strip() and not isinstance(parsed(line), dict):
                    return f"line {number} is no object"
            except ValueError as why:
                return f"line {number}: {why}"
    return None


def _separator(path: Path) -> str:
    """Return what separates the columns of a CSV file: a comma, unless its first line has only others."""
    with path.open("rb") as lines:
        head = lines.readline()
    return next((mark for mark in (",", ";", "\t") if mark.encode() in head), ",")


def tidy(frame: pl.DataFrame) -> pl.DataFrame:
    """Return columns under the names that are looked for: in lower case, without spaces around, times in seconds."""
    import polars as pl

    names = {name: name.strip().lower() for name in frame.columns}
    counts = list(names.values())
    frame = frame.rename({old: new for old, new in names.items() if old != new and counts.count(new) == 1})
    for name in SECONDS:
        column = f"{name}_ms"
        if column in frame.columns and f"{name}_s" not in frame.columns:
            if frame[column].dtype.is_numeric():
                frame = frame.with_columns(pl.col(column) / 1e3)
            frame = frame.rename({column: f"{name}_s"})
    return frame


def unknown(name: str, columns: list[str]) -> SpecError:
    """Return what is said of a file that is of no kind that is known."""
    kinds = "; ".join(f"{kind} have {columns}" for kind, columns in NEEDED.items())
    message = f"{name} must be of a kind that is known by its columns: {', '.join(columns)}"
    return SpecError(message, field="measurements", value=", ".join(columns), hint=kinds)


def kind(columns: list[str]) -> str | None:
    """Return what a file with these columns measures; nothing where it is no measurement."""
    return next((kind for name, kind in KINDS if name in columns), None)


def is_timed(columns: list[str]) -> bool:
    """Return whether columns look like those of kernels, but for the operation."""
    return any(name.startswith(TIMED) for name in columns)


def is_time(column: str) -> bool:
    """Return whether a column's name is one of times."""
    return column.startswith(TIMED) or column.endswith(UNITS)


def steps(frame: pl.DataFrame) -> pl.DataFrame:
    """Return steps under the documented names of their columns.

    vLLM's step traces count free blocks of 16 tokens; their rows say nothing of where prompts stand.
    """
    import polars as pl

    if "kv.blocks_total_gpu" not in frame.columns:
        return frame
    used = pl.col("kv.blocks_total_gpu") - pl.col("kv.blocks_free_gpu")
    return frame.with_columns(
        decode_seqs="batch.num_decode_reqs",
        decode_kv_tokens=(used * BLOCK - pl.col("batch.prefill_tokens")).clip(1),
        prefill_seqs="batch.num_prefill_reqs",
        prefill_tokens="batch.prefill_tokens",
        model=pl.col("model").str.strip_suffix("-hf"),
    )


def kernels(frame: pl.DataFrame, hw: Hardware | None = None, engine: str = "") -> _core.Measurements:
    """Hand kernel timings over."""
    device = hw.compiled if hw else None
    return _core.Measurements(frame.height, columns(frame), hw=device, engine=engine)


def columns(frame: pl.DataFrame) -> dict[str, Any]:
    """Return numbers with NaN for nulls and texts as they are, by name; other columns are left out."""
    import polars as pl

    columns: dict[str, Any] = {}
    for column in frame:
        if column.dtype.is_numeric() or column.dtype == pl.Boolean or column.dtype == pl.Null:
            columns[column.name] = column.cast(pl.Float64).fill_null(float("nan"))
        elif column.dtype in (pl.String, pl.Categorical, pl.Enum):
            words = column.cast(pl.String)
            columns[column.name] = words if column.name in WORDS else _numbers(words)
    return columns


def _numbers(words: pl.Series) -> pl.Series:
    """Return a column of texts as numbers where every text is one, or most are and it is no time.

    A cell that is none is refused with its row, and not the column with it; times name their unit, so
    that of a column with texts nobody knows what the numbers mean.
    """
    import polars as pl

    numbers = words.str.strip_chars().cast(pl.Float64, strict=False)
    texts = words.len() - words.null_count()
    wrong = numbers.null_count() - words.null_count()
    if texts == 0 or 2 * wrong >= texts or (wrong > 0 and is_time(words.name)):
        return words
    return numbers.fill_null(float("nan"))


def unusable(refused: pl.DataFrame) -> pl.DataFrame:
    """Return why rows of kernels cannot be used, under the names that steps have."""
    return refused.select("row", "was", "rows", field="op", must="reason")


def together(refused: pl.DataFrame) -> pl.DataFrame:
    """Return each kind of row that cannot be used once, as the first of it stands, with how many there are."""
    import polars as pl

    kinds = refused.group_by("field", "must", maintain_order=True)
    return kinds.agg(pl.col("row", "was").first(), rows=pl.len())


def without_noise(frame: pl.DataFrame) -> tuple[pl.DataFrame, int]:
    """Return the rows that are not marked noisy, and how many are."""
    if "noisy" not in frame.columns:
        return frame, 0
    calm = frame.filter(~frame["noisy"])
    return calm, frame.height - calm.height
