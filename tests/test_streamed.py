"""Requests that are drawn as they are served: the same figures as of the same requests in memory, and none kept."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import roofline_fast as rf
from polars.testing import assert_frame_equal

SERVED: dict[str, Any] = {"model": "llama-3.1-8b", "hw": "h100", "num_prompts": 1500, "input_len": "50:900"}
# What a summary of a stream says about itself, and what every run takes anew.
ABOUT = {"notes"}


def told(**asked: Any) -> dict[str, Any]:
    run = rf.simulate(**{**SERVED, "output_len": "5:60", "request_rate": 12, **asked})
    return {name: value for name, value in run.to_dict().items() if name not in ABOUT}


@pytest.mark.parametrize(
    "asked",
    [
        {},
        {"engine": "vllm-sync", "enable_prefix_caching": False},
        {"engine": "sglang"},
        {"engine": "trtllm", "max_num_seqs": 8},
        {"engine": "static"},
        {"dp": 3, "request_rate": 40},
        {"model": "qwen3-30b-a3b", "dp": 2, "ep": 2, "request_rate": 30},
        {"concurrency": 8, "think_time": 20, "request_rate": None},
        {"max_concurrency": 6},
        {"warmup": 200, "measure": 500},
        {"warmup": "10s", "measure": "30s", "dp": 2},
        {"prefix_len": 64, "prefix_groups": 5},
        {"num_gpu_blocks_override": 700, "max_model_len": 4000, "request_rate": 60},
        {"max_model_len": 700, "over_context": "truncate"},
        {"slo": "ttft:40 tpot:9 e2e@p90:800"},
        {"burstiness": 0.3, "loras": 4},
        {"spec_method": "eagle", "num_speculative_tokens": 2, "spec_acceptance": 0.6},
        {"step_cost": "linear:0.005,2e-5,2e-8"},
    ],
    ids=lambda asked: " ".join(asked) or "plain",
)
def test_a_stream_tells_what_its_requests_in_memory_tell(asked: dict[str, Any]) -> None:
    assert told(**asked, stream=True) == told(**asked, stream=False)


@pytest.mark.parametrize(
    "asked",
    [
        {"num_prompts": 70_000, "step_cost": "linear:0.005,2e-5,2e-8", "request_rate": 30},
        {"dp": 3, "request_rate": 40, "api_latency": 7.0},
        {"max_concurrency": 6, "engine": "vllm-v0"},
        {"model": "qwen3-30b-a3b", "dp": 2, "ep": 2, "request_rate": 30},
        {"max_model_len": 700, "prefix_len": 64, "prefix_groups": 5},
    ],
    ids=["in parts", "replicas", "held back", "in lockstep", "prefixes"],
)
def test_requests_are_written_as_they_end(asked: dict[str, Any], tmp_path: Path) -> None:
    settings = {**SERVED, "output_len": "5:60", "request_rate": 12, **asked}
    file = tmp_path / "requests.parquet"
    rf.simulate(**settings, stream=True, requests_file=file)
    written = pl.read_parquet(file)
    kept = rf.simulate(**settings, stream=False).requests
    in_order = written.sort(pl.col("request_id").cast(pl.Int64))
    assert_frame_equal(in_order, kept.select(written.columns), check_exact=True)
    assert {name for name in kept.columns if name not in written.columns} == {
        f"{name}_{end}_s" for name in ("ttft", "tpot", "e2e") for end in ("low", "high")
    }
    if "ep" not in asked:
        ends = written.filter(pl.col("status") == "finished").group_by("replica", maintain_order=True)
        for _, replica in ends.agg(pl.col("finish_s")).iter_rows():
            assert replica == sorted(replica)
        assert written["replica"].to_list() == sorted(written["replica"])
    assert [entry.name for entry in tmp_path.iterdir()] == ["requests.parquet"]


def test_a_file_of_requests_that_cannot_be_written_is_left_out(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        rf.simulate(**SERVED, stream=True, requests_file=tmp_path / "absent" / "requests.parquet")
    with pytest.raises(rf.SpecError, match="requests_file must be left out where requests are not drawn"):
        rf.simulate(**SERVED, stream=False, requests_file=tmp_path / "requests.parquet")
    with pytest.raises(rf.SpecError, match="warmup must leave requests to be measured"):
        rf.simulate(**SERVED, stream=True, warmup=5000, requests_file=tmp_path / "requests.parquet")
    assert not list(tmp_path.iterdir())


def test_a_stream_tells_how_much_the_context_cuts() -> None:
    for over_context in ("reject", "truncate"):
        asked = {**SERVED, "output_len": "5:60", "max_model_len": 700, "over_context": over_context, "dp": 2}
        streamed, whole = (rf.simulate(**asked, stream=stream) for stream in (True, False))
        cuts = [note for note in whole.notes if "max-model-len 700" in note]
        assert cuts == [note for note in streamed.notes if "max-model-len 700" in note]
        assert len(cuts) == 1


def test_the_command_writes_requests_as_they_end(command: Callable[..., Any], tmp_path: Path) -> None:
    words = "simulate --num-prompts 50 --request-rate 5 -m llama-3.1-8b --hw h100 --stream"
    for flag in ("-o", "--requests"):
        file = tmp_path / f"{flag.strip('-')}.parquet"
        assert f"50 requests written to {file}" in command(f"{words} {flag} {file}").err
        assert pl.read_parquet(file).height == 50
    for flags, says in (
        ("-o r.csv", "--output must be one Parquet file with --stream: r.csv"),
        ("--requests r.csv", "--requests must be one Parquet file with --stream: r.csv"),
        ("-o folder", "--output must be one Parquet file with --stream: folder"),
        ("-o a.parquet --requests b.parquet", "must be one Parquet file with --stream"),
    ):
        refused = command(f"{words} {flags}")
        assert refused.code == 2
        assert says in refused.err


def test_what_is_not_kept_is_refused_with_what_to_do() -> None:
    run = rf.simulate(**SERVED, stream=True)
    for ask in (lambda: run.requests, lambda: run.timeline(), lambda: run.explain(1), lambda: run.steps):
        with pytest.raises(rf.SpecError, match=r"drawn as they (were|are) served") as caught:
            ask()
        assert "num_prompts" in caught.value.hint
    for ask in (
        lambda: run.trace.requests,
        lambda: run.trace.inspect(),
        lambda: run.trace.scaled(sample=0.5),
        lambda: run.trace.arriving(request_rate=3),
        lambda: run.trace.write("t.jsonl"),
    ):
        with pytest.raises(rf.SpecError, match="trace must be all in memory"):
            ask()
    assert len(run.trace) == 1500
    assert run.trace.metrics["requests"] == 1500


@pytest.mark.parametrize(
    ("asked", "says"),
    [
        ({"record": "steps"}, "record must be summary where requests are drawn as they are served"),
        ({"turns": 3}, "turns must be left out of traffic in parts"),
        ({"sample": 0.5}, "stream must be left out beside sample"),
        (
            {"techniques": "prefix-sharing:tokens=32"},
            "prefix-sharing must be left out where requests are drawn",
        ),
        ({"dp": 2, "warmup": 100}, "warmup must be a time where requests are streamed to several replicas"),
        ({"warmup": 5000}, "warmup must leave requests to be measured"),
    ],
)
def test_what_a_stream_cannot_have_is_refused(asked: dict[str, Any], says: str) -> None:
    with pytest.raises(rf.SpecError, match=says):
        rf.simulate(**SERVED, **asked, stream=True)


def test_a_trace_is_not_drawn() -> None:
    with pytest.raises(rf.SpecError, match="stream must be left out for a trace"):
        rf.simulate("examples/chat.jsonl", hw="h100", stream=True)


def test_many_requests_are_drawn_as_they_are_served_unless_a_file_is_to_hold_them() -> None:
    from roofline_fast.cli import simulate_output
    from roofline_fast.traffic.streamed import MANY, Streamed
    from roofline_fast.traffic.workload import load

    many = {"num_prompts": MANY, "request_rate": 5}
    assert isinstance(load(None, many, 0, stream=None), Streamed)
    asked = dict.fromkeys(("record", "explain", "request_times", "steps", "timeline", "perfetto", "requests"))
    assert simulate_output.stream(asked, None, None) is None
    assert simulate_output.stream({**asked, "explain": 3}, None, None) is False
    assert simulate_output.stream({**asked, "requests": "r.parquet"}, None, None) is False
    assert simulate_output.stream({**asked, "record": "steps"}, None, True) is True


def test_the_command_streams_on_request(command: Callable[..., Any]) -> None:
    words = "simulate --num-prompts 500 --request-rate 5 -m llama-3.1-8b --hw h100 --format json --quiet"
    streamed, whole = (json.loads(command(f"{words} {flag}").out) for flag in ("--stream", "--no-stream"))
    assert {name for name in whole if whole[name] != streamed[name]} == {"notes"}
    for line, says in (
        ("simulate examples/chat.jsonl --hw h100 --stream", "--stream must be left out with a TRACE"),
        (f"{words} --stream --upsample 2", "--stream must be left out with --upsample"),
    ):
        refused = command(line)
        assert refused.code == 2
        assert says in refused.err
