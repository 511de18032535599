"""Traces in files: columns in Parquet and Arrow, several files as one, and what is written."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import roofline_fast as rf
from roofline_fast.errors import TraceError

from .conftest import shared

HASHES = pl.Series([[2**64 - 1, 2**63], [2**64 - 1, 7]], dtype=pl.List(pl.UInt64))


def written(folder: Path, **columns: Any) -> Path:
    path = folder / "trace.parquet"
    pl.DataFrame(columns).write_parquet(path)
    return path


def refusal(path: Path) -> str:
    with pytest.raises(TraceError) as error:
        rf.Trace.read(path)
    assert error.value.file == str(path)
    return str(error.value).removeprefix(str(path))


def test_native_columns_are_read() -> None:
    trace = rf.Trace.read(shared("traces", "formats", "native.parquet"))
    assert trace.requests["arrival_s"].to_list() == [0.0, 4.31]
    assert trace.requests["prompt_tokens"].to_list() == [374, 396]
    assert (trace.format, trace.information, trace.warnings) == ("native", [], [])


def test_basetens_columns_are_read_with_their_hashes_and_the_others_told_of() -> None:
    trace = rf.Trace.read(shared("traces", "formats", "baseten.parquet"))
    assert trace.requests["arrival_s"].to_list() == [0.0, 0.4]
    assert trace.requests["output_tokens"].to_list() == [5, 6]
    assert (trace.format, trace.block_size) == ("baseten", 64)
    assert trace.information[0] == "known fields that have no effect yet: prompt"


def test_broken_samples_are_refused_with_their_row_and_column() -> None:
    bad = refusal(shared("traces", "messy", "bad_types.parquet"))
    assert bad == ':2: arrival_s must be a number of s, not a text: "x"'
    nulls = refusal(shared("traces", "messy", "nulls.parquet"))
    assert nulls == ":2: input_tokens must be given, not null: null"
    cut = refusal(shared("traces", "messy", "truncated.parquet"))
    assert cut.startswith(": the file must be complete and intact: ")


def test_dates_integers_ids_and_priorities_of_any_width_are_read(tmp_path: Path) -> None:
    dates = [datetime(2026, 1, 1, second=second, tzinfo=UTC) for second in (1, 0)]
    path = written(
        tmp_path,
        timestamp=dates,
        input_tokens=pl.Series([5, 6], dtype=pl.Int32),
        output_tokens=pl.Series([1, 2], dtype=pl.UInt64),
        request_id=[7, 8],
        priority=pl.Series([0, -1], dtype=pl.Int8),
    )
    requests = rf.Trace.read(path).requests
    assert requests["request_id"].to_list() == ["8", "7"]
    assert requests["arrival_s"].to_list() == [0.0, 1.0]
    assert requests["priority"].to_list() == [-1, 0]


def test_hashes_and_sessions_in_columns_of_lists_are_exact(tmp_path: Path) -> None:
    path = written(
        tmp_path,
        id=["a", "b"],
        arrival_s=[0.0, 60.0],
        prompt_tokens=[32, 32],
        output_tokens=[1, 1],
        block_hashes=HASHES,
        session=["s", "s"],
        after=[[], ["a"]],
    )
    trace = rf.Trace.read(path)
    metrics = dict(trace.inspect().select("metric", "value").iter_rows())
    assert trace.block_size == 16
    assert (metrics["sessions"], metrics["prefix_hit"]) == (1.0, 0.25)
    assert rf.simulate(trace, hw="h100-sxm").requests["cached_tokens"].to_list() == [0, 16]


def test_an_arrow_file_is_read_as_well(tmp_path: Path) -> None:
    path = tmp_path / "trace.arrow"
    pl.DataFrame({"arrival_ms": [0, 250], "prompt_tokens": [1, 2], "output_tokens": [3, 4]}).write_ipc(path)
    assert rf.Trace.read(path).requests["arrival_s"].to_list() == [0.0, 0.25]


@pytest.mark.parametrize(
    ("columns", "expected"),
    [
        (
            {"arrival_s": [0.0], "output_tokens": [1]},
            ":1: the fields must be those of a known format: arrival_s, output_tokens",
        ),
        ({"arrival": [0]}, ":1: arrival must be a date and time as YYYY-MM-DD HH:MM:SS[.fraction][zone]: 0"),
        ({"arrival_s": [float("nan")]}, ':1: arrival_s must be a number of s, not NaN: "NaN"'),
        (
            {"arrival_s": [0.0], "prompt_tokens": [1.5]},
            ":1: prompt_tokens must be a whole number of tokens: 1.5",
        ),
        ({"arrival_s": [0.0], "prompt_tokens": [-1]}, ":1: prompt_tokens must be at least 0: -1"),
        (
            {"arrival_s": pl.Series([], dtype=pl.Float64)},
            ": the file must hold requests: columns (prompt_tokens, ",
        ),
    ],
)
def test_what_is_no_trace_is_refused(tmp_path: Path, columns: dict[str, Any], expected: str) -> None:
    lengths: dict[str, Any] = {"prompt_tokens": [1], "output_tokens": [1]}
    if "known format" in expected:
        lengths = {}
    if "must hold requests" in expected:
        lengths = {name: pl.Series([], dtype=pl.Int64) for name in lengths}
    assert refusal(written(tmp_path, **(lengths | columns))).startswith(expected)


def test_rows_are_counted_over_the_parts_of_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("roofline_fast.traffic.trace_files.ROWS", 2)
    counts = [1, 1, 1, 1, -1]
    path = written(tmp_path, arrival_s=range(5), prompt_tokens=counts, output_tokens=counts)
    assert refusal(path).startswith(" has mistakes of 2 kinds:\n") or ":5: " in refusal(path)
    good = written(tmp_path, arrival_s=range(5), prompt_tokens=[1] * 5, output_tokens=[1] * 5)
    assert rf.Trace.read(good).requests["arrival_s"].to_list() == [0, 1, 2, 3, 4]


def test_several_files_a_folder_and_a_pattern_are_one_trace(tmp_path: Path) -> None:
    for day in (1, 2):
        (tmp_path / f"day-{day}.csv").write_text(
            f"arrived_at,num_prefill_tokens,num_decode_tokens\n{day * 10},{day},1\n"
        )
    files = [tmp_path / "day-2.csv", tmp_path / "day-1.csv"]
    for names in (files, tmp_path, tmp_path / "day-?.csv"):
        trace = rf.Trace.read(names)
        assert trace.requests["arrival_s"].to_list() == [0.0, 10.0]
        assert trace.requests["prompt_tokens"].to_list() == [1, 2]
        assert "2 files (" in str(trace.origin)
    written(tmp_path, arrival_s=[0.0], prompt_tokens=[1], output_tokens=[1])
    with pytest.raises(TraceError, match=r"day-1.csv: every file must be Parquet or Arrow, as .*: text"):
        rf.Trace.read(tmp_path)
    with pytest.raises(TraceError, match="the name must stand for files: a pattern that no file has"):
        rf.Trace.read(tmp_path / "week-*.csv")


def test_several_parquet_files_are_one_trace(tmp_path: Path) -> None:
    for day in (2, 1):
        lengths = {"prompt_tokens": [day], "output_tokens": [1]}
        pl.DataFrame({"arrival_s": [float(day)], **lengths}).write_parquet(tmp_path / f"{day}.parquet")
    trace = rf.Trace.read(tmp_path)
    assert trace.requests["prompt_tokens"].to_list() == [1, 2]
    assert trace.origin == f"2 files ({tmp_path}/1.parquet to {tmp_path}/2.parquet)"


@pytest.mark.parametrize("suffix", ["jsonl", "jsonl.gz", "jsonl.zst", "csv", "csv.gz", "csv.zst", "parquet"])
def test_what_is_written_is_read_again_whole(suffix: str, tmp_path: Path) -> None:
    original = rf.Trace.read(shared("traces", "formats", "native_full.jsonl"))
    path = tmp_path / f"trace.{suffix}"
    assert original.write(path) == []
    assert [file.name for file in tmp_path.iterdir()] == [path.name]
    again = rf.Trace.read(path)
    assert again.requests.equals(original.requests)
    assert again.inspect().equals(original.inspect())
    again.write(tmp_path / "again.jsonl")
    original.write(tmp_path / "original.jsonl")
    assert (tmp_path / "again.jsonl").read_bytes() == (tmp_path / "original.jsonl").read_bytes()


def test_other_formats_keep_what_they_can_and_say_what_they_cannot(tmp_path: Path) -> None:
    trace = rf.Trace.generate(50, request_rate=3, prefix_len=64)
    for name, form in (("t.jsonl", "mooncake"), ("t.csv", "vidur"), ("t.csv.gz", "azure")):
        left_out = trace.write(tmp_path / name, format=form)
        assert left_out == ([] if form == "mooncake" else ["hash ids"])
        again = rf.Trace.read(tmp_path / name)
        assert str(again.format).startswith(form)
        lengths = again.requests.select("prompt_tokens", "output_tokens")
        assert lengths.equals(trace.requests.select("prompt_tokens", "output_tokens"))
    with pytest.raises(rf.UnknownNameError, match="no trace format is called `mooncak`"):
        trace.write(tmp_path / "t.jsonl", format="mooncak")
    with pytest.raises(rf.SpecError, match="to must be a format that is written: bailian"):
        trace.write(tmp_path / "t.jsonl", format="bailian")


def test_fields_can_be_named_and_answers_assumed(tmp_path: Path) -> None:
    path = tmp_path / "own.csv"
    path.write_text("ts,n_in\n0,5\n3,6\n")
    named = {"arrival": "ts:s", "input": "n_in"}
    trace = rf.Trace.read(path, map=named, default_output_tokens=9)
    assert trace.requests["output_tokens"].to_list() == [9, 9]
    assert trace.requests["arrival_s"].to_list() == [0.0, 3.0]
    path.write_text("ts,n_in\n3,6\n0,5\n")
    with pytest.raises(TraceError, match="nothing must need repair"):
        rf.Trace.read(path, map=named, default_output_tokens=9, strict=True)


def test_the_standard_input_is_a_trace(command: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    done = command("trace inspect examples/chat.jsonl --format json")
    text = Path("examples/chat.jsonl").read_bytes()
    words = [sys.executable, "-m", "roofline_fast", "trace", "inspect", "-", "--format", "json"]
    piped = subprocess.run(words, input=text, capture_output=True, check=True)
    assert piped.stdout.decode().replace("the standard input", "examples/chat.jsonl") == done.out


def test_misspelt_fields_are_recognised(tmp_path: Path) -> None:
    path = tmp_path / "t.jsonl"
    path.write_text('{"arrival_s": 0, "promt_tokens": 5, "output_tokens": 5}\n')
    with pytest.raises(TraceError) as caught:
        rf.Trace.read(path)
    assert caught.value.hint == "did you mean `prompt_tokens` for `promt_tokens`?"
    path.write_text('{"arrival_s": 0, "prompt_tokens": 5, "output_tokens": 5, "sesion": "a", "note": "b"}\n')
    assert rf.Trace.read(path).information == ["ignored fields: sesion (did you mean `session`?), note"]


def test_prompts_of_a_prefix_group_share_their_prefix(tmp_path: Path) -> None:
    path = tmp_path / "t.jsonl"
    row = (
        '{{"arrival_s": {0}, "prompt_tokens": 100, "output_tokens": 1, '
        '"prefix_group": "{1}", "prefix_tokens": 70}}\n'
    )
    path.write_text("".join(row.format(second, group) for second, group in enumerate("aab")))
    trace = rf.Trace.read(path)
    assert trace.requests["prefix_group"].to_list() == ["a", "a", "b"]
    assert trace.information == [
        "prompts of 2 prefix groups share what the file says, in whole blocks of 16 tokens"
    ]
    cached = rf.simulate(trace, hw="h100-sxm").requests["cached_tokens"].to_list()
    assert cached == [0, 64, 0]


def test_adapters_do_not_share_what_is_cached(tmp_path: Path) -> None:
    path = tmp_path / "t.jsonl"
    row = (
        '{{"arrival_s": {0}, "prompt_tokens": 64, "output_tokens": 1, '
        '"block_hashes": [1, 2, 3, 4], "lora": {1}}}\n'
    )
    adapters = ('"x"', '"y"', '"x"', "null")
    path.write_text("".join(row.format(second, adapter) for second, adapter in enumerate(adapters)))
    cached = rf.simulate(path, hw="h100-sxm").requests["cached_tokens"].to_list()
    assert cached == [0, 0, 48, 0]


def test_what_a_cache_held_counts_where_that_is_asked_for(tmp_path: Path) -> None:
    path = tmp_path / "t.jsonl"
    row = '{{"arrival_s": {0}, "prompt_tokens": 100, "output_tokens": 5, "cached_tokens": {1}}}\n'
    path.write_text("".join(row.format(second, held) for second, held in enumerate((0, 50, 100))))
    plain = rf.simulate(path, hw="h100-sxm")
    assert plain.requests["cached_tokens"].to_list() == [0, 0, 0]
    held = rf.simulate(path, hw="h100-sxm", use_recorded_cache=True)
    assert held.requests["cached_tokens"].to_list() == [0, 48, 96]
    assert held.requests["ttft_s"][2] < plain.requests["ttft_s"][2]
    off = rf.simulate(path, hw="h100-sxm", use_recorded_cache=True, enable_prefix_caching=False)
    assert off.requests["cached_tokens"].to_list() == [0, 0, 0]
    assert held.trace.requests["recorded_cached_tokens"].to_list() == [0, 50, 100]


def test_requests_over_context_are_rejected_cut_or_refused() -> None:
    trace = rf.Trace([0.0, 1.0], [100, 300], [50, 50])
    ask: dict[str, Any] = {"hw": "h100-sxm", "max_model_len": 200}
    assert rf.simulate(trace, **ask).requests["status"].to_list() == ["finished", "rejected"]
    cut = rf.simulate(trace, over_context="truncate", **ask)
    assert cut.requests["status"].to_list() == ["finished", "finished"]
    assert cut.requests["prompt_tokens"].to_list() == [100, 150]
    assert "1 prompts are cut so that they fit max-model-len 200" in cut.notes
    with pytest.raises(
        rf.SpecError, match=r"trace must fit max_model_len \(200 tokens\): 300 of prompt and 50"
    ):
        rf.simulate(trace, over_context="fail", **ask)
    with pytest.raises(rf.UnknownNameError, match="no over_context is called `cut`"):
        rf.simulate(trace, over_context="cut", **ask)
    told = rf.Trace([0.0], [300], [50], segments=[[1]], segment_lengths=[[300]], output_segment=[2])
    with pytest.raises(rf.SpecError, match="over_context must be reject or fail: truncate"):
        rf.simulate(told, over_context="truncate", **ask)


def test_answers_that_the_context_cuts_are_counted() -> None:
    trace = rf.Trace([0.0, 1.0, 2.0], [99, 10, 100], [40, 40, 1])
    notes = rf.simulate(trace, hw="h100-sxm", max_model_len=100).notes
    assert "answers that end early, longer with their prompts than max-model-len 100: 1" in notes
    short = rf.Trace([0.0], [10], [40])
    assert not any("end early" in note for note in rf.simulate(short, hw="h100-sxm", max_model_len=100).notes)


def test_what_reading_repaired_is_among_the_notes(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text("arrived_at,num_prefill_tokens,num_decode_tokens\n5,9,2\n1,9,2\n")
    run = rf.simulate(path, hw="h100-sxm", model="llama-3.1-8b")
    assert run.trace.warnings
    assert {*run.trace.warnings, *run.trace.information} <= {*run.notes}
    assert not {*run.trace.warnings} & {*run.to_dict()["notes"]}


def test_a_warning_about_the_whole_file_counts_no_rows(tmp_path: Path) -> None:
    path = tmp_path / "t.jsonl"
    path.write_text('{"timestamp": -5, "input_length": 9, "output_length": 2}\n')
    assert not any("0 rows" in warning for warning in rf.Trace.read(path).warnings)


def test_what_else_a_file_has_is_carried(tmp_path: Path) -> None:
    path = tmp_path / "t.jsonl"
    path.write_text(
        '{"arrival_s": 0, "prompt_tokens": 900, "output_tokens": 1, "images": 2, "image_tokens": [300, 200], '
        '"audio_tokens": 7, "video_tokens": [1, 2], "deadline_s": 30, "observed_ttft_s": 0.25}\n'
        '{"arrival_s": 1, "prompt_tokens": 900, "output_tokens": 1}\n'
    )
    trace = rf.Trace.read(path)
    first, second = trace.requests.drop("request_id", "arrival_s", "prompt_tokens", "output_tokens").rows()
    assert first == (2, 500, 7, 3, 30.0, 0.25)
    assert second == (0, 0, 0, 0, None, None)
    trace.write(tmp_path / "again.parquet")
    assert rf.Trace.read(tmp_path / "again.parquet").requests.equals(trace.requests)


def test_names_of_one_unit_may_change_from_line_to_line(tmp_path: Path) -> None:
    path = tmp_path / "t.jsonl"
    path.write_text(
        '{"timestamp": 0, "input_length": 10, "output_length": 5}\n'
        '{"created_time": 1000, "input_tokens": 20, "output_tokens": 6}\n'
    )
    trace = rf.Trace.read(path)
    assert trace.requests["arrival_s"].to_list() == [0.0, 1.0]
    assert trace.requests["prompt_tokens"].to_list() == [10, 20]
    path.write_text(
        '{"arrival_ms": 0, "prompt_tokens": 10, "output_tokens": 5}\n'
        '{"arrival_s": 1, "prompt_tokens": 20, "output_tokens": 6}\n'
    )
    assert "in the same field and unit (arrival_ms): arrival_s" in refusal(path)


def test_calls_that_a_log_says_failed_are_passed_over(tmp_path: Path) -> None:
    path = tmp_path / "t.jsonl"
    row = '{{"startTime": {0}, "prompt_tokens": {1}, "completion_tokens": {1}, "status": "{2}"}}\n'
    path.write_text(row.format(5, 10, "success") + row.format(6, 0, "failure") + row.format(7, 3, "success"))
    trace = rf.Trace.read(path)
    assert trace.requests["prompt_tokens"].to_list() == [10, 3]
    assert "1 of 3 requests failed: passed over" in trace.information


def test_fields_of_another_case_are_recognised(tmp_path: Path) -> None:
    path = tmp_path / "t.jsonl"
    path.write_text('{"Timestamp": 1, "Input_Length": 10, "Output_Length": 5}\n')
    with pytest.raises(TraceError) as caught:
        rf.Trace.read(path)
    assert (
        caught.value.hint
        == "did you mean `timestamp` for `Timestamp`? JSON tells small letters from capitals"
    )


def test_a_decimal_comma_tells_the_delimiter_apart(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text("arrived_at;num_prefill_tokens;num_decode_tokens\n0,5;10;5\n1,5;20;5\n")
    trace = rf.Trace.read(path, csv_decimal=",")
    assert trace.requests["arrival_s"].to_list() == [0.0, 1.0]


@pytest.mark.parametrize("suffix", ["jsonl", "csv", "parquet"])
def test_models_of_different_requests_are_written_again(suffix: str, tmp_path: Path) -> None:
    path = tmp_path / "t.jsonl"
    row = '{{"arrival_s": {}, "prompt_tokens": 10, "output_tokens": 5{}}}\n'
    models = [', "model": "a"', "", ', "model": "b"', ', "model": "b"']
    path.write_text("".join(row.format(place, model) for place, model in enumerate(models)))
    trace = rf.Trace.read(path)
    assert trace.information == ["several models, read as one workload: a (1), b (2)"]
    assert trace.requests["model"].to_list() == ["a", None, "b", "b"]
    assert trace.write(tmp_path / f"again.{suffix}") == []
    again = rf.Trace.read(tmp_path / f"again.{suffix}")
    assert again.requests.equals(trace.requests)
    path.write_text("".join(row.format(place, models[0]) for place in range(3)))
    assert "model" not in rf.Trace.read(path).requests.columns
