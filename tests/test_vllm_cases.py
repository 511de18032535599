"""Decisions of vLLM's real scheduler, reproduced exactly: every field of every step, times to the last bit.

A case is a folder with ``case.json`` (settings), ``trace.parquet``, ``steps.parquet`` and
``requests.parquet``. Cases are looked for beside the repository, or in the folder that
``ROOFLINE_VLLM_CASES`` names: that one must hold some.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import roofline_fast as rf

VARIABLE = "ROOFLINE_VLLM_CASES"
BESIDE = Path(__file__).resolve().parents[2] / "shared" / "data" / "vllm_scheduler"

# Settings of a case that are keywords of `simulate`: under the same name, or under this one.
KEYWORDS = {
    "max_num_seqs": "max_num_seqs",
    "max_num_batched_tokens": "max_num_batched_tokens",
    "max_model_len": "max_model_len",
    "block_size": "block_size",
    "num_gpu_blocks": "num_gpu_blocks_override",
    "enable_prefix_caching": "enable_prefix_caching",
    "enable_chunked_prefill": "enable_chunked_prefill",
    "long_prefill_token_threshold": "long_prefill_token_threshold",
    "long_prefill_token_threshold_adaptive": "long_prefill_token_threshold_adaptive",
    "policy": "scheduling_policy",
    "async_scheduling": "async_scheduling",
    "scheduler_reserve_full_isl": "scheduler_reserve_full_isl",
    "watermark": "watermark",
    "prefill_schedule_interval": "prefill_schedule_interval",
    "max_num_active_seqs": "max_num_active_seqs",
    "spec_method": "spec_method",
    "num_spec_tokens": "num_speculative_tokens",
    "pp": "pp",
}
# Those that make up one keyword together: the acceptance pattern and the cost of a step.
OTHERS = {"accept_mul_req", "accept_mul_n", "cost_a", "cost_b", "cost_c"}

# A model that drafts by that method: those of multi-token prediction ship one module, or several.
PLAIN, ONE_MODULE, SEVERAL_MODULES = "llama-3.1-8b", "glm-4.5-air", "minimax-m2"

# Columns of a case, and ours: times in seconds, numbers, lists of numbers, lists of requests.
STEP_TIMES = {"t_sched": "scheduled_s", "t_start": "start_s", "t_end": "end_s"}
STEP_NUMBERS = {
    "step": "step",
    "call": "call",
    "total_tokens": "scheduled_tokens",
    "ctx_sum": "context_tokens",
    "n_running": "running",
    "n_waiting": "waiting",
    "free_blocks": "free_blocks",
    "cached_hashes": "cached_hashes",
}
STEP_LISTS = {"ntok": "tokens", "ctx": "context", "ndraft": "drafts", "admitted_cached": "admitted_cached"}
STEP_REQUESTS = {"req": "request", "admitted": "admitted", "preempted": "preempted", "finished": "finished"}
REQUEST_TIMES = {
    "arrival": "arrival_s",
    "first_sched": "first_scheduled_s",
    "first_token": "first_token_s",
    "finish": "finish_s",
}
REQUEST_NUMBERS = {
    "num_preemptions": "preemptions",
    "num_cached_tokens": "cached_tokens",
    "out_tokens": "output_tokens",
    "sched_tokens": "sched_tokens",
    "admissions": "admissions",
    "first_sched_step": "first_sched_step",
    "finish_step": "finish_step",
}


def cases() -> list[Any]:
    """Find the cases; where there are none, a parameter that fails, or is skipped if none were asked for."""
    asked = os.environ.get(VARIABLE)
    folder = BESIDE if asked is None else Path(asked).resolve()
    if asked != "" and folder.is_dir():
        found = sorted(path for path in folder.iterdir() if path.is_dir() and path.name[0] != ".")
        if found:
            return [pytest.param(path, id=path.name) for path in found]
    elif asked is None:
        skip = pytest.mark.skip(f"the recorded cases are not beside the repository: {folder}")
        return [pytest.param(folder, id="none", marks=skip)]
    return [pytest.param(folder, id="none")]


@pytest.mark.parametrize("case", cases())
def test_every_decision_is_that_of_vllm(case: Path) -> None:
    assert (case / "case.json").is_file(), f"no case in {case} (from {VARIABLE}, or beside the repository)"
    about = json.loads((case / "case.json").read_text(encoding="utf-8"))
    trace, steps, requests = (
        pl.read_parquet(case / f"{name}.parquet") for name in ("trace", "steps", "requests")
    )
    assert steps.height > 0
    assert trace.height == requests.height > 0
    run = rf.simulate(
        workload(trace), hw="h200-sxm", model=model(about), record="decisions", **keywords(about)
    )
    compare_steps(run, steps)
    compare_requests(run, requests)


def workload(trace: pl.DataFrame) -> rf.Trace:
    """Make the trace of a case, its rows in the order of its requests' numbers: acceptance goes by them."""
    trace = trace.sort("req")
    return rf.Trace(
        arrival_s=trace["arrival"],
        prompt_tokens=trace["prompt_len"],
        output_tokens=trace["out_len"],
        ids=trace["req"].cast(pl.String),
        priority=trace["priority"],
        segments=trace["seg_ids"],
        segment_lengths=trace["seg_lens"],
        output_segment=trace["out_seg"],
    )


