"""Served traffic side by side: simulations, files of results, scenarios."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import roofline_fast as rf
from hypothesis import given, settings
from hypothesis import strategies as st

HW = "h100-sxm"
TRAFFIC = {"num_prompts": 20, "input_len": 600, "output_len": 40, "request_rate": 8.0}
MEASURED = {
    "backend": "vllm",
    "model_id": "meta-llama/Llama-3.1-8B-Instruct",
    "num_prompts": 100,
    "request_rate": "inf",
    "burstiness": 1.0,
    "max_concurrency": 8,
    "duration": 27.1,
    "completed": 100,
    "total_input_tokens": 51_200,
    "total_output_tokens": 3_200,
    "request_throughput": 3.7,
    "mean_ttft_ms": 60.0,
    "median_ttft_ms": 55.0,
    "p99_ttft_ms": 120.0,
    "mean_tpot_ms": 7.6,
    "mean_e2el_ms": 300.0,
}


@settings(max_examples=12, deadline=None)
@given(
    st.integers(1, 30),
    st.sampled_from([{"tp": 2}, {"max_num_seqs": 2}, {"techniques": "kv-quant:bits=4"}, {"dp": 2}]),
    st.sampled_from(["ideal", "predicted"]),
)
def test_every_waterfall_of_traffic_adds_up(requests: int, other: dict[str, Any], mode: str) -> None:
    traffic = TRAFFIC | {"num_prompts": requests}
    found = rf.compare({}, other, hw=HW, mode=mode, **traffic)
    runs = [rf.simulate(hw=HW, mode=mode, **traffic, **side) for side in ({}, other)]
    for pieces, side in (("a_s", runs[0]), ("b_s", runs[1])):
        whole = side.summary["mean_e2el_ms"] / 1e3
        assert found.waterfall[pieces].sum() == pytest.approx(whole, rel=1e-9)
        replicas = sum(side.bounds.values())
        assert found.by_resource[pieces].sum() == pytest.approx(replicas, rel=1e-9)
        assert found.by_op[pieces].sum() == pytest.approx(replicas, rel=1e-6)
    for table in (found.waterfall, found.by_op, found.by_resource):
        assert table["delta_s"].to_list() == sorted(table["delta_s"], key=lambda delta: -abs(delta))


def test_metrics_are_those_of_the_summaries() -> None:
    found = rf.compare({}, {"tp": 2}, hw=HW, **TRAFFIC)
    run = rf.simulate(hw=HW, tp=2, **TRAFFIC)
    rows = {row["metric"]: row for row in found.metrics.iter_rows(named=True)}
    assert rows["p99_ttft_ms"]["b"] == run.summary["p99_ttft_ms"]
    row = rows["mean_tpot_ms"]
    assert row["delta"] == row["b"] - row["a"]
    assert row["change"] == pytest.approx(row["b"] / row["a"] - 1)
    assert row["within"] is None


def test_simulations_that_were_made_are_compared_as_they_are() -> None:
    runs = [rf.simulate(hw=HW, max_num_seqs=seqs, **TRAFFIC) for seqs in (2, 64)]
    found = rf.compare(runs[0], runs[1])
    assert (found.a_s, found.b_s) == tuple(run.summary["mean_e2el_ms"] / 1e3 for run in runs)
    assert found.waterfall["phase"][0] == "queue"
    again = rf.compare(runs[0], {"max_num_seqs": 64})
    assert again.b_s == found.b_s


def test_a_measurement_stands_beside_a_simulation_of_its_traffic() -> None:
    found = rf.compare(MEASURED, None, hw=HW)
    alike = rf.simulate(
        hw=HW,
        model="llama-3.1-8b",
        num_prompts=100,
        input_len=512,
        output_len=32,
        request_rate="inf",
        max_concurrency=8,
    )
    assert found.b.summary["mean_ttft_ms"] == alike.summary["mean_ttft_ms"]
    assert (found.a.measured, found.b.measured) == (True, False)
    assert set(found.waterfall["phase"]) == {"to the first token", "after it"}
    assert found.waterfall["delta_s"].sum() == pytest.approx(found.delta_s)
    assert found.by_op.height == found.by_resource.height == 0
    (row,) = found.metrics.filter(metric="mean_tpot_ms").to_dicts()
    assert row["within"] == (row["low"] <= 7.6 <= row["high"])


def test_lengths_and_arrivals_of_a_detailed_file_are_replayed() -> None:
    lists = {"input_lens": [100, 900, 50], "output_lens": [10, 20, 0], "start_times": [5.0, 7.5, 8.0]}
    found = rf.compare(MEASURED | lists, None, hw=HW)
    run = found.b.simulation
    assert run is not None
    assert run.trace.requests["prompt_tokens"].to_list() == [100, 900]
    assert run.trace.requests["output_tokens"].to_list() == [10, 20]
    assert run.trace.requests["arrival_s"].to_list() == [0.0, 2.5]


def test_other_traffic_may_be_named_beside_a_measurement() -> None:
    found = rf.compare(MEASURED, {"num_prompts": 5, "input_len": 10, "output_len": 4}, hw=HW)
    assert found.b.summary["total_input_tokens"] == 50


def test_a_file_without_e2e_says_so() -> None:
    results = {name: value for name, value in MEASURED.items() if name != "mean_e2el_ms"}
    found = rf.compare(results, None, hw=HW)
    assert found.waterfall.height == 0
    assert found.delta_s is None
    assert any("has no E2E" in note for note in found.notes)
    assert any("3 requests" in note for note in rf.compare(MEASURED | {"failed": 3}, None, hw=HW).notes)


def test_what_simulate_wrote_is_compared_with_all_it_knows(command: Callable, tmp_path: Path) -> None:
    written = tmp_path / "run.json"
    line = "simulate --num-prompts 20 --input-len 600 --output-len 40 -r 8 --hw h100 --format json"
    written.write_text(command(line).out)
    found = rf.compare(str(written), {"tp": 2}, hw=HW)
    assert found.a_s == rf.simulate(hw=HW, **TRAFFIC).summary["mean_e2el_ms"] / 1e3
    assert found.by_op["delta_s"].sum() == pytest.approx(found.by_resource["delta_s"].sum(), rel=1e-6)
    appended = tmp_path / "two.json"
    appended.write_text(json.dumps(MEASURED) + "\n" + json.dumps(MEASURED | {"mean_ttft_ms": 70.0}) + "\n")
    assert rf.compare(appended, None, hw=HW).a.summary["mean_ttft_ms"] == 70.0


SCENARIO = """
hw = "h100"
num_prompts = 20
input_len = 600
output_len = 40
request_rate = 8.0
[engine_settings]
max-num-seqs = 4
"""
SWEEP = """
keep = "all"
[axes]
model = "llama-3.1-8b"
hw = "h100"
tp = [2]
batch_size = 16
techniques = ["kv-quant:bits=4"]
"""


def test_scenarios_are_sides(command: Callable, tmp_path: Path) -> None:
    served, sweep = tmp_path / "served.toml", tmp_path / "sweep.toml"
    served.write_text(SCENARIO)
    sweep.write_text(SWEEP)
    done = command(f'compare {served} "{served} max_num_seqs=64" --format json')
    assert done.code == 0, done.err
    found = json.loads(done.out)
    assert found["waterfall"][0]["phase"] == "queue"
    assert found["b_s"] == rf.simulate(hw="h100", max_num_seqs=64, **TRAFFIC).summary["mean_e2el_ms"] / 1e3
    done = command(f"compare {sweep} '{sweep} tp=4' --format json")
    assert done.code == 0, done.err
    found = json.loads(done.out)
    asked = rf.analyze("llama-3.1-8b", "h100", tp=2, batch_size=16, techniques="kv-quant:bits=4")
    assert found["a_s"] == asked.tpot_s


def test_the_screen_of_served_traffic(
    snapshot: Callable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    snapshot(
        "compare-served", "compare base tp=2 --hw h100 --set trace=examples/chat.jsonl --mode ideal --top 4"
    )


def test_the_screen_of_a_measurement(command: Callable, tmp_path: Path) -> None:
    written = tmp_path / "bench.json"
    written.write_text(json.dumps(MEASURED))
    done = command(f"compare {written} base --hw h100")
    assert done.code == 0, done.err
    lines = done.out.splitlines()
    assert lines[0] == "A  measured  bench.json · meta-llama/Llama-3.1-8B-Instruct"
    assert lines[1].startswith("B  simulated  Llama-3.1-8B · 1x H100-SXM · vllm")
    assert any(
        line.split()[:3] == ["TPOT", "ms", "mean"] and line.endswith(("within", "outside")) for line in lines
    )
    assert any(line.split()[:1] == ["together"] for line in lines)


MISTAKES = {
    "compare absent.json base --hw h100": ("absent.json must exist", "vllm bench serve"),
    "compare {folder}/text.json base --hw h100": ("text.json must be JSON", ""),
    "compare {folder}/list.json base --hw h100": ("list.json must hold named values: list", ""),
    "compare {folder}/wrong.json base --hw h100": ("wrong.json must hold numbers: mean_ttft_ms is 'x'", ""),
    "compare {folder}/bench.json base": ("hw must be given to simulate a side", "--hw h100"),
    "compare '{folder}/bench.json tp=2' base --hw h100": ("a file of results must stand alone", "measured"),
    "compare {folder}/bench.json phase=decode --hw h100": (
        "compare must be given keywords of simulate where traffic is served: phase",
        "nearest",
    ),
    "compare {folder}/bench.json max_num_seq=4 --hw h100": (
        "compare must be given keywords of simulate where traffic is served: max_num_seq",
        "max_num_seqs",
    ),
    "compare {folder}/empty.json base --hw h100": ("results must hold completed", "num_prompts"),
    "compare {folder}/several.toml base --hw h100": (
        "axes.tp must be one value to be compared: [1, 2]",
        "sweep",
    ),
    "compare {folder}/twice.toml base --hw h100": ("b.tp must be given once", ""),
    "compare base 'tp=2 tp=4' -m llama-3.1-8b --hw h100": ("tp must be given once: 4", ""),
    "compare base tp=2 --hw h100 --set num_prompts=0": ("num_prompts", ""),
    "compare base tp=2 --hw h100 --set trace=nowhere.jsonl": ("nowhere.jsonl", ""),
    "compare base tp=2 --hw h100 -m llama-3.1-8b --set word": (
        "a side must read `key=value key=value`: `word`",
        "",
    ),
    "compare {folder}/bench.json base --hw h100 -o {folder}/bench.json": (
        "must be another file than the input",
        "",
    ),
}


@pytest.mark.parametrize("line", MISTAKES)
def test_a_mistake_is_told_with_a_hint(command: Callable, tmp_path: Path, line: str) -> None:
    files = {
        "text.json": "no json",
        "list.json": "[1]",
        "wrong.json": '{"mean_ttft_ms": "x"}',
        "empty.json": '{"mean_ttft_ms": 1.0}',
        "bench.json": json.dumps(MEASURED),
        "several.toml": '[axes]\nmodel = "llama-3.1-8b"\ntp = [1, 2]\n',
        "twice.toml": "[a]\ntp = 1\n[b]\ntp = 2\n",
    }
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    done = command(line.format(folder=tmp_path))
    message, hint = MISTAKES[line]
    assert done.code == 2, done.out + done.err
    assert done.out == ""
    assert message in done.err
    assert hint in done.err


def test_python_refuses_what_is_no_side() -> None:
    with pytest.raises(rf.SpecError, match="a side must be a mapping or a path"):
        rf.compare(4, None, hw=HW)  # type: ignore[call-overload]
    with pytest.raises(rf.SpecError, match=r"must end in \.json or \.toml"):
        rf.compare("examples/chat.jsonl", None, hw=HW)
