"""``rf.evaluate`` is ``rf.analyze`` for every row of a frame, and what a simulation pays for a step."""

from __future__ import annotations

from typing import Any

import numpy as np
import polars as pl
import pytest
import roofline_fast as rf
from hypothesis import assume, given, settings
from hypothesis import strategies as st

MODELS = [
    "llama-3.1-8b",
    "mixtral-8x7b",
    "deepseek-v3",
    "gpt-oss-20b",
    "qwen3-30b-a3b",
    "gemma-2-9b",
    "mamba-2.8b",
]
DEVICES = ["h100-sxm", "a100-80gb-sxm", "b200-sxm", "mi300x", "l40s", "rtx-4090"]
SHARED_RESULTS = ("step_s", "ideal_s", "low_s", "high_s", "ttft_s", "tpot_s", "e2e_s")
RATES = ("tokens_per_gpu_s", "tokens_per_user_s", "bound")

configurations = st.fixed_dictionaries(
    {
        "model": st.sampled_from(MODELS),
        "hw": st.sampled_from(DEVICES),
        "tp": st.sampled_from([1, 2, 4, 8]),
        "pp": st.sampled_from([1, 2]),
        "dp": st.sampled_from([1, 2]),
        "quantization": st.sampled_from(["auto", "bf16", "fp8", "w4a16"]),
        "kv_cache_dtype": st.sampled_from(["auto", "fp8"]),
        "phase": st.sampled_from(["decode", "prefill", "mixed", "chat"]),
        "batch_size": st.integers(1, 300),
        "input_len": st.integers(1, 5000),
        "output_len": st.integers(1, 40),
        "prefix_len": st.integers(0, 1000),
        "chunk": st.integers(1, 2000),
    }
)


@settings(max_examples=150, deadline=None)
@given(rows=st.lists(configurations, min_size=1, max_size=4))
def test_a_row_is_what_analyze_says(rows: list[dict[str, Any]]) -> None:
    answers = []
    for row in rows:
        try:
            answers.append(rf.analyze(**row))
        except rf.SpecError:
            assume(False)
    priced = rf.evaluate(pl.DataFrame(rows))
    for answer, row in zip(answers, priced.iter_rows(named=True), strict=True):
        for name in SHARED_RESULTS + RATES:
            expected = getattr(answer, name)
            same = row[name] == expected if expected is None or name == "bound" else None
            assert row[name] == pytest.approx(expected, rel=1e-12, abs=0) if same is None else same, name
        assert row["memory_bytes"] == pytest.approx(answer.memory["memory_bytes"], rel=1e-12)
        assert row["engine_memory_bytes"] == pytest.approx(answer.memory["engine_memory_bytes"], rel=1e-12)
        assert (row["fits"], row["max_concurrency"]) == (
            answer.memory["fits"],
            answer.memory["engine_sequences"],
        )


@settings(max_examples=40, deadline=None)
@given(
    model=st.sampled_from(["llama-3.1-8b", "qwen3-30b-a3b", "gpt-oss-20b", "gemma-2-9b"]),
    hw=st.sampled_from(["h100-sxm", "b200-sxm", "mi300x"]),
    tp=st.sampled_from([1, 2, 4]),
    prompt=st.integers(2, 3000),
    output=st.integers(1, 30),
)
def test_a_request_alone_pays_exactly_what_analyze_says(
    model: str, hw: str, tp: int, prompt: int, output: int
) -> None:
    trace = rf.Trace(arrival_s=[0.0], prompt_tokens=[prompt], output_tokens=[output])
    whole = max(prompt, 2048)
    run = rf.simulate(
        trace, model=model, hw=hw, tp=tp, engine="vllm-sync", record="steps", max_num_batched_tokens=whole
    )
    paid = (run.steps["end_s"] - run.steps["start_s"]).to_list()
    asked = [rf.analyze(model, hw, tp=tp, phase="prefill", input_len=prompt).step_s]
    asked += [rf.analyze(model, hw, tp=tp, input_len=prompt + done).step_s for done in range(output - 1)]
    # A step's length is the difference of two instants in f64 seconds: near 1 s they are 2e-16 s apart.
    assert paid == pytest.approx(asked, rel=1e-12, abs=1e-15)


ROWS = {"tp": [1, 2, 4], "batch_size": [8, 16, 32]}


