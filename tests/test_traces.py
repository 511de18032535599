"""Traces in Parquet and Arrow files: what is read, and what is said of files that are wrong."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from roofline_fast.errors import TraceError
from roofline_fast.traces import read_columns

TRACES = Path(__file__).resolve().parent.parent.parent / "shared" / "data" / "traces"


def sample(name: str) -> Path:
    path = TRACES / name
    if not path.exists():
        pytest.skip(f"{path} is absent")
    return path


def written(folder: Path, **columns: Any) -> Path:
    path = folder / "trace.parquet"
    pl.DataFrame(columns).write_parquet(path)
    return path


def refusal(path: Path) -> str:
    with pytest.raises(TraceError) as error:
        read_columns(path)
    assert error.value.file == str(path)
    return str(error.value).removeprefix(f"{path}: ")


def test_native_columns_are_read() -> None:
    trace, told = read_columns(sample("formats/native.parquet"))
    assert trace.requests["arrival_s"].to_list() == [0.0, 4.31]
    assert trace.requests["prompt_tokens"].to_list() == [374, 396]
    assert told == []


def test_basetens_columns_are_read_and_the_others_told_of() -> None:
    trace, told = read_columns(sample("formats/baseten.parquet"))
    assert trace.requests["arrival_s"].to_list() == [0.0, 0.4]
    assert trace.requests["output_tokens"].to_list() == [5, 6]
    assert told[0] == "the first arrival is at 1777312800.0 s of the file's clock, shifted to 0"
    assert told[1].startswith("columns that have no effect yet: prompt, total_hashes")


def test_broken_samples_are_refused_with_their_column_and_row() -> None:
    assert refusal(sample("messy/bad_types.parquet")) == (
        "arrival_s must be a number or a date: a column of String"
    )
    nulls = refusal(sample("messy/nulls.parquet"))
    assert nulls == "input_tokens must be given: null in row 2 (1 of 2)"
    assert refusal(sample("messy/truncated.parquet")).startswith("the file must be complete and intact: ")


def test_dates_integers_ids_and_priorities_of_any_width_are_read(tmp_path: Path) -> None:
    dates = [datetime(2026, 1, 1, second=second, tzinfo=UTC) for second in (1, 0)]
    path = written(
        tmp_path,
        timestamp=dates,
        input_tokens=pl.Series([5, 6], dtype=pl.Int32),
        output_tokens=pl.Series([1, 2], dtype=pl.UInt64),
        id=[7, 8],
        priority=pl.Series([0, -1], dtype=pl.Int8),
    )
    requests = read_columns(path)[0].requests
    assert requests["request_id"].to_list() == ["8", "7"]
    assert requests["arrival_s"].to_list() == [0.0, 1.0]
    assert requests["priority"].to_list() == [-1, 0]


def test_an_arrow_file_is_read_as_well(tmp_path: Path) -> None:
    path = tmp_path / "trace.arrow"
    pl.DataFrame({"arrival_ms": [0, 250], "prompt_tokens": [1, 2], "output_tokens": [3, 4]}).write_ipc(path)
    assert read_columns(path)[0].requests["arrival_s"].to_list() == [0.0, 0.25]


@pytest.mark.parametrize(
    ("columns", "expected"),
    [
        (
            {"arrival_s": [0.0], "output_tokens": [1]},
            "the file must have prompt lengths: looked for prompt_tokens",
        ),
        ({"arrival": [0]}, "arrival must be dates with a time of day: a column of Int64"),
        ({"arrival_s": [float("nan")]}, "arrival_s must be a finite number: nan in row 1"),
        (
            {"arrival_s": [0.0], "prompt_tokens": [1.5]},
            "prompt_tokens must be whole numbers: a column of Float64",
        ),
        ({"arrival_s": [0.0], "prompt_tokens": [-1]}, "prompt_tokens must be at least 0: -1 in row 1"),
    ],
)
def test_what_is_no_trace_is_refused(tmp_path: Path, columns: dict[str, Any], expected: str) -> None:
    lengths = {} if expected.startswith("the file") else {"prompt_tokens": [1], "output_tokens": [1]}
    assert refusal(written(tmp_path, **(lengths | columns))).startswith(expected)


def test_what_is_no_file_of_columns_is_refused(tmp_path: Path) -> None:
    text = tmp_path / "trace.jsonl"
    text.write_text("{}")
    assert refusal(text) == "the file must be Parquet or Arrow: another one"
    assert refusal(tmp_path / "absent").startswith("the file must be readable: No such file")
