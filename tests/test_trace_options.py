"""How users name columns, write dates, stretch prefixes and look at traces; and what their traffic is told."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import roofline_fast as rf

from .conftest import SHARED

DATA = SHARED / "traces"
CHAT = "examples/chat.jsonl"
DATES = "when,n_in,n_out\n16/11/2023 18:17:03.5,700,20\n16/11/2023 18:17:05,800,30\n"
FORMAT = "%d/%m/%Y %H:%M:%S%.f"
FLAGS = ["--columns", "arrival=when:datetime,input=n_in,output=n_out", "--time-format", FORMAT]


@pytest.fixture
def dated(tmp_path: Path) -> Path:
    """Return a file of a user's own columns and dates."""
    file = tmp_path / "own.csv"
    file.write_text(DATES)
    return file


def inspected(command: Callable[..., Any], *words: str) -> dict[str, Any]:
    """Return what `trace inspect` says as JSON."""
    done = command(["trace", "inspect", *words, "--format", "json"])
    assert done.code == 0, done.err
    answer: dict[str, Any] = json.loads(done.out)
    return answer


def test_every_command_reads_a_users_columns_and_dates(
    command: Callable[..., Any], dated: Path, tmp_path: Path
) -> None:
    assert inspected(command, str(dated), *FLAGS)["span"] == 1.5
    out = tmp_path / "out.jsonl"
    assert command(["trace", "convert", str(dated), *FLAGS, "-o", str(out)]).code == 0
    assert rf.Trace.read(out).requests["prompt_tokens"].to_list() == [700, 800]
    like = ["trace", "generate", "--like", str(dated), *FLAGS, "--num-prompts", "9", "-o", str(out)]
    assert command(like).code == 0
    assert set(rf.Trace.read(out).requests["prompt_tokens"]) <= {700, 800}
    done = command(["simulate", str(dated), *FLAGS, "--hw", "h100", "--format", "json", "--quiet"])
    assert json.loads(done.out)["completed"] == 2


def test_python_takes_columns_as_text_sequence_or_mapping(dated: Path, tmp_path: Path) -> None:
    pairs = {"arrival": "when:datetime", "input": "n_in", "output": "n_out"}
    texts = [f"{what}={column}" for what, column in pairs.items()]
    for columns in (pairs, texts, ",".join(texts)):
        read = rf.Trace.read(dated, columns=columns, time_format=FORMAT)
        assert read.requests["arrival_s"].to_list() == [0.0, 1.5]
    bare = tmp_path / "bare.csv"
    bare.write_text("0,7,2\n0.5,8,3\n")
    named = rf.Trace.read(bare, columns=["arrival_s", "prompt_tokens", "output_tokens"])
    assert named.requests["output_tokens"].to_list() == [2, 3]
    with pytest.raises(rf.SpecError, match="columns must be names without commas"):
        rf.Trace.read(bare, columns=["a,b", "c"])


def test_how_a_trace_is_read_needs_one(command: Callable[..., Any], tmp_path: Path) -> None:
    line = ["trace", "generate", "--num-prompts", "5", "--columns", "a,b", "-o", str(tmp_path / "x.jsonl")]
    done = command(line)
    assert (done.code, done.err.splitlines()[0]) == (
        2,
        "error: --columns must be left out without --like: a,b",
    )


def test_a_prefix_that_is_stretched_stretches_prompts(command: Callable[..., Any], tmp_path: Path) -> None:
    words = ["--num-prompts", "50", "--input-len", "160", "--prefix-len", "320", "--seed", "3"]
    file = tmp_path / "x.jsonl"
    assert command(["trace", "generate", *words, "--prefix-scale", "2", "-o", str(file)]).code == 0
    assert set(rf.Trace.read(file).requests["prompt_tokens"]) == {800}
    once = inspected(command, CHAT)
    twice = inspected(command, CHAT, "--prefix-scale", "2")
    assert twice["prefix_hit"] > once["prefix_hit"]
    assert twice["output_tokens_total"] == once["output_tokens_total"]
    plain = rf.Trace(arrival_s=[0.0], prompt_tokens=[5], output_tokens=[1])
    with pytest.raises(rf.SpecError, match="prefix_scale must be left out for a trace that does not say"):
        plain.scaled(prefix_scale=2)


