"""Spaces of points as lazy frames: the same numbers as `evaluate`, only what is asked for, and mistakes by name."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import roofline_fast as rf
from hypothesis import given, settings
from hypothesis import strategies as st
from polars.testing import assert_frame_equal
from roofline_fast.frames import frame
from roofline_fast.sweeps import axes as sweep_axes
from roofline_fast.sweeps.simulations import SimulateRun
from roofline_fast.sweeps.space import Space

SPACE: dict[str, Any] = {
    "model": ["llama-3.1-8b", "qwen3-30b-a3b"],
    "hw": ["h100-sxm", "l40s"],
    "tp": [1, 2, 3],
    "phase": ["decode", "chat"],
    "batch_size": "1:256:x4",
    "output_len": [1, 100],
    "input_len": [100, 5000],
}


@pytest.mark.parametrize("mode", ["ideal", "predicted"])
def test_a_row_is_what_evaluate_says(mode: str) -> None:
    rows = rf.sweep({**SPACE, "mode": mode}, keep="all").filter(pl.col("reason").is_null()).drop("reason")
    swept = rows.collect()
    axes = list(SPACE)
    assert 100 < swept.height < Space(SPACE).points
    priced = rf.evaluate(swept.select(*axes, "mode"))
    assert_frame_equal(priced, swept.select(priced.columns), rel_tol=1e-12)


def test_a_million_rows_are_priced_in_the_blink_of_an_eye() -> None:
    rng = np.random.default_rng(0)
    rows = {"batch_size": rng.integers(1, 512, 200_000), "input_len": rng.integers(1, 30_000, 200_000)}
    began = time.perf_counter()
    priced = rf.evaluate(rows, model="llama-3.1-8b", hw="h100-sxm", columns=["step_s"], mode="ideal")
    assert priced["step_s"].min() > 0
    # A wide margin: the machine may be busy.
    assert time.perf_counter() - began < 2


def test_only_feasible_points_are_kept_unless_said() -> None:
    feasible = rf.sweep(SPACE).collect()
    every = rf.sweep(SPACE, keep="all").collect()
    assert every.height == Space(SPACE).points
    kept = every.filter(pl.col("reason").is_null() & pl.col("fits")).drop("reason")
    assert_frame_equal(feasible, kept)
    assert feasible["fits"].all()
    reasons = every["reason"].drop_nulls().unique().to_list()
    assert "layout.tp is not possible" in reasons


def test_columns_conditions_and_heads_reach_the_sweep() -> None:
    whole = rf.sweep(SPACE).collect()
    lazy = rf.sweep(SPACE)
    some = ["hw", "step_s", "bound"]
    assert_frame_equal(lazy.select(some).collect(), whole.select(some))
    condition = (pl.col("hw") == "l40s") & (pl.col("batch_size") > 4) & (pl.col("step_s") < 0.1)
    assert_frame_equal(lazy.filter(condition).collect(), whole.filter(condition))
    assert_frame_equal(lazy.filter(condition).select("tp").collect(), whole.filter(condition).select("tp"))
    assert_frame_equal(lazy.head(7).collect(), whole.head(7))
    assert_frame_equal(lazy.filter(condition).head(3).collect(), whole.filter(condition).head(3))
    assert_frame_equal(lazy.slice(5, 4).collect(), whole.slice(5, 4))
    nothing = pl.col("hw") == "h100"
    assert_frame_equal(lazy.filter(nothing).collect(), whole.filter(nothing))
    assert lazy.select(pl.len()).collect().item() == whole.height
    by_device = pl.col("step_s").mean().over("hw")
    assert_frame_equal(lazy.with_columns(mean=by_device).collect(), whole.with_columns(mean=by_device))


@settings(max_examples=30, deadline=None)
@given(
    tp=st.integers(0, 4),
    batch=st.integers(0, 300),
    names=st.sets(st.sampled_from(["h100-sxm", "l40s", "t4"])),
    flip=st.booleans(),
)
def test_any_condition_on_axes_gives_the_rows_that_hold_it(
    tp: int, batch: int, names: set[str], flip: bool
) -> None:
    whole = rf.sweep(SPACE).select(*SPACE, "step_s").collect()
    condition = (pl.col("tp") >= tp) & pl.col("hw").is_in(list(names)) & (pl.col("batch_size") != batch)
    condition = ~condition if flip else condition
    lazy = rf.sweep(SPACE).select(*SPACE, "step_s").filter(condition)
    assert_frame_equal(lazy.collect(), whole.filter(condition))


def test_the_first_rows_of_an_endless_space_come_at_once() -> None:
    space = {
        "model": "llama-3.1-8b",
        "hw": ["t4", "h100-sxm"],
        "tp": [3, 1],
        "batch_size": range(1, 100_001),
        "input_len": range(1, 1_000_001),
        "prefix_len": [0, 1, 2],
    }
    assert Space(space).points == 1_200_000_000_000
    lazy = rf.sweep(space, keep="all").filter(pl.col("reason").is_null())
    # Work and not the wall clock: the machine may be busy.
    began = time.process_time()
    rows = rf.sweep(space).filter(pl.col("hw") == "h100-sxm").head(5).collect()
    assert time.process_time() - began < 1
    assert rows["input_len"].to_list() == [1, 2, 3, 4, 5]
    assert rows["tp"].to_list() == [1] * 5
    assert lazy.collect_schema().names() == [*Space(space).columns, *_results(), "reason"]


def _results() -> list[str]:
    from roofline_fast import _core

    return _core.Space.results()


def test_the_best_are_the_best_of_all_feasible_rows() -> None:
    whole = rf.sweep(SPACE).collect()
    best = rf.sweep(SPACE, keep="topk", objectives=["tokens_per_gpu_s"], top=4).collect()
    expected = whole.top_k(4, by="tokens_per_gpu_s")
    assert sorted(best["tokens_per_gpu_s"]) == sorted(expected["tokens_per_gpu_s"])
    front = rf.sweep(SPACE, keep="pareto", objectives=["tokens_per_gpu_s", "tokens_per_user_s"]).collect()
    for row in front.iter_rows(named=True):
        gpu, user = pl.col("tokens_per_gpu_s"), pl.col("tokens_per_user_s")
        better = (gpu > row["tokens_per_gpu_s"]) & (user >= row["tokens_per_user_s"])
        better |= (gpu >= row["tokens_per_gpu_s"]) & (user > row["tokens_per_user_s"])
        assert whole.filter(better).is_empty()
    assert (
        rf.sweep(SPACE, keep="topk", objectives=["step_s"], top=1).collect()["step_s"].item()
        == whole["step_s"].min()
    )


def test_what_if_hardware_is_faster_where_it_should_be() -> None:
    space = {"model": "llama-3.1-8b", "hw": "h100-sxm", "mode": "ideal", "batch_size": 8}
    steps = rf.sweep({**space, "bandwidth_scale": [1, 2], "compute_scale": [1.0, 3.0]}).collect()
    plain, faster, _, both = steps["step_s"].to_list()
    assert plain > faster >= both
    alone = rf.analyze("llama-3.1-8b", "h100-sxm", batch_size=8, mode="ideal").step_s
    assert plain == pytest.approx(alone, rel=1e-12)


def test_drafts_and_bits_are_axes() -> None:
    space = {
        "model": "llama-3.1-8b",
        "hw": "h100-sxm",
        "spec_method": ["none", "eagle"],
        "num_speculative_tokens": [0, 3],
        "spec_acceptance": 0.7,
        "batch_size": [1, 64],
    }
    rows = rf.sweep(space).collect()
    plain = rf.evaluate({"batch_size": [1, 64]}, model="llama-3.1-8b", hw="h100-sxm")["tpot_s"]
    drafts = "spec:method=eagle,gamma=3,accept=0.7"
    drafted = rf.evaluate({"batch_size": [1, 64]}, model="llama-3.1-8b", hw="h100-sxm", techniques=drafts)
    expected = [*plain, *plain, *plain, *drafted["tpot_s"]]
    assert rows["tpot_s"].to_list() == pytest.approx(expected, rel=1e-12)
    assert drafted["tpot_s"][0] < plain[0]
    bits = {"model": "llama-3.1-8b", "hw": "h100-sxm", "w_bits": [0, 4], "batch_size": 1}
    sixteen, four = rf.sweep(bits).collect()["step_s"].to_list()
    alone = rf.analyze("llama-3.1-8b", "h100-sxm", w_bits=4, batch_size=1).step_s
    assert sixteen > four
    assert four == pytest.approx(alone, rel=1e-12)
    with pytest.raises(rf.RooflineError, match="spec"):
        rf.sweep({**space, "spec_method": "eagles"})


@pytest.mark.parametrize("phase", ["decode", "prefill", "chat"])
def test_any_technique_is_an_axis(phase: str) -> None:
    techniques = [
        "none",
        "kv-evict:ratio=0.5",
        "offload:what=weights,share=0.3",
        "spec:method=eagle,gamma=2,accept=0.6",
    ]
    space = {"model": "llama-3.1-8b", "hw": "h100-sxm", "techniques": techniques, "phase": phase}
    rows = rf.sweep({**space, "batch_size": [1, 16], "output_len": 40}, keep="all").collect()
    assert rows["reason"].null_count() == rows.height
    for row in rows.iter_rows(named=True):
        sizes = {"batch_size": row["batch_size"], "input_len": 2048, "output_len": 40}
        alone = rf.analyze("llama-3.1-8b", "h100-sxm", phase=phase, techniques=row["techniques"], **sizes)
        assert row["step_s"] == pytest.approx(alone.step_s, rel=1e-12)
        assert row["memory_bytes"] == pytest.approx(alone.memory["memory_bytes"], rel=1e-12)


def test_a_list_among_techniques_is_these_together() -> None:
    both = ["kv-quant:bits=4", "weight-quant:bits=4"]
    space = {
        "model": "llama-3.1-8b",
        "hw": "h100-sxm",
        "techniques": [both, ["none", both[0]], [], tuple(both[1:])],
    }
    rows = rf.sweep(space).collect()
    # As they are applied, whatever the order in which they were written.
    assert sorted(rows["techniques"]) == sorted(["+".join(reversed(both)), *both, "none"])
    for row in rows.iter_rows(named=True):
        alone = rf.analyze("llama-3.1-8b", "h100-sxm", techniques=row["techniques"])
        assert row["step_s"] == pytest.approx(alone.step_s, rel=1e-12)


def test_engine_settings_divide_memory() -> None:
    space = {
        "model": "llama-3.1-8b",
        "hw": "h100-sxm",
        "gpu_memory_utilization": [0.5, 0.9],
        "block_size": [16, 32],
    }
    rows = rf.sweep(space).collect()
    for row in rows.iter_rows(named=True):
        knobs = {name: row[name] for name in ("gpu_memory_utilization", "block_size")}
        alone = rf.analyze("llama-3.1-8b", "h100-sxm", **knobs)
        assert row["max_concurrency"] == alone.memory["engine_sequences"]


def test_limits_leave_out_what_breaks_them() -> None:
    limits = {"max_gpus": 1, "max_step_s": 0.02, "min_tokens_per_user_s": 60}
    rows = rf.sweep(SPACE, limits=limits).collect()
    assert rows["tp"].unique().to_list() == [1]
    assert rows["step_s"].max() <= 0.02
    assert rows["tokens_per_user_s"].min() >= 60


def test_models_and_devices_may_be_objects_and_files() -> None:
    model = rf.Model.from_config(rf.Model("llama-3.1-8b").config)
    own = rf.sweep({"model": [model], "hw": [rf.Hardware("h100-sxm")], "tp": [1, 2]}).collect()
    named = rf.sweep({"model": "llama-3.1-8b", "hw": "h100-sxm", "tp": [1, 2]}).collect()
    assert own["step_s"].equals(named["step_s"])


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("1,2,4", [1, 2, 4]),
        ("3", [3]),
        ("1:5", [1, 2, 3, 4, 5]),
        ("16:64:16", [16, 32, 48, 64]),
        ("1:100:x4", [1, 4, 16, 64]),
        ("1:2,8:16:8", [1, 2, 8, 16]),
        (range(1, 4), [1, 2, 3]),
        (np.array([1, 5]), [1, 5]),
        (pl.Series([2, 3]), [2, 3]),
        (7, [7]),
    ],
)
def test_axes_are_read_in_every_form(text: Any, values: list[int]) -> None:
    assert sweep_axes.values("batch_size", text) == values


@pytest.mark.parametrize(
    ("axes", "message"),
    [
        ({"tpp": [1]}, r"^no axis is called `tpp`"),
        ({"tp": []}, r"^tp must have values: none"),
        ({"tp": [1.5]}, r"^tp must be whole numbers: 1.5"),
        ({"tp": [-1]}, r"^tp must not be negative: -1"),
        ({"tp": [True]}, r"^tp must be whole numbers: True"),
        ({"tp": "1,,2"}, r"^tp must be values with commas between them: '1,,2'"),
        ({"tp": "one"}, r"^tp must be whole numbers or ranges: 'one'"),
        ({"tp": "1:2:3:4"}, r"^tp must be whole numbers or ranges: '1:2:3:4'"),
        ({"tp": "8:1"}, r"^tp must be ranges that go up: '8:1'"),
        ({"tp": "1:8:x1"}, r"^tp must be ranges that go up: '1:8:x1'"),
        ({"tp": [1, 1]}, r"^tp must have each value once: 1"),
        ({"batch_size": "1:999999999"}, r"^batch_size must have at most 10,000,000 values"),
        ({"batch_size": range(10**9)}, r"^batch_size must have at most 10,000,000 values"),
        ({"overlap": "half"}, r"^overlap must be numbers: 'half'"),
        ({"overlap": [None]}, r"^overlap must be numbers: None"),
        ({"overlap": [2]}, r"^overlap must be from 0 to 1: 2"),
        ({"flash_attention": "maybe"}, r"^flash_attention must be true or false: 'maybe'"),
        ({"flash_attention": [1]}, r"^flash_attention must be true or false: 1"),
        ({"quantization": "fp9"}, r"^no quantization is called `fp9`"),
        ({"quantization": [8]}, r"^quantization must be names: 8"),
        ({"techniques": [["kv-quant:bits=4", 8]]}, r"^techniques must be names: 8"),
        ({"phase": "sing"}, r"^no phase is called `sing`"),
        ({"mode": "perfect"}, r"^no mode is called `perfect`"),
        ({"engine": "vlm"}, r"^no engine is called `vlm`"),
        ({"hw": "h1000"}, r"^no hardware is called `h1000`"),
        ({"model": "lama"}, r"^no model is called `lama`"),
        ({"batch_size": 0, "input_len": 0}, r"the space has 2 mistakes"),
    ],
)
def test_a_wrong_axis_is_refused_by_name(axes: dict[str, Any], message: str) -> None:
    with pytest.raises(rf.RooflineError, match=message):
        rf.sweep({"model": "llama-3.1-8b", "hw": "h100-sxm", **axes})


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"keep": "best"}, r"^no keep is called `best`"),
        ({"keep": "pareto"}, r"^objectives must name at least 1 for keep = pareto: 0"),
        ({"keep": "topk", "objectives": ["intensity"]}, r"^intensity must say which way it is better"),
        ({"keep": "topk", "objectives": ["top:step_s"]}, r"^step_s must be preceded by min: or max:"),
        ({"keep": "pareto", "objectives": ["steps"]}, r"^no column is called `steps`"),
        ({"limits": {"max_speed": 1}}, r"^no column is called `speed`"),
        ({"limits": {"gpus": 1}}, r"^no limit is called `gpus`"),
        ({"limits": {"max_gpus": 1.5}}, r"^max_gpus must be a whole number: 1.5"),
        ({"limits": {"max_ttft_s": "fast"}}, r"^max_ttft_s must be a number: 'fast'"),
        ({"limits": {"within_context": 1}}, r"^within_context must be True or False: 1"),
    ],
)
def test_a_wrong_question_is_refused_at_once(asked: dict[str, Any], message: str) -> None:
    with pytest.raises(rf.RooflineError, match=message):
        rf.sweep({"model": "llama-3.1-8b", "hw": "h100-sxm"}, **asked)


def test_model_and_device_must_be_given() -> None:
    with pytest.raises(rf.SpecError, match=r"^hw must be given, as an axis"):
        rf.sweep({"model": "llama-3.1-8b"})
    with pytest.raises(rf.SpecError, match=r"^model must be given, as an axis"):
        rf.sweep({"hw": "h100-sxm"})


@pytest.mark.parametrize("threads", [0, -1])
def test_a_sweep_needs_a_thread(threads: int) -> None:
    axes = {"model": "llama-3.1-8b", "hw": "h100"}
    with pytest.raises(rf.SpecError, match=f"^threads must .*: {threads}$"):
        rf.sweep(axes, threads=threads)
    with pytest.raises(rf.SpecError, match=f"^threads must .*: {threads}$"):
        SimulateRun(None, axes, threads=threads)


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="threads are counted where Linux tells them")
def test_a_sweep_starts_no_more_threads_than_there_are_cores() -> None:
    axes = {"model": "llama-3.1-8b", "hw": "h100", "batch_size": list(range(1, 200))}
    before = len(list(Path("/proc/self/task").iterdir()))
    rows = rf.sweep(axes, threads=100_000).collect()
    assert len(list(Path("/proc/self/task").iterdir())) <= before + 3 * (os.cpu_count() or 1)
    assert_frame_equal(rows, rf.sweep(axes, threads=1).collect())


def test_values_that_all_rows_share_are_kept_once_and_are_the_same_rows() -> None:
    axes = {"model": "llama-3.1-8b", "hw": "h100-sxm", "batch_size": range(1, 65), "input_len": range(1, 129)}
    space = Space({**axes, "mode": "ideal"})
    table, _ = space.compiled.read(
        0, space.points, axes=None, results=["step_s", "low_s", "weight_bytes"], keep="all"
    )
    kept = {name: (kind, value) for name, kind, value in table.constants}
    assert kept["hw"] == ("String", "h100-sxm")
    assert kept["reason"] == ("String", None)
    assert kept["low_s"] == ("Float64", None)
    assert kept["weight_bytes"][0] == "Float64"
    assert table.varying.columns == ["batch_size", "input_len", "step_s"]
    written_out, rows = pl.DataFrame(table), frame(table)
    assert rows.columns == table.columns == written_out.columns
    assert_frame_equal(rows, written_out)
    assert rows.height == space.points == len(table.varying)


def test_what_is_the_same_in_every_row_keeps_its_column() -> None:
    axes = {"model": "llama-3.1-8b", "hw": "h100-sxm", "input_len": range(1, 5001), "flash_attention": True}
    space = Space({**axes, "overlap": 0.5, "tp": 1})
    table, _ = space.compiled.read(0, space.points, axes=["hw"], results=["weight_bytes"], keep="all")
    assert (len(table), table.varying.columns) == (5000, ["hw"])
    everything = space.read(0, space.points, keep="all")[0]
    some = space.read(0, 1000, keep="all")[0]
    assert everything.schema == some.schema
    assert_frame_equal(everything.head(1000), some)