def model(about: dict[str, Any]) -> str:
    """Choose a model that can draft as the case does; steps cost what the case says, whatever the model."""
    if about["settings"]["spec_method"] != "mtp":
        return PLAIN
    return SEVERAL_MODULES if about["resolved"]["num_hash_lookahead_tokens"] > 1 else ONE_MODULE


def keywords(about: dict[str, Any]) -> dict[str, Any]:
    """Turn all settings of a case into keywords of `simulate`; one that is not known is a failure."""
    settings = about["settings"]
    assert settings.keys() == KEYWORDS.keys() | OTHERS
    asked = {keyword: settings[name] for name, keyword in KEYWORDS.items()}
    if asked["async_scheduling"] is None:
        asked["async_scheduling"] = about["resolved"]["async_scheduling"]
    if asked["num_speculative_tokens"]:
        asked["spec_acceptance"] = f"pattern:{settings['accept_mul_req']},{settings['accept_mul_n']}"
    else:
        asked |= {"spec_method": None, "num_speculative_tokens": None}
    cost = ",".join(repr(settings[f"cost_{letter}"]) for letter in "abc")
    return asked | {"engine": "vllm", "step_cost": f"linear:{cost}"}


def compare_steps(run: rf.Simulation, steps: pl.DataFrame) -> None:
    """Compare every column of the steps, those that tell most first."""
    assert set(steps.columns) == {*STEP_REQUESTS, *STEP_LISTS, *STEP_NUMBERS, *STEP_TIMES}
    numbers = run.requests["request_id"].cast(pl.Int64)
    number = pl.element().cast(pl.Int64).replace_strict(range(len(numbers)), numbers, return_dtype=pl.Int64)
    for column, name in STEP_REQUESTS.items():
        equal(name, run.steps[name].list.eval(number), steps[column].cast(pl.List(pl.Int64)))
    for column, name in STEP_LISTS.items():
        equal(name, run.steps[name].cast(pl.List(pl.Int64)), steps[column].cast(pl.List(pl.Int64)))
    for column, name in STEP_NUMBERS.items():
        equal(name, run.steps[name].cast(pl.Int64), steps[column].cast(pl.Int64))
    for column, name in STEP_TIMES.items():
        equal(name, bits(run.steps[name]), bits(steps[column]))


def compare_requests(run: rf.Simulation, requests: pl.DataFrame) -> None:
    """Compare what became of each request."""
    known = {"req", "prompt_len", "out_len", "priority", *REQUEST_NUMBERS, *REQUEST_TIMES}
    assert set(requests.columns) == known
    tallies = [
        members(run, "request", "tokens").agg(pl.col("tokens").sum().alias("sched_tokens")),
        members(run, "admitted", "step").agg(
            pl.len().alias("admissions"), pl.col("step").min().alias("first_sched_step")
        ),
        members(run, "finished", "step").agg(pl.col("step").max().alias("finish_step")),
    ]
    ours = run.requests.with_row_index("row")
    for tally in tallies:
        ours = ours.join(tally, on="row", how="left")
    ours = ours.with_columns(pl.col("request_id").cast(pl.Int64)).sort("request_id")
    theirs = requests.sort("req")
    equal("request_id", ours["request_id"], theirs["req"])
    for column, name in REQUEST_NUMBERS.items():
        equal(name, ours[name].cast(pl.Int64), theirs[column].cast(pl.Int64))
    for column, name in REQUEST_TIMES.items():
        equal(name, bits(ours[name]), bits(theirs[column]))


def members(run: rf.Simulation, column: str, beside: str) -> Any:
    """Group the members of a list column by request, with the column beside it."""
    rows = run.steps.select(pl.col(column).alias("row"), beside)
    rows = rows.explode([name for name, kind in rows.schema.items() if isinstance(kind, pl.List)])
    return rows.drop_nulls("row").group_by("row")


def bits(seconds: pl.Series) -> pl.Series:
    """Return the times as the bits they are."""
    return pl.Series(seconds.cast(pl.Float64).fill_null(float("nan")).to_numpy().view(np.uint64))


def equal(name: str, ours: pl.Series, theirs: pl.Series) -> None:
    """Fail at the first row that differs."""
    if not ours.equals(theirs):
        for row, (mine, known) in enumerate(zip(ours.to_list(), theirs.to_list(), strict=False)):
            assert mine == known, f"{name} differs first in row {row}"
        assert len(ours) == len(theirs), f"{name} has another number of rows"
        pytest.fail(f"{name} differs: {ours.dtype}, {theirs.dtype}")
