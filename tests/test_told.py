"""What a simulation tells beside its summary: time by request and by second, steps, explanations, files."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import roofline_fast as rf
from polars.testing import assert_frame_equal

CHAT = "examples/chat.jsonl"
CAUSES = ["weights", "kv", "activations", "compute", "vector", "link", "launch", "unattributed", "idle"]
PHASES = ["queue_s", "prefill_s", "decode_s", "preempted_s", "outside_s"]


@pytest.fixture(scope="module")
def busy() -> rf.Simulation:
    """Return a run that queues and preempts."""
    return rf.simulate(CHAT, hw="l40s", speedup=12, num_gpu_blocks_override=1500, max_model_len=20_000)


def test_a_request_s_time_adds_up_to_its_e2e_both_ways(busy: rf.Simulation) -> None:
    times = busy.request_times
    assert busy.summary["preemptions"] > 0
    assert times["preempted_s"].max() > 0
    e2e = busy.requests["e2e_s"].to_numpy()
    running = [f"{cause}_s" for cause in CAUSES]
    for parts in (PHASES, ["waiting_s", "outside_s", *running]):
        np.testing.assert_allclose(times.select(parts).sum_horizontal().to_numpy(), e2e, rtol=1e-12)
    assert (times.select(PHASES).min().row(0) >= np.zeros(len(PHASES))).all()


def test_bounds_add_up_to_the_replicas_time() -> None:
    for replicas in (1, 3):
        run = rf.simulate(CHAT, hw="h100", dp=replicas, limit=100)
        assert list(run.bounds) == CAUSES
        assert sum(run.bounds.values()) == pytest.approx(run.summary["duration"] * replicas, rel=1e-12)
    linear = rf.simulate(CHAT, hw="h100", limit=20, step_cost="linear:0.005,2e-5,2e-8").bounds
    assert linear["unattributed"] > 0
    assert not any(linear[cause] for cause in CAUSES[:-2])


@pytest.mark.parametrize(
    ("engine", "measured"),
    [("vllm", {}), ("vllm", {"warmup": 20, "measure": 30}), ("sglang", {}), ("static", {})],
)
def test_shares_bounds_and_operators_are_the_same_time(engine: str, measured: dict[str, Any]) -> None:
    run = rf.simulate(
        num_prompts=100,
        input_len=800,
        output_len=20,
        request_rate=50,
        model="llama-3.1-8b",
        hw="h100",
        engine=engine,
        **measured,
    )
    seconds = run.summary["duration"]
    shares = sum(run.summary[f"{kind}_time_share"] for kind in ("prefill", "decode", "mixed", "idle"))
    np.testing.assert_allclose(shares, 1.0, rtol=1e-9)
    np.testing.assert_allclose(sum(run.bounds.values()), seconds, rtol=1e-9)
    np.testing.assert_allclose(sum(run.operators.values()), seconds, rtol=1e-9)
    assert run.summary["prefill_time_share"] + run.summary["mixed_time_share"] > 0


def test_mean_phases_add_up_to_the_mean_e2e(busy: rf.Simulation) -> None:
    parts = [busy.summary[f"mean_{name.removesuffix('_s')}_ms"] for name in PHASES]
    assert sum(parts) == pytest.approx(busy.summary["mean_e2el_ms"], rel=1e-12)
    assert parts[3] == pytest.approx(busy.request_times["preempted_s"].mean() * 1e3, rel=1e-9)


def test_a_timeline_integrates_to_the_totals(busy: rf.Simulation) -> None:
    for interval in (0.5, 1.0, 1000.0):
        timeline = busy.timeline(interval)
        tokens = timeline["prefill_tokens"].sum() + timeline["decode_tokens"].sum()
        assert tokens == busy.summary["scheduled_tokens"]
        assert timeline["arrived"].sum() == busy.summary["injected"]
        assert timeline["finished"].sum() == busy.summary["completed"]
        width = timeline["end_s"] - timeline["start_s"]
        waited = (timeline["waiting"] * width).sum()
        assert waited == pytest.approx(busy.request_times["waiting_s"].sum(), rel=1e-9)
        shares = timeline.select(CAUSES).sum_horizontal().to_numpy()
        np.testing.assert_allclose(shares, 1.0, rtol=1e-9)
        assert (timeline["kv_usage"].to_numpy() <= 1).all()


def test_steps_are_stretches_unless_each_is_asked_for(busy: rf.Simulation) -> None:
    stretches = busy.steps
    each = rf.simulate(
        CHAT, hw="l40s", speedup=12, num_gpu_blocks_override=1500, max_model_len=20_000, record="steps"
    )
    assert stretches["steps"].sum() == each.steps.filter(pl.col("scheduled_tokens") > 0).height
    assert stretches.height < each.steps.height
    for column in ("scheduled_tokens", "prefill_tokens", "context_tokens", "preempted"):
        assert stretches[column].sum() == each.steps[column].sum(), column
    assert each.timeline().equals(busy.timeline())


def test_what_is_asked_for_later_is_what_was_recorded(busy: rf.Simulation) -> None:
    kept = rf.simulate(
        CHAT, hw="l40s", speedup=12, num_gpu_blocks_override=1500, max_model_len=20_000, record="stretches"
    )
    assert kept.summary == busy.summary
    for told in (lambda run: run.steps, lambda run: run.request_times, lambda run: run.explain(3)):
        assert told(kept).equals(told(busy))


def test_the_slowest_are_explained_in_full(busy: rf.Simulation) -> None:
    slowest = busy.explain(10)
    longest = busy.requests["e2e_s"].sort(descending=True).head(10)
    np.testing.assert_allclose(slowest["e2e_s"].to_numpy(), longest.to_numpy(), rtol=1e-12)
    waited = slowest.select("^waited_for_.*$").sum_horizontal()
    times = busy.request_times[slowest["row"].to_list()]
    np.testing.assert_allclose(waited.to_numpy(), times["waiting_s"].to_numpy(), rtol=1e-12)
    assert slowest["waited_for_blocks_s"].sum() > 0
    by_ttft = busy.explain(1, by="ttft")["ttft_s"].item()
    assert by_ttft == busy.requests["ttft_s"].max()


@pytest.mark.parametrize(
    "asked",
    [
        {"num_prompts": 70_000, "dp": 2, "num_gpu_blocks_override": 900, "max_model_len": 2000},
        {"num_prompts": 300, "record": "steps"},
        {"num_prompts": 300, "record": "decisions", "max_concurrency": 4},
    ],
    ids=["stretches of two replicas in parts", "steps", "decisions"],
)
def test_a_table_that_is_written_in_parts_is_the_frame(asked: dict[str, Any], tmp_path: Path) -> None:
    run = rf.simulate(
        model="llama-3.1-8b",
        hw="h100",
        request_rate=100,
        input_len="50:300",
        output_len="1:20",
        step_cost="linear:0.005,2e-5,2e-8",
        **asked,
    )
    frames = {
        "requests": run.requests,
        "request_times": run.request_times,
        "steps": run.steps,
        "timeline": run.timeline(0.5),
    }
    file = tmp_path / "table.parquet"
    for name, frame in frames.items():
        assert run.write_parquet(name, file, interval_s=0.5) == frame.height
        assert_frame_equal(pl.read_parquet(file), frame, check_exact=True)
    assert [entry.name for entry in tmp_path.iterdir()] == ["table.parquet"]


def test_a_table_that_cannot_be_written_leaves_no_file(busy: rf.Simulation, tmp_path: Path) -> None:
    with pytest.raises(rf.UnknownNameError, match="table"):
        busy.write_parquet("rows", tmp_path / "rows.parquet")
    with pytest.raises(FileNotFoundError):
        busy.write_parquet("requests", tmp_path / "absent" / "requests.parquet")
    with pytest.raises(rf.SpecError, match="timeline_interval must be above 0 s"):
        busy.write_parquet("timeline", tmp_path / "timeline.parquet", interval_s=0)
    assert not list(tmp_path.iterdir())


def test_what_cannot_be_told_is_refused(busy: rf.Simulation) -> None:
    with pytest.raises(rf.UnknownNameError, match="no latency metric is called `ttfb`"):
        busy.explain(by="ttfb")
    with pytest.raises(rf.SpecError, match="timeline_interval must be above 0 s: 0"):
        busy.timeline(0)
    with pytest.raises(rf.SpecError, match=r"must divide .* into at most 10000000 rows"):
        busy.timeline(1e-9)
    with pytest.raises(rf.UnknownNameError, match="no record is called `all`"):
        rf.simulate(CHAT, hw="h100", limit=1, record="all")
    with pytest.raises(OSError, match="nowhere"):
        busy.write_perfetto("nowhere/trace.json")


def test_a_short_overloaded_run_is_called_so() -> None:
    def verdict(count: int, every: float, **asked: Any) -> str:
        trace = rf.Trace(
            arrival_s=np.arange(count) * every,
            prompt_tokens=np.full(count, 1000),
            output_tokens=np.full(count, 100),
        )
        return rf.simulate(trace, hw="h100", max_num_seqs=2, **asked).summary["load"]

    assert verdict(40, 0.1) == "overloaded"
    assert verdict(40, 2.0) == "keeps up"
    assert verdict(3, 0.01) == "too short to tell"
    assert verdict(40, 0.0) == "all at once"
    assert verdict(40, 0.1, concurrency=2) == "closed loop"


def test_a_perfetto_trace_is_json_of_spans_and_counters(busy: rf.Simulation, tmp_path: Path) -> None:
    file = tmp_path / "trace.json"
    busy.write_perfetto(file)
    events = json.loads(file.read_text())["traceEvents"]
    assert {event["ph"] for event in events} == {"M", "X", "C"}
    names = {event["name"] for event in events}
    assert {"request", "queue", "prefill", "decode", "preempted", "mixed", "running", "kv_usage"} <= names
    requests = [event for event in events if event["name"] == "request"]
    assert len(requests) == busy.requests.height


FILES = {
    "--requests": ("requests.csv", 30),
    "--request-times": ("times.parquet", 30),
    "--steps": ("steps.jsonl", None),
    "--timeline": ("timeline.parquet", None),
}


def test_files_are_written_for_what_is_asked(command: Callable[..., Any], tmp_path: Path) -> None:
    asked = " ".join(f"{flag} {tmp_path / file}" for flag, (file, _) in FILES.items())
    done = command(
        f"simulate {CHAT} --hw h100 --limit 30 {asked} --perfetto {tmp_path / 'p.json'} --record steps"
    )
    assert done.code == 0, done.err
    readers = {".csv": pl.read_csv, ".parquet": pl.read_parquet, ".jsonl": pl.read_ndjson}
    for file, rows in FILES.values():
        table = readers[Path(file).suffix](tmp_path / file)
        assert table.height == rows or (rows is None and table.height > 0)
    assert json.loads((tmp_path / "p.json").read_text())["traceEvents"]
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(
        [*(file for file, _ in FILES.values()), "p.json"]
    )


def test_a_folder_gets_everything(command: Callable[..., Any], tmp_path: Path) -> None:
    done = command(f"simulate {CHAT} --hw h100 --limit 30 -o {tmp_path}")
    assert done.code == 0, done.err
    written = [
        "request_times.parquet",
        "requests.parquet",
        "steps.parquet",
        "summary.json",
        "timeline.parquet",
    ]
    assert sorted(path.name for path in tmp_path.iterdir()) == written
    assert json.loads((tmp_path / "summary.json").read_text())["completed"] == 30
    trace = tmp_path / "run.perfetto.json"
    assert command(f"simulate {CHAT} --hw h100 --limit 30 -o {trace}").code == 0
    assert json.loads(trace.read_text())["displayTimeUnit"] == "ms"


def test_json_holds_the_slowest_where_asked(command: Callable[..., Any]) -> None:
    line = f"simulate {CHAT} --hw h100 --limit 30 --format json --quiet"
    assert len(json.loads(command(f"{line} --explain 2").out)["slowest"]) == 2
    assert "slowest" not in json.loads(command(line).out)


WRONG = {
    "--record all": "no record is called `all`",
    "--explain 0": "--explain must be at least 1: 0",
    "--requests x.csv --steps x.csv": "--steps must be another file than --requests: x.csv",
    "--steps x.csv -o ./x.csv": "--output must be another file than --steps: x.csv",
    "--timeline-interval 0": "--timeline-interval must be above 0 s: 0.0",
    "--steps steps.xlsx": "--steps must end in one of .parquet, .csv, .jsonl, .json, .html: steps.xlsx",
    "--timeline nowhere/t.csv": "--timeline must lie in a folder that exists: nowhere/t.csv",
    "--perfetto trace.txt": "--perfetto must end in .json: trace.txt",
    "--perfetto nowhere/t.json": "--perfetto must lie in a folder that exists: nowhere/t.json",
    f"--requests {CHAT}": f"--requests must be another file than the input: {CHAT}",
    "-o nowhere/x.perfetto.json": "--output must lie in a folder that exists: nowhere/x.perfetto.json",
}


@pytest.mark.parametrize("asked", WRONG)
def test_what_cannot_be_written_is_refused_first(command: Callable[..., Any], asked: str) -> None:
    done = command(f"simulate {CHAT} --hw h100 {asked}")
    assert (done.code, done.out) == (2, "")
    assert done.err.startswith(f"error: {WRONG[asked]}"), done.err


def test_a_curve_is_not_explained(command: Callable[..., Any]) -> None:
    line = "simulate --hw h100 --num-prompts 5 --input-len 100 --output-len 10 --request-rate 1,2 --explain 1"
    done = command(line)
    assert done.code == 2
    assert done.err.startswith("error: --explain must be left out with several rates: 1")


SCREENS = {
    "simulate-explain": f"simulate {CHAT} --hw l40s --speedup 12 --num-gpu-blocks-override 1500"
    " --max-model-len 20000 --explain 3",
    "simulate-overloaded": f"simulate {CHAT} --hw l40s --speedup 12 --max-num-seqs 4 --limit 60",
}


@pytest.mark.parametrize("name", SCREENS)
def test_screen(name: str, snapshot: Callable[[str, str], None]) -> None:
    snapshot(name, SCREENS[name])


def test_lists_are_texts_in_csv_and_lists_elsewhere(command: Callable[..., Any], tmp_path: Path) -> None:
    line = f"simulate {CHAT} --hw h100 --limit 5 --record decisions --quiet --steps"
    for suffix in ("csv", "jsonl"):
        assert command(f"{line} {tmp_path}/steps.{suffix}").code == 0
    texts = pl.read_csv(tmp_path / "steps.csv")["request"].to_list()
    assert [json.loads(text) for text in texts] == pl.read_ndjson(tmp_path / "steps.jsonl")[
        "request"
    ].to_list()
