"""Files of measurements as users have them: read, told apart by their columns, and handed over."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from roofline_fast import _core
from roofline_fast.errors import SpecError

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
            return pl.read_parquet(path)
        if suffix == ".csv":
            return pl.read_csv(path, infer_schema_length=None)
        return pl.read_ndjson(path, infer_schema_length=None)
    except (pl.exceptions.PolarsError, UnicodeDecodeError) as why:
        message = f"{path} must be {suffix[1:]}: {str(why).splitlines()[0]}"
        raise SpecError(message, field="measurements", value=str(path)) from None


def columns_of(path: Path) -> list[str]:
    """Return the columns of a file without reading its rows."""
    import polars as pl

    suffix = path.suffix.lower()
    try:
        if suffix == ".parquet":
            return list(pl.read_parquet_schema(path))
        if suffix == ".csv":
            return pl.read_csv(path, n_rows=1, infer_schema=False).columns
        return pl.read_ndjson(path, n_rows=1).columns
    except (pl.exceptions.PolarsError, UnicodeDecodeError) as why:
        message = f"{path} must be {suffix[1:]}: {str(why).splitlines()[0]}"
        raise SpecError(message, field="measurements", value=str(path)) from None


def kind(columns: list[str]) -> str | None:
    """Return what a file with these columns measures; nothing where it is no measurement."""
    return next((kind for name, kind in KINDS if name in columns), None)


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
            columns[column.name] = column.cast(pl.String)
    return columns


def without_noise(frame: pl.DataFrame) -> tuple[pl.DataFrame, int]:
    """Return the rows that are not marked noisy, and how many are."""
    if "noisy" not in frame.columns:
        return frame, 0
    calm = frame.filter(~frame["noisy"])
    return calm, frame.height - calm.height
