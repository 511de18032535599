"""What ``rf.simulate`` promises: nothing is lost, time runs forward, real traces are served to the end."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import roofline_fast as rf
from hypothesis import given, settings
from hypothesis import strategies as st

CHAT = Path(__file__).parent.parent / "examples" / "chat.jsonl"
TRACES = Path(__file__).resolve().parents[2] / "shared" / "data" / "traces"
REAL = {
    "mooncake/conversation_trace.jsonl.zst": 12_031,
    "azure/AzureLLMInferenceTrace_code.csv.gz": 8_819,
    "azure/AzureLLMInferenceTrace_conv.csv.gz": 19_366,
}


def check_laws(run: rf.Simulation) -> None:
    """Hold a simulation to them: requests and tokens are conserved; time never runs backwards."""
    summary, requests = run.summary, run.requests
    ends = ("completed", "running", "waiting", "rejected")
    assert summary["injected"] == sum(summary[end] for end in ends) == requests.height
    done = requests.filter(status="finished")
    assert summary["completed"] == done.height
    assert summary["total_output_tokens"] == done["output_tokens"].sum()
    assert summary["total_input_tokens"] == done["prompt_tokens"].sum()
    order = ["arrival_s", "first_scheduled_s", "first_token_s", "finish_s"]
    for earlier, later in pairwise(order):
        assert (done[earlier] <= done[later]).all(), f"{later} before {earlier}"
    assert (requests["cached_tokens"] < requests["prompt_tokens"]).all()
    assert 0 <= summary["kv_peak"] <= 1


@settings(max_examples=40, deadline=None)
@given(
    requests=st.lists(
        st.tuples(st.floats(0, 5), st.integers(1, 3000), st.integers(1, 200)), min_size=1, max_size=40
    ),
    blocks=st.integers(260, 2000),
    seqs=st.integers(1, 64),
    switches=st.tuples(st.booleans(), st.booleans()),
    replicas=st.integers(1, 3),
)
def test_nothing_is_lost_however_small_the_cache(
    requests: list[tuple[float, int, int]],
    blocks: int,
    seqs: int,
    switches: tuple[bool, bool],
    replicas: int,
) -> None:
    arrival, prompt, output = zip(*sorted(requests), strict=True)
    trace = rf.Trace(arrival_s=arrival, prompt_tokens=prompt, output_tokens=output)
    run = rf.simulate(
        trace,
        model="llama-3.1-8b",
        hw="h100-sxm",
        dp=replicas,
        num_gpu_blocks_override=blocks,
        max_model_len=4096,
        max_num_seqs=seqs,
        async_scheduling=switches[0],
        enable_prefix_caching=switches[1],
        record="steps",
    )
    check_laws(run)
    assert run.summary["completed"] == len(requests)
    assert run.requests["output_tokens"].to_list() == list(output)
    assert run.summary["steps"] == run.steps.filter(pl.col("scheduled_tokens") > 0).height
    assert run.steps["running"].max() <= seqs
    assert (run.steps["free_blocks"] <= blocks - 1).all()
    assert (run.steps["start_s"] <= run.steps["end_s"]).all()


@pytest.mark.parametrize("name", REAL)
def test_a_real_trace_is_served_to_the_last_request(name: str) -> None:
    if not (file := TRACES / name).exists():
        pytest.skip(f"the collection of traces is not beside the repository: {file}")
    run = rf.simulate(file, hw="h200-sxm", model="llama-3.1-8b")
    check_laws(run)
    assert (run.summary["injected"], run.summary["completed"]) == (REAL[name], REAL[name])


def test_the_same_input_gives_the_same_answer() -> None:
    first, second = (rf.simulate(CHAT, hw="h100", record="steps", seed=3) for _ in range(2))
    assert first.to_dict() == second.to_dict()
    assert first.requests.equals(second.requests)
    assert first.steps.equals(second.steps)


def test_columns_make_the_same_trace_as_the_file_they_came_from() -> None:
    rows = rf.Trace.read(CHAT).requests
    keywords = {"hw": "h100-sxm", "enable_prefix_caching": False}
    of_file = rf.simulate(CHAT, **keywords)
    for column in (
        lambda name: rows[name],
        lambda name: rows[name].to_numpy(),
        lambda name: rows[name].to_list(),
    ):
        trace = rf.Trace(column("arrival_s"), column("prompt_tokens"), column("output_tokens"))
        assert rf.simulate(trace, **keywords).summary == of_file.summary


def test_percentiles_are_those_of_the_requests() -> None:
    run = rf.simulate(CHAT, hw="h100", percentiles=[50, 99.9])
    for name in ("ttft", "tpot"):
        values = run.requests[f"{name}_s"].drop_nulls().to_numpy() * 1e3
        assert run.summary[f"p99.9_{name}_ms"] == pytest.approx(np.percentile(values, 99.9), rel=1e-9)
        assert run.summary[f"mean_{name}_ms"] == pytest.approx(values.mean(), rel=1e-9)


def test_goodput_counts_the_requests_that_meet_every_objective() -> None:
    run = rf.simulate(CHAT, hw="l40s", speedup=4, slo="ttft:300 tpot:40")
    met = (run.requests["ttft_s"] <= 0.3) & (run.requests["tpot_s"].fill_null(0) <= 0.04)
    assert run.summary["slo_attainment"] == pytest.approx(met.mean())
    assert run.summary["request_goodput"] == pytest.approx(met.sum() / run.summary["duration"])


def test_the_model_served_is_said_where_it_was_not_chosen(tmp_path: Path) -> None:
    assert rf.simulate(CHAT, hw="h100").notes[0] == "model llama-3.1-8b (default; --model to change)"
    assert not rf.simulate(CHAT, hw="h100-sxm", model="llama-3.1-8b").notes
    header, *rows = CHAT.read_text().splitlines()
    named = tmp_path / "named.jsonl"
    unknown = "llama-3.1-8b (default: the trace names `gpt-9`, which is not known; --model to change)"
    known = "qwen3-8b (the trace's own; --model to change)"
    for model, said in (("Qwen/Qwen3-8B", known), ("gpt-9", unknown)):
        named.write_text("\n".join([header, *(row[:-1] + f', "model": "{model}"}}' for row in rows[:5])]))
        run = rf.simulate(named, hw="h100-sxm")
        assert run.model.name == said.split()[0]
        assert run.notes[0] == f"model {said}"


def test_a_step_cost_replaces_the_cost_model() -> None:
    trace = rf.Trace(arrival_s=[0.0], prompt_tokens=[100], output_tokens=[2])
    run = rf.simulate(trace, hw="h100-sxm", engine="vllm-sync", step_cost="linear:1,0.01,0.0001")
    assert run.summary["max_ttft_ms"] == pytest.approx(1e3 * (1 + 100 * 0.01 + 100 * 0.0001))
    assert run.summary["max_tpot_ms"] == pytest.approx(1e3 * (1 + 0.01 + 101 * 0.0001))
    assert run.source == "linear:1,0.01,0.0001"


def test_trace_options_are_refused_where_there_is_no_file_to_read() -> None:
    trace = rf.Trace(arrival_s=[0.0], prompt_tokens=[100], output_tokens=[2])
    with pytest.raises(rf.SpecError, match="limit must be left out for a Trace: 5"):
        rf.simulate(trace, hw="h100-sxm", limit=5)


def small_run(**asked: object) -> rf.Simulation:
    trace = rf.Trace(
        arrival_s=np.arange(30) / 50,
        prompt_tokens=np.full(30, 100),
        output_tokens=np.full(30, 40),
        ids=[f"r{row}" for row in range(30)],
    )
    shape = {"max_model_len": 160, "num_gpu_blocks_override": 40, "max_num_batched_tokens": 128}
    linear = {"max_num_seqs": 8, "step_cost": "linear:0.005,2e-5,2e-8"}
    return rf.simulate(trace, hw="h100-sxm", model="llama-3.1-8b", **{**shape, **linear, **asked})


def test_decisions_say_who_was_in_each_step() -> None:
    counted = small_run(record="steps").steps
    steps = small_run(record="decisions").steps
    lists = ["request", "tokens", "context", "drafts", "admitted", "admitted_cached", "finished"]
    assert [name for name in steps.columns if name not in lists] == counted.columns
    assert [name for name in steps.columns if name in lists] == lists
    assert (steps["tokens"].list.sum() == steps["scheduled_tokens"]).all()
    assert (steps["context"].list.sum() == steps["context_tokens"]).all()
    assert steps["finished"].explode().drop_nulls().sort().to_list() == list(range(30))
    preempted = steps["preempted"].list.len()
    assert preempted.sum() > 0
    assert preempted.to_list() == counted["preempted"].to_list()
    admissions = steps["admitted"].list.len()
    assert (admissions == steps["admitted_cached"].list.len()).all()
    assert admissions.sum() == 30 + preempted.sum()


def test_arrivals_keep_their_last_digit_in_recorded_time() -> None:
    late = 29.994999999999997
    trace = rf.Trace(arrival_s=[0.0, late], prompt_tokens=[10, 10], output_tokens=[2, 2])
    asked = {"hw": "h100-sxm", "model": "llama-3.1-8b", "step_cost": "linear:0.005,0,0"}
    assert rf.simulate(trace, record="decisions", **asked).requests["arrival_s"].to_list() == [0.0, late]
    assert rf.simulate(trace, record="steps", **asked).requests["arrival_s"].to_list() == [0.0, 29.995]


@pytest.mark.parametrize(
    "asked",
    [
        {"long_prefill_token_threshold": 20},
        {"prefill_schedule_interval": 5},
        {"max_num_active_seqs": 2},
        {"watermark": 0.4},
        {"scheduler_reserve_full_isl": False},
        {"async_scheduling": False},
        {"enable_prefix_caching": False},
        {"pp": 2},
        {"spec_method": "ngram", "num_speculative_tokens": 3, "spec_acceptance": 0.5},
        {"spec_method": "eagle", "num_speculative_tokens": 2, "spec_acceptance": [0.9, 0.1]},
        {"spec_method": "draft_model", "num_speculative_tokens": 2, "spec_acceptance": "pattern:7,3"},
    ],
    ids=lambda asked: " ".join(asked),
)
def test_every_setting_of_the_engine_changes_the_schedule(asked: dict[str, object]) -> None:
    run = small_run(record="decisions", **asked)
    check_laws(run)
    assert run.summary["completed"] == 30
    assert not run.steps.equals(small_run(record="decisions").steps)
    names = {"pp": "pipeline_parallel_size", "spec_acceptance": None}
    for name, value in asked.items():
        if (setting := names.get(name, name)) is not None:
            assert str(run.settings[setting]).replace("-", "_") == str(value)


def test_an_adaptive_threshold_rises_to_an_equal_share() -> None:
    def longest(adaptive: bool) -> int:
        asked = {"long_prefill_token_threshold": 2, "long_prefill_token_threshold_adaptive": adaptive}
        run = small_run(record="decisions", **asked)
        assert run.settings["long_prefill_token_threshold_adaptive"] is adaptive
        return run.steps.filter(pl.col("waiting") > 0)["tokens"].list.max().max()

    assert longest(False) == 2
    assert longest(True) > 2


def test_more_accepted_drafts_end_sooner_and_the_seed_draws_them() -> None:
    def lasts(chance: object, seed: int = 0) -> float:
        asked = {"spec_method": "eagle", "num_speculative_tokens": 3, "spec_acceptance": chance}
        return small_run(seed=seed, **asked).summary["duration"]

    assert lasts(1.0) < lasts(0.5) < lasts(0.0)
    assert lasts([0.5, 0.5]) == lasts(0.5) == lasts("0.5")
    assert lasts(0.5, seed=1) != lasts(0.5)
    assert lasts("pattern:7,3", seed=1) == lasts("pattern:7,3")
    spoken = small_run(spec_method="draft-model", num_speculative_tokens=1, spec_acceptance=0.5).notes
    assert any("drafts cost nothing until they are verified" in note for note in spoken)
    spoken = small_run(spec_method="ngram", num_speculative_tokens=1, spec_acceptance=0.5).notes
    assert any("drafts are looked up on the host" in note for note in spoken)