TABLES = {
    "azure_llm": {
        "TIMESTAMP": ["2023-11-16 18:17:03.9799600", "2023-11-16 18:17:04.0319600"],
        "ContextTokens": [7, 8],
        "GeneratedTokens": [2, 3],
    },
    "burstgpt": {
        "Timestamp": [5, 6],
        "Model": ["a", "a"],
        "Request tokens": [7, 8],
        "Response tokens": [2, 3],
    },
    "vidur": {"arrived_at": [0.5, 1.5], "num_prefill_tokens": [7, 8], "num_decode_tokens": [2, 3]},
    "mooncake": {
        "timestamp": [0, 5],
        "input_length": [7, 8],
        "output_length": [2, 3],
        "hash_ids": [[1], [2]],
    },
    "splitwise_sim": {"arrival_timestamp": [0.5, 1.5], "prompt_size": [7, 8], "token_size": [2, 3]},
}


@pytest.mark.parametrize("name", TABLES)
def test_a_format_is_known_by_its_columns_whatever_the_container(tmp_path: Path, name: str) -> None:
    table = pl.DataFrame(TABLES[name])
    files = [tmp_path / "t.parquet", tmp_path / "t.arrow", tmp_path / "t.jsonl"]
    table.write_parquet(files[0])
    table.write_ipc(files[1])
    table.write_ndjson(files[2])
    lower = tmp_path / "lower.parquet"
    table.rename(str.lower).write_parquet(lower)
    read = [rf.Trace.read(file) for file in (*files, lower)]
    assert [trace.format for trace in read] == [name] * 4
    assert all(trace.requests["prompt_tokens"].to_list() == [7, 8] for trace in read)


def test_dates_of_a_table_are_dates_in_parquet_too(tmp_path: Path) -> None:
    rows = pl.DataFrame(TABLES["azure_llm"]).with_columns(
        pl.col("TIMESTAMP").str.strip_chars_end("0").str.to_datetime("%Y-%m-%d %H:%M:%S%.f", time_unit="ns")
    )
    rows.write_parquet(tmp_path / "t.parquet")
    read = rf.Trace.read(tmp_path / "t.parquet")
    assert (read.format, read.requests["arrival_s"].to_list()) == ("azure_llm", [0.0, 0.052])


def test_no_number_in_parquet_is_told_as_such(tmp_path: Path) -> None:
    file = tmp_path / "t.parquet"
    for value, told in ((float("nan"), "NaN"), (float("inf"), "infinity"), (float("-inf"), "infinity")):
        frame = {"arrival_s": [0.0, 1.0, 2.0], "prompt_tokens": [1.0, value, 3.0], "output_tokens": [1, 1, 1]}
        pl.DataFrame(frame).write_parquet(file)
        with pytest.raises(rf.TraceError, match=f"t.parquet:2: prompt_tokens must be a number, not {told}"):
            rf.Trace.read(file)
        kept = rf.Trace.read(file, on_error="skip").requests["prompt_tokens"].to_list()
        assert kept == [1, 3]


def test_several_rates_as_text_are_refused_as_a_list_is() -> None:
    for rates in ("1,2", [1, 2]):
        with pytest.raises(rf.SpecError, match="request_rate must be one rate"):
            rf.simulate(None, hw="h100", num_prompts=5, request_rate=rates)
    with pytest.raises(rf.SpecError, match="request_rate must be one rate: 1,2"):
        rf.Trace.generate(5, request_rate="1,2")