def test_any_kind_of_frame_gives_the_same_rows() -> None:
    keywords = {"model": "llama-3.1-8b", "hw": "h100-sxm", "input_len": 1000}
    frame = pl.DataFrame(ROWS)
    expected = rf.evaluate(frame, **keywords)
    arrays = {name: np.array(values, dtype=np.int32) for name, values in ROWS.items()}
    assert rf.evaluate(ROWS, **keywords).equals(expected)
    assert rf.evaluate(arrays, **keywords).drop("tp", "batch_size").equals(expected.drop("tp", "batch_size"))
    lazy = rf.evaluate(frame.lazy(), **keywords)
    assert isinstance(lazy, pl.LazyFrame)
    assert lazy.collect().equals(expected)


def test_models_and_devices_may_be_objects() -> None:
    model, device = rf.Model.from_config(rf.Model("llama-2-7b").config), rf.Hardware("h100-sxm")
    by_name = rf.evaluate({"batch_size": [1, 2]}, model="llama-2-7b", hw="h100-sxm")
    by_object = rf.evaluate({"batch_size": [1, 2], "model": [model, model]}, hw=device)
    assert by_object["step_s"].equals(by_name["step_s"])


def test_only_the_results_asked_for_are_added_and_other_columns_stay() -> None:
    rows = rf.evaluate({"name": ["a"]}, model="llama-3.1-8b", hw="h100-sxm", columns=["fits", "step_s"])
    assert rows.columns == ["name", "step_s", "fits"]


@pytest.mark.parametrize(
    ("frame", "keywords", "message"),
    [
        ({"tp": [1, 7]}, {}, r"^row 1: layout.tp must divide the 32 attention heads of .*: 7$"),
        ({"batch_size": [1, 0]}, {}, r"^row 1: batch_size must be at least 1: 0"),
        ({"batch_size": [1.5]}, {}, r"^row 0: batch_size must be a whole number: 1.5"),
        ({"batch_size": [1, 2.5]}, {}, r"^row 1: batch_size must be a whole number: 2.5"),
        ({"tp": [1.0, 2.0, float("nan")]}, {}, r"^row 2: tp must be a whole number: nan"),
        ({"tp": [1.0, -2.0]}, {}, r"^row 1: tp must not be negative: -2"),
        ({"batch_size": [1, None]}, {}, r"^batch_size must hold no nulls: 1, the first in row 1"),
        ({"phase": ["decode", None]}, {}, r"^phase must hold no nulls: 1, the first in row 1"),
        ({"batch_size": [1, -4]}, {}, r"^row 1: batch_size must not be negative: -4"),
        (pl.LazyFrame({"tp": [1, 2, -1]}), {}, r"^row 2: tp must not be negative: -1"),
        ({"tp": ["a"]}, {}, r"^tp must be a column of whole numbers"),
        ({"phase": ["decode", "sing"]}, {}, r"^row 1: no phase is called `sing`"),
        ({"mode": ["predictd"]}, {}, r"^no mode is called `predictd`"),
        ({"tp": [1]}, {"tp": 2}, r"^tp must be a column or a keyword, not both: 2"),
        ({"tp": [1]}, {"columns": ["step"]}, r"^no column is called `step`"),
        ({"step_s": [1.0]}, {}, r"^the frame must not have the result step_s already"),
        ({"phase": ["encode"]}, {}, r"^input_len must be given where a phase is encode"),
        ({"hw": ["h100-sxm", "h1000"]}, {"hw": None}, r"^row 1: no hardware is called `h1000`"),
        ({"hw": [1]}, {"hw": None}, r"^hw must be a column of names"),
        ({"tp": [1]}, {"hw": None}, r"^hw must be given, as a column or a keyword"),
    ],
)
def test_a_mistake_names_its_row_and_column(frame: Any, keywords: dict[str, Any], message: str) -> None:
    with pytest.raises(rf.RooflineError, match=message):
        rf.evaluate(frame, **{"model": "llama-3.1-8b", "hw": "h100-sxm", **keywords})


def test_whole_numbers_may_come_as_floats() -> None:
    floats = rf.evaluate({"batch_size": [1.0, 64.0]}, model="llama-3.1-8b", hw="h100-sxm", columns="step_s")
    counts = rf.evaluate({"batch_size": [1, 64]}, model="llama-3.1-8b", hw="h100-sxm", columns="step_s")
    assert floats.equals(counts)
