"""The comparison with recorded cases fails when it should: nothing to compare, or one number that differs."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import roofline_fast as rf

ROOT = Path(__file__).parent.parent
SETTINGS = {
    "max_num_seqs": 8,
    "max_num_batched_tokens": 96,
    "max_model_len": 192,
    "block_size": 16,
    "num_gpu_blocks": 26,
    "enable_prefix_caching": True,
    "enable_chunked_prefill": True,
    "long_prefill_token_threshold": 0,
    "long_prefill_token_threshold_adaptive": False,
    "policy": "fcfs",
    "async_scheduling": True,
    "scheduler_reserve_full_isl": True,
    "watermark": 0.0,
    "prefill_schedule_interval": 1,
    "max_num_active_seqs": None,
    "spec_method": "ngram",
    "num_spec_tokens": 2,
    "accept_mul_req": 7,
    "accept_mul_n": 3,
    "cost_a": 0.005,
    "cost_b": 2e-05,
    "cost_c": 2e-08,
    "pp": 1,
}
STEPS = {
    "step": "step",
    "call": "call",
    "scheduled_s": "t_sched",
    "start_s": "t_start",
    "end_s": "t_end",
    "scheduled_tokens": "total_tokens",
    "context_tokens": "ctx_sum",
    "running": "n_running",
    "waiting": "n_waiting",
    "free_blocks": "free_blocks",
    "cached_hashes": "cached_hashes",
    "request": "req",
    "tokens": "ntok",
    "context": "ctx",
    "drafts": "ndraft",
    "admitted": "admitted",
    "admitted_cached": "admitted_cached",
    "preempted": "preempted",
    "finished": "finished",
}
REQUESTS = {
    "arrival_s": "arrival",
    "first_scheduled_s": "first_sched",
    "first_token_s": "first_token",
    "finish_s": "finish",
    "preemptions": "num_preemptions",
    "cached_tokens": "num_cached_tokens",
    "output_tokens": "out_tokens",
}


def recorded() -> tuple[dict[str, Any], dict[str, pl.DataFrame]]:
    """Make a case of the simulator's own decisions: settings, and the three tables by name."""
    rows = np.arange(12)
    trace = pl.DataFrame(
        {
            "req": rows,
            "arrival": rows * 0.0101,
            "prompt_len": np.full(12, 64),
            "out_len": 20 + rows,
            "priority": np.zeros(12, dtype=np.int64),
            "out_seg": 100 + rows,
            "seg_ids": [[row % 3, 50 + row] for row in rows],
            "seg_lens": [[40, 24]] * 12,
        }
    )
    run = rf.simulate(
        rf.Trace(
            trace["arrival"],
            trace["prompt_len"],
            trace["out_len"],
            segments=trace["seg_ids"],
            segment_lengths=trace["seg_lens"],
            output_segment=trace["out_seg"],
        ),
        hw="h100-sxm",
        model="llama-3.1-8b",
        record="decisions",
        step_cost="linear:0.005,2e-05,2e-08",
        max_num_seqs=8,
        max_num_batched_tokens=96,
        max_model_len=192,
        num_gpu_blocks_override=26,
        spec_method="ngram",
        num_speculative_tokens=2,
        spec_acceptance="pattern:7,3",
    )
    steps = run.steps.select(pl.col(name).alias(theirs) for name, theirs in STEPS.items())
    lists = {name: steps[name].to_list() for name in ("req", "ntok", "admitted", "finished")}
    scheduled, admissions, begun, ended = (np.zeros(12, dtype=np.int64) for _ in range(4))
    for step in reversed(range(steps.height)):
        np.add.at(scheduled, lists["req"][step], lists["ntok"][step])
        admissions[lists["admitted"][step]] += 1
        begun[lists["admitted"][step]] = step
        ended[lists["finished"][step]] = step
    requests = run.requests.select(pl.col(name).alias(theirs) for name, theirs in REQUESTS.items())
    requests = requests.with_columns(
        trace["req"],
        trace["prompt_len"],
        trace["out_len"],
        trace["priority"],
        sched_tokens=scheduled,
        admissions=admissions,
        first_sched_step=begun,
        finish_step=ended,
    )
    for column in ("preempted", "finished", "admitted"):
        assert steps[column].list.len().sum() > 0, f"the case must exercise {column}"
    assert steps["admitted_cached"].list.sum().sum() > 0
    return {"settings": SETTINGS}, {"trace": trace, "steps": steps, "requests": requests}


def write(folder: Path, about: dict[str, Any], tables: dict[str, pl.DataFrame]) -> None:
    folder.mkdir(parents=True)
    (folder / "case.json").write_text(json.dumps(about))
    for name, table in tables.items():
        table.write_parquet(folder / f"{name}.parquet")


def altered(table: pl.DataFrame, column: str) -> pl.DataFrame:
    """Change one number as little as can be: the last one of the column."""
    values = table[column].to_list()
    row = max(row for row, value in enumerate(values) if value != [])
    value = values[row]
    if isinstance(value, list):
        values[row] = [*value[:-1], value[-1] + 1]
    else:
        values[row] = float(np.nextafter(value, np.inf)) if isinstance(value, float) else value + 1
    return table.with_columns(pl.Series(column, values, dtype=table.schema[column]))


def outcome(folder: str) -> tuple[int, str]:
    """Run the comparison on the cases of a folder: its exit code, and what it printed."""
    program = [
        sys.executable,
        "-m",
        "pytest",
        "tests/test_vllm_cases.py",
        "-p",
        "no:cacheprovider",
        "-p",
        "no:hypothesispytest",
        "--tb=line",
    ]
    environment = {**os.environ, "ROOFLINE_VLLM_CASES": folder}
    done = subprocess.run(program, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    return done.returncode, done.stdout


@pytest.mark.parametrize("folder", ["nowhere", "empty", ""])
def test_a_folder_without_cases_fails_where_it_was_asked_for(folder: str, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    code, said = outcome(str(tmp_path / folder) if folder else "")
    assert code == 1
    assert "no case in" in said
    assert "\n1 failed in" in said


def test_any_number_that_differs_fails(tmp_path: Path) -> None:
    about, tables = recorded()
    write(tmp_path / "as-it-is", about, tables)
    shuffled = {
        name: table.sample(fraction=1, shuffle=True, seed=1)
        for name, table in tables.items()
        if name != "steps"
    }
    write(tmp_path / "in-another-order", about, {**tables, **shuffled})
    write(tmp_path / "unknown-setting", {"settings": {**SETTINGS, "new": 1}}, tables)
    write(tmp_path / "one-step-less", about, {**tables, "steps": tables["steps"].head(-1)})
    given = {"requests": {"prompt_len", "out_len", "priority"}, "steps": set()}
    mutants = 0
    for name, kept in given.items():
        for column in sorted(set(tables[name].columns) - kept):
            changed = {**tables, name: altered(tables[name], column)}
            write(tmp_path / f"{name}-{column}", about, changed)
            mutants += 1
    code, said = outcome(str(tmp_path))
    assert code == 1
    assert f"\n{mutants + 2} failed, 2 passed in" in said, said