@pytest.mark.parametrize("engine", ["vllm", "sglang", "trtllm"])
def test_the_least_share_of_memory_that_would_do_is_told_and_enough(
    command: Callable[..., Any], engine: str
) -> None:
    line = (
        f"simulate --num-prompts 5 --hw h100 --engine {engine} --max-model-len 8192 --gpu-memory-utilization"
    )
    starts = [0.001] if engine == "trtllm" else [0.001, None]
    least = 0.0
    for start in starts:
        done = command(f"{line} {start or least}")
        found = re.search(r"utilization (?:to at least )?(0\.\d{3})", done.err)
        assert done.code in (2, 3)
        assert found is not None, done.err
        least = float(found[1])
    assert command(f"{line} {least} --quiet").code == 0
    assert command(f"{line} {least - 0.002:.3f} --quiet").code == 2


def test_answers_that_end_early_are_told_of_a_stream_too() -> None:
    words = {"num_prompts": 2000, "input_len": 600, "output_len": "10:600", "request_rate": 50}
    options = {"hw": "h100", "model": "llama-3.1-8b", "max_model_len": 1000}
    notes = [
        [note for note in rf.simulate(None, **words, **options, stream=stream).notes if "end early" in note]
        for stream in (False, True)
    ]
    assert notes[0] == notes[1]
    assert len(notes[0]) == 1
    cut = [
        [
            note
            for note in rf.simulate(None, **words, **options, over_context="truncate", stream=stream).notes
            if "are cut" in note
        ]
        for stream in (False, True)
    ]
    assert cut[0] == cut[1]
    assert len(cut[0]) == 1


def test_an_inspection_adds_up(command: Callable[..., Any], tmp_path: Path) -> None:
    told = inspected(command, CHAT)
    trace = rf.Trace.read(CHAT)
    assert told["rate"] == pytest.approx((told["requests"] - 1) / told["span"])
    assert told["burstiness"] == pytest.approx(told["gap_cv"] ** -2)
    windows = trace.windows()
    assert windows["requests"].sum() == told["requests"]
    assert windows["prompt_tokens"].sum() == told["prompt_tokens_total"]
    assert windows["rate"].median() == pytest.approx(told["window_rate_p50"])
    assert windows["start_s"][1] == told["window"]
    # Coarser blocks find less, and none more than an infinite cache of the trace's own blocks.
    hits = [told["prefix_hit"], *(told[f"prefix_hit_block_{size}"] for size in (16, 32, 64, 128, 256, 512))]
    assert hits == sorted(hits, reverse=True)
    assert told["unique_prompt_tokens"] == pytest.approx(
        told["prompt_tokens_total"] * (1 - told["prefix_hit"])
    )
    by_window = inspected(command, CHAT, "--by-window", "100")["windows"]
    assert [row["requests"] for row in by_window] == trace.windows(100)["requests"].to_list()
    out = tmp_path / "windows.csv"
    assert command(f"trace inspect {CHAT} --by-window 100 -o {out}").code == 0
    assert pl.read_csv(out)["requests"].sum() == told["requests"]
    done = command(f"trace inspect {CHAT} --by-window 0")
    assert (done.code, "window_s must be above 0" in done.err) == (2, True)


def test_requests_in_flight_are_those_recorded_where_their_times_are(tmp_path: Path) -> None:
    file = tmp_path / "t.jsonl"
    row = {"arrival_s": 0, "prompt_tokens": 5, "output_tokens": 100}
    file.write_text("\n".join(json.dumps(row | {"observed_e2e_s": 3.0}) for _ in range(4)))
    assert rf.Trace.read(file).metrics["observed_in_flight_peak"] == 4
    file.write_text(json.dumps(row))
    metrics = rf.Trace.read(file).metrics
    assert (metrics["observed_in_flight_mean"], metrics["in_flight_at_20ms_a_token_mean"]) == (None, 1.0)


