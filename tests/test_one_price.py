"""One price: what `validate` predicts of a published server is what `evaluate` and `simulate` tell a user of it."""

from __future__ import annotations

from typing import Any

import polars as pl
import pytest
import roofline_fast as rf

# Milliseconds clients wait outside the engine of a published server: for a request, a token of its prompt, and a user.
OUTSIDE = (4.5, 0.008, 0.8)

CASES = [
    ("vllm", "llama-3.1-70b", "b200-sxm", "fp8", 4, 64, 1024, 256),
    ("vllm", "llama-3.1-8b", "h100-sxm", "auto", 1, 32, 1024, 256),
    ("vllm", "gpt-oss-120b", "h100-sxm", "auto", 2, 16, 1024, 256),
    ("trtllm", "llama-3.1-70b", "b200-sxm", "fp8", 2, 32, 1024, 256),
]


def validated(
    engine: str, model: str, hw: str, quantization: str, tp: int, users: int, isl: int, osl: int
) -> dict[str, float]:
    """Return the times that `validate` predicts for a point of servers."""
    precision = {"fp8": "fp8", "auto": "fp4" if "oss" in model else ""}[quantization]
    point = {
        "backend": engine,
        "model_path": model,
        "system": hw,
        "precision": precision,
        "mode": "agg",
        "isl": isl,
        "osl": osl,
        "tp_size": tp,
        "concurrency": users,
        "silicon_ttft_ms": 1000.0,
        "silicon_tpot_ms": 1000.0,
    }
    errors = rf.validate(pl.DataFrame([point])).errors.filter(group="all")
    return {metric: 1000 + 10 * bias for metric, bias in zip(errors["metric"], errors["bias"], strict=True)}


def settings(engine: str, hw: str, quantization: str, tp: int) -> dict[str, Any]:
    """Return the same server in the words of a user; a cache of 8 bits is what such servers have on Blackwell."""
    narrow = {"kv_cache_dtype": "fp8"} if (hw, quantization) == ("b200-sxm", "fp8") else {}
    return {"engine": engine, "hw": hw, "quantization": quantization, "tp": tp, **narrow}


def outside(isl: int, users: int) -> float:
    request, token, user = OUTSIDE
    return request + token * 0.9 * isl + user * users


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case[0]}-{case[1]}-{case[2]}-{case[5]}")
def test_a_published_server_takes_what_simulate_says(case: tuple[Any, ...]) -> None:
    engine, model, hw, quantization, tp, users, isl, osl = case
    told = validated(*case)
    run = rf.simulate(
        model=model,
        concurrency=users,
        num_prompts=10 * users,
        input_len=isl,
        output_len=osl,
        random_range_ratio=0.8,
        range_style="sglang",
        api_latency=0,
        gpu_memory_utilization=0.95,
        **settings(engine, hw, quantization, tp),
    ).summary
    # Steps between priced batches are interpolated, and lengths drawn otherwise.
    assert told["tpot_ms"] == pytest.approx(run["mean_tpot_ms"], rel=0.02)
    assert told["ttft_ms"] - outside(isl, users) == pytest.approx(run["mean_ttft_ms"], rel=0.08)


@pytest.mark.parametrize("engine", ["vllm", "sglang", "trtllm"])
@pytest.mark.parametrize("hw", ["h100-sxm", "b200-sxm"])
def test_a_published_server_of_one_user_takes_what_evaluate_says(engine: str, hw: str) -> None:
    isl, osl = 4096, 256
    told = validated(engine, "llama-3.1-70b", hw, "fp8", 8, 1, isl, osl)
    point = pl.DataFrame({"batch_size": [1], "input_len": [isl * 9 // 10], "output_len": [osl * 9 // 10]})
    of = settings(engine, hw, "fp8", 8)
    columns = ["ttft_s", "tpot_s"]
    found = rf.evaluate(point, model="llama-3.1-70b", phase="chat", columns=columns, **of)
    row = pl.DataFrame(found).row(0, named=True)
    assert told["tpot_ms"] == pytest.approx(1e3 * row["tpot_s"], rel=0.01)
    # Beside its own step a request waits for the one that is under way.
    waits = outside(isl, 1) + told["tpot_ms"]
    assert told["ttft_ms"] - waits == pytest.approx(1e3 * row["ttft_s"], rel=0.05)
