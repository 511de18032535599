"""What each engine is known for, as a user asks for it: ``engine=`` and ``--engine``."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import roofline_fast as rf
from hypothesis import given, settings
from hypothesis import strategies as st

CHAT = "examples/chat.jsonl"
ROOT = Path(__file__).parent.parent
ENGINES = ["vllm", "vllm-sync", "vllm-v0", "sarathi", "orca", "static", "sglang", "trtllm"]
PLAIN = {"hw": "h100-sxm", "model": "llama-3.1-8b", "step_cost": "linear:1,0.0009765625,0"}


def serve(engine: str, requests: list[tuple[float, int, int]], **more: Any) -> rf.Simulation:
    """Serve (arrival, prompt, output) at a second a step and a 1,024th a token."""
    trace = rf.Trace(
        arrival_s=[request[0] for request in requests],
        prompt_tokens=[request[1] for request in requests],
        output_tokens=[request[2] for request in requests],
    )
    asked = {"max_num_batched_tokens": 64, "max_model_len": 64, "max_num_seqs": 8, **PLAIN, **more}
    return rf.simulate(trace, engine=engine, record="decisions", **asked)


def schedule(run: rf.Simulation) -> list[list[tuple[int, int]]]:
    """Return who was in each step, with how many tokens."""
    return [
        list(zip(row["request"], row["tokens"], strict=True))
        for row in run.steps.filter(pl.col("scheduled_tokens") > 0).iter_rows(named=True)
    ]


TWO = [(0.0, 20, 3), (0.5, 30, 2)]
KNOWN_FOR = {
    # A step is scheduled while the one before it runs: the second prompt waits a step longer.
    "vllm": [[(0, 20)], [(0, 1)], [(0, 1), (1, 30)], [(1, 1)]],
    "vllm-sync": [[(0, 20)], [(0, 1), (1, 30)], [(0, 1), (1, 1)]],
    "vllm-v0": [[(0, 20)], [(1, 30)], [(0, 1), (1, 1)], [(0, 1)]],
    "sarathi": [[(0, 20)], [(0, 1), (1, 30)], [(0, 1), (1, 1)]],
    "orca": [[(0, 20)], [(0, 1), (1, 30)], [(0, 1), (1, 1)]],
    "static": [[(0, 20)], [(0, 1)], [(0, 1)], [(1, 30)], [(1, 1)]],
    # As vllm it schedules ahead; it computes prompts alone, and a row too many at each end.
    "sglang": [[(0, 20)], [(0, 1)], [(1, 30)], [(0, 1), (1, 1)], [(0, 1), (1, 1)]],
    "trtllm": [[(0, 20)], [(0, 1)], [(0, 1), (1, 30)], [(1, 1)]],
}


@pytest.mark.parametrize("engine", ENGINES)
def test_an_engine_fills_its_steps_as_it_is_known_to(engine: str) -> None:
    assert schedule(serve(engine, TWO)) == KNOWN_FOR[engine]


@pytest.mark.parametrize("engine", ENGINES)
def test_every_engine_serves_the_demo_and_says_its_settings(engine: str, command: Callable[..., Any]) -> None:
    answer = json.loads(
        command(f"simulate {CHAT} --hw h100 --engine {engine} --limit 100 --format json --quiet").out
    )
    assert (answer["completed"], answer["settings"]["num_gpu_blocks"] > 0) == (100, True)
    assert 0.8 <= answer["settings"]["gpu_memory_utilization"] <= 0.92


@settings(max_examples=25, deadline=None)
@given(
    engine=st.sampled_from(ENGINES),
    rows=st.lists(
        st.tuples(st.floats(0, 5), st.integers(1, 60), st.integers(1, 30)), min_size=1, max_size=20
    ),
)
def test_no_engine_loses_a_request_or_a_token(engine: str, rows: list[tuple[float, int, int]]) -> None:
    rows = sorted(rows)
    run = serve(engine, rows, num_gpu_blocks_override=129 if engine == "sglang" else 9, block_size=None)
    requests = run.requests
    assert run.summary["injected"] == run.summary["completed"] == len(rows)
    assert requests["output_tokens"].to_list() == [min(output, 64 - prompt) for _, prompt, output in rows]
    assert (requests["arrival_s"] <= requests["first_scheduled_s"]).all()
    assert (requests["first_token_s"] <= requests["finish_s"]).all()


def test_prompts_first_delays_answers_and_answers_first_delays_prompts() -> None:
    crowd = [(0.0, 20, 30), *[(float(second), 40, 2) for second in range(1, 12)]]
    gaps = {engine: serve(engine, crowd).requests for engine in ("vllm-v0", "sarathi")}
    assert gaps["vllm-v0"]["tpot_s"][0] > gaps["sarathi"]["tpot_s"][0]


def test_reserving_answers_admits_fewer() -> None:
    many = [(0.0, 16, 40)] * 8
    peak = {
        engine: serve(engine, many, num_gpu_blocks_override=18, block_size=16).summary["max_running"]
        for engine in ("vllm", "orca", "trtllm", "static")
    }
    assert peak["orca"] == peak["static"] == peak["trtllm"] == 4
    assert peak["vllm"] == 8


@pytest.mark.parametrize(
    ("engine", "keyword", "value"),
    [
        ("orca", "watermark", 0.1),
        ("static", "enable_chunked_prefill", True),
        ("sarathi", "enable_prefix_caching", True),
        ("vllm-v0", "async_scheduling", True),
        ("sglang", "scheduler_reserve_full_isl", True),
        ("trtllm", "schedule_conservativeness", 1.0),
        ("vllm", "capacity_scheduler_policy", "max-utilization"),
        ("vllm", "enable_mixed_chunk", True),
        ("vllm", "max_prefill_tokens", 100),
    ],
)
def test_a_setting_the_engine_does_not_have_is_refused(engine: str, keyword: str, value: Any) -> None:
    with pytest.raises(
        rf.SpecError, match=rf"{keyword} must be a setting that the engine `{engine}` has"
    ) as error:
        serve(engine, TWO, **{keyword: value})
    assert "beside sizes it has" in error.value.hint


def test_an_unknown_engine_names_the_nearest(command: Callable[..., Any]) -> None:
    answer = command(f"simulate {CHAT} --hw h100 --engine sglan")
    assert (answer.code, "sglang" in answer.err) == (2, True)


@pytest.mark.parametrize(
    ("flag", "setting", "value"),
    [
        ("--chunked-prefill-size", "max_num_batched_tokens", 4096),
        ("--max-running-requests", "max_num_seqs", 300),
        ("--page-size", "block_size", 64),
        ("--mem-fraction-static", "gpu_memory_utilization", 0.7),
        ("--schedule-policy", "scheduling_policy", "lpm"),
        ("--max-prefill-tokens", "max_prefill_tokens", 9000),
        ("--schedule-conservativeness", "schedule_conservativeness", 0.5),
    ],
)
def test_sglangs_own_names_are_flags(
    flag: str, setting: str, value: Any, command: Callable[..., Any]
) -> None:
    line = f"simulate {CHAT} --hw h100 --engine sglang --limit 20 {flag} {value} --format json"
    answer = command(line)
    assert json.loads(answer.out)["settings"][setting] == value
    assert "warning" not in answer.err


def test_tensorrt_llms_own_names_are_flags(command: Callable[..., Any]) -> None:
    line = (
        f"simulate {CHAT} --hw h100 --engine trtllm --limit 20 --max-batch-size 64 --max-num-tokens 4096 "
        "--tokens-per-block 64 --free-gpu-memory-fraction 0.5 "
        "--capacity-scheduler-policy MAX_UTILIZATION --format json --quiet"
    )
    settings = json.loads(command(line).out)["settings"]
    names = ("max_num_seqs", "max_num_batched_tokens", "block_size", "gpu_memory_utilization")
    assert [settings[name] for name in names] == [64, 4096, 64, 0.5]
    assert settings["capacity_scheduler_policy"] == "max-utilization"


def test_another_engines_share_of_memory_is_read_with_a_warning(command: Callable[..., Any]) -> None:
    answer = command(f"simulate {CHAT} --hw h100 --limit 20 --mem-fraction-static 0.8 --format json")
    assert json.loads(answer.out)["settings"]["gpu_memory_utilization"] == 0.8
    assert (
        "warning: --mem-fraction-static is the share that weights and KV cache take in sglang" in answer.err
    )


def test_layers_with_windows_leave_room_for_more_sequences() -> None:
    long = [(0.0, 6000, 50)] * 4
    runs = {
        engine: serve(
            engine, long, model="gpt-oss-20b", max_model_len=8192, max_num_batched_tokens=8192, block_size=16
        )
        for engine in ("vllm", "vllm-v0")
    }
    assert runs["vllm"].summary["completed"] == 4
    # Half of the layers keep 128 tokens: at the end a sequence holds little beside its full layers' blocks.
    steps, blocks = runs["vllm"].steps, runs["vllm"].settings["num_gpu_blocks"]
    held = blocks - 1 - steps["free_blocks"][-3]
    assert 4 * 6050 / 16 < held < 4 * (6050 / 16 + 2 * 128 / 16)


def test_states_are_found_only_where_they_were_kept() -> None:
    model = "nemotron-h-8b-base-8k"
    trace = rf.Trace(
        arrival_s=[0.0, 100.0],
        prompt_tokens=[5000, 5000],
        output_tokens=[2, 2],
        segments=[[1, 2], [1, 3]],
        segment_lengths=[[4000, 1000], [4000, 1000]],
    )
    run = rf.simulate(trace, model=model, hw="h100-sxm", step_cost=PLAIN["step_cost"], record="decisions")
    size = run.settings["block_size"]
    assert size > 16
    first = [row[0] for row in run.steps["tokens"].to_list() if row]
    # The first prompt is cut at its last whole block; the second shares 4000 tokens, in which no step ended.
    assert first[0] == 5000 // size * size
    assert first[1] == 5000 - first[0]
    assert run.requests["cached_tokens"].to_list() == [0, 0]
    narrow = rf.simulate(
        trace, model=model, hw="h100-sxm", step_cost=PLAIN["step_cost"], max_num_batched_tokens=size
    )
    assert narrow.requests["cached_tokens"].to_list() == [0, 4000 // size * size]


def test_replicas_that_share_experts_step_together() -> None:
    rows = [(0.0, 40, 5), (0.0, 10, 5), (0.0, 12, 1)]
    run = serve("vllm-sync", rows, model="mixtral-8x7b", dp=2, ep=2, hw="h200-sxm")
    assert any("a step of one is a step of all" in note for note in run.notes)
    steps = run.steps.sort("start_s")
    assert steps["replica"].n_unique() == 2
    assert (
        steps.group_by("start_s").agg(pl.col("end_s").n_unique())["end_s"].to_list()
        == [1] * steps["start_s"].n_unique()
    )


def test_drafts_take_time_to_make() -> None:
    trace = rf.Trace(arrival_s=[0.0], prompt_tokens=[500], output_tokens=[60])

    def lasts(**more: Any) -> float:
        asked = {"num_speculative_tokens": 3, "spec_acceptance": 0.0, "hw": "h100-sxm", **more}
        return rf.simulate(trace, model="llama-3.1-8b", **asked).summary["duration"]

    ngram, eagle = lasts(spec_method="ngram"), lasts(spec_method="eagle")
    small = lasts(spec_method="draft-model", spec_model="llama-3.2-1b")
    large = lasts(spec_method="draft-model", spec_model="llama-3.2-3b")
    assert ngram < eagle < small < large
    with pytest.raises(rf.SpecError, match="spec_model must be given with spec_method draft-model only"):
        lasts(spec_method="eagle", spec_model="llama-3.2-1b")
    with pytest.raises(rf.UnknownNameError):
        lasts(spec_method="draft-model", spec_model="llama-3.2-1x")


def test_the_page_of_engines_names_every_engine() -> None:
    page = (ROOT / "docs" / "engines.md").read_text()
    assert all(f"| `{engine}` |" in page for engine in ENGINES)


def test_vllm_v0_swaps_if_told_to(command: Callable[..., Any]) -> None:
    line = (
        "simulate -n 60 --request-rate 40 --output-len 600 --hw h100 --engine vllm-v0 --max-model-len 8k "
        "--num-gpu-blocks-override 2000 --format json --quiet"
    )
    runs = [json.loads(command(f"{line} --preemption-mode {mode}").out) for mode in ("recompute", "swap")]
    recomputed, swapped = runs
    assert [run["settings"]["preemption_mode"] for run in runs] == ["recompute", "swap"]
    assert min(run["preemptions"] for run in runs) > 0
    # What was computed once is not computed again; the link is charged.
    prompts = 60 * (1024 + 599)
    assert swapped["scheduled_tokens"] == prompts < recomputed["scheduled_tokens"]
    assert swapped["bounds_s"]["link"] > 0 == recomputed["bounds_s"]["link"]
    assert swapped["settings"]["num_cpu_blocks"] == 2048


REFUSED = {
    "--engine vllm --swap-space 4": "swap_space must be a setting that the engine `vllm` has: given",
    "--engine vllm-v0 --swap-space 4": "swap_space must be left out without preemption_mode swap: 4",
    "--engine vllm-v0 --preemption-mode swop": "no preemption mode is called `swop`",
    "--engine sglang -m gpt-oss-20b --swa-full-tokens-ratio 2": "swa_full_tokens_ratio must be above 0 and",
    "--usage-context shell": "no usage context is called `shell`",
    "--performance-mode fast": "no performance mode is called `fast`",
    "--kv-cache-memory-bytes 20X": "--kv-cache-memory-bytes must be a whole number: 20X",
    "--max-model-len 4.5": "--max-model-len must be a whole number: 4.5",
    "--stream-interval 0": "stream_interval must be at least 1: 0",
    "--engine orca --stream-interval 4": "stream_interval must be a setting that the engine `orca` has: given",
    "--max-num-queued-reqs 0": "max_num_queued_reqs must be at least 1: 0",
    "--max-num-scheduled-tokens 0": "max_num_scheduled_tokens must be at least 1: 0",
}


@pytest.mark.parametrize("asked", REFUSED)
def test_a_setting_that_cannot_be_meant_is_refused(command: Callable[..., Any], asked: str) -> None:
    done = command(f"simulate {CHAT} --hw h100 --limit 5 {asked}")
    assert done.code == 2
    assert done.err.startswith(f"error: {REFUSED[asked]}"), done.err


def test_sizes_are_read_as_vllm_reads_them(command: Callable[..., Any]) -> None:
    def settings(asked: str) -> dict[str, Any]:
        answer: dict[str, Any] = json.loads(
            command(f"simulate {CHAT} --hw h100 --limit 5 {asked} --format json --quiet").out
        )["settings"]
        return answer

    assert [settings(f"--max-model-len {text}")["max_model_len"] for text in ("8k", "8K", "1e4")] == [
        8000,
        8192,
        10_000,
    ]
    # Blocks of 2 MiB.
    assert settings("--kv-cache-memory-bytes 20G")["num_gpu_blocks"] == 10_240
    assert settings("--usage-context llm")["max_num_batched_tokens"] == 16_384


def test_tokens_sent_together_change_gaps_and_nothing_else() -> None:
    def run(**asked: Any) -> rf.Simulation:
        trace = rf.Trace(arrival_s=[0.0], prompt_tokens=[100], output_tokens=[10])
        return rf.simulate(trace, hw="h100", model="llama-3.1-8b", step_cost="linear:0.005,0,0", **asked)

    each, together = run(), run(stream_interval=4)
    assert together.settings["stream_interval"] == 4
    assert each.requests.equals(together.requests)
    # The first at once, then 4, 4 and the last.
    assert each.summary["mean_itl_ms"] == pytest.approx(5)
    assert together.summary["mean_itl_ms"] == pytest.approx(15)
    assert [together.summary[f"{rank}_itl_ms"] for rank in ("median", "max")] == pytest.approx([20, 20])
    for name in ("mean_ttft_ms", "mean_tpot_ms", "mean_e2el_ms"):
        assert together.summary[name] == each.summary[name]


def test_who_finds_too_many_waiting_is_refused(command: Callable[..., Any]) -> None:
    done = command(
        f"simulate {CHAT} --hw h100 --speedup 100 --max-num-seqs 2 --max-num-queued-reqs 2 --format json"
    )
    answer = json.loads(done.out)
    assert done.code == 4
    assert answer["completed"] + answer["rejected"] == 400
    assert answer["max_waiting"] == 2
    assert "or came when --max-num-queued-reqs were waiting" in done.err


def test_bounds_of_a_measured_window_are_its_own() -> None:
    whole = rf.simulate(CHAT, hw="h100-sxm")
    for more in ({}, {"scheduling_policy": "priority"}):
        run = rf.simulate(CHAT, hw="h100-sxm", warmup=100, measure=200, **more)
        bounds = run.bounds
        busy = sum(bounds.values()) - bounds["idle"]
        shares = sum(run.summary[f"{part}_time_share"] for part in ("prefill", "decode", "mixed"))
        assert busy / sum(bounds.values()) == pytest.approx(shares, abs=1e-6)
        assert sum(bounds.values()) == pytest.approx(run.summary["duration"], rel=1e-6)
        assert 0.2 < sum(bounds.values()) / sum(whole.bounds.values()) < 0.8
        assert bounds["weights"] > 0


def test_what_is_drawn_for_a_request_follows_the_row_it_was_given_in() -> None:
    def contexts(order: list[int], rows: tuple[str, ...] = ("arrival_s", "prompt_tokens")) -> list[Any]:
        columns = {"arrival_s": [0.0, 1.0], "prompt_tokens": [20, 30]}
        trace = rf.Trace(
            **{name: [columns[name][row] for row in order] for name in rows}, output_tokens=[12, 12]
        )
        run = rf.simulate(
            trace,
            model="llama-3.1-8b",
            hw="h100",
            engine="vllm-sync",
            step_cost="linear:0.01,0,0",
            record="decisions",
            spec_method="ngram",
            num_speculative_tokens=3,
            spec_acceptance="pattern:7,3",
        )
        return run.steps["context"].to_list()

    # Row 0 accepts 0, 3, 2 … drafts and row 1 accepts 3, 2, 1 …: whichever comes first.
    assert contexts([0, 1]) != contexts([1, 0])