def test_what_turns_repeat_is_found_again_in_the_engine(tmp_path: Path) -> None:
    file = tmp_path / "t.jsonl"
    rows = [
        {"session_id": "a", "timestamp": turn * 5000, "input_length": 640, "output_length": 64}
        for turn in range(3)
    ]
    file.write_text("\n".join(map(json.dumps, rows)))
    run = {"hw": "h100", "model": "llama-3.1-8b"}
    delta = rf.simulate(file, turn_lengths="delta", **run)
    assert delta.requests["prompt_tokens"].to_list() == [640, 1344, 2048]
    assert delta.requests["cached_tokens"].to_list() == [0, 640, 1344]
    untold = rf.simulate(file, **run)
    assert untold.requests["cached_tokens"].sum() == 0
    assert any("does not tell what turns" in note for note in untold.notes)


def test_agents_are_a_kind_of_traffic() -> None:
    words = {"num_prompts": 2000, "request_rate": 5, "seed": 1}
    preset = rf.Trace.generate(workload="agentic", **words)
    assert preset.metrics["prefix_hit"] > 0.5
    file = DATA / "workload_catalog" / "agentic-trace-replay.json"
    if not file.exists():
        pytest.skip("the catalogue of workloads is not there")
    of_file = rf.Trace.generate(workload=str(file), **words)
    assert of_file.requests["output_tokens"].to_list() == preset.requests["output_tokens"].to_list()


def test_a_scenario_of_genai_bench_is_a_distribution(command: Callable[..., Any]) -> None:
    trace = rf.Trace.generate(500, seq_dist="N(480,0)/(300,0)")
    assert set(trace.requests["prompt_tokens"]) == {480}
    done = command("simulate --num-prompts 5 --traffic-scenario E(100) --hw h100")
    assert done.err.startswith(
        "error: --seq-dist must be a scenario D(PROMPT,ANSWER), "
    ) or done.err.startswith("error: seq_dist must be a scenario D(PROMPT,ANSWER), ")


WRONG = """
hw = "h1000"
model = "lama"
engine = "sglang"
max_num_seqs = "many"
gpu_memory_utilization = 2.0
tp = 0
slo = "tfft:5"
percentiles = "x"
request_rate = "fast"
[lengths]
input_len = "lognorm(5)"
arrivals = "poison"
range_style = "vllm"
[reading]
time_unit = "q"
window = "5"
turn_lengths = "d"
time_format = "%q"
[client]
over_context = "foo"
session_mode = "op"
step_cost = "linear:x"
warmup = "z"
"""


def test_every_mistake_of_a_file_is_told_with_its_path(command: Callable[..., Any], tmp_path: Path) -> None:
    file = tmp_path / "run.toml"
    file.write_text(WRONG)
    done = command(f"simulate -c {file}")
    assert done.code == 2
    told = [line.strip() for line in done.err.splitlines() if line.startswith("  ")]
    paths = {line.split(" ")[0].rstrip(":") for line in told}
    keys = [line.split(" = ")[0] for line in WRONG.splitlines() if " = " in line and "engine" not in line]
    tables = {"input_len": "lengths", "arrivals": "lengths", "range_style": "lengths"}
    tables |= dict.fromkeys(("time_unit", "window", "turn_lengths", "time_format"), "reading")
    tables |= dict.fromkeys(("over_context", "session_mode", "step_cost", "warmup"), "client")
    assert paths == {f"{tables[key]}.{key}" if key in tables else key for key in keys}, done.err
    assert done.err.startswith(f"error: {file} has {len(keys)} mistakes:")


def test_drafts_of_flags_are_among_the_techniques(command: Callable[..., Any]) -> None:
    line = "simulate --num-prompts 5 --hw h100 --format json --quiet"
    flags = "--spec-method eagle --num-speculative-tokens 3 --spec-acceptance 0.7"
    answer = json.loads(command(f"{line} {flags}").out)
    same = json.loads(command(f"{line} --with spec:method=eagle,gamma=3,accept=0.7").out)
    assert [text.partition(":")[0] for text in answer["techniques"]] == ["spec"]
    assert len(answer["techniques"]) == len(same["techniques"]) == 1
