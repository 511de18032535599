"""Requests that say by when they must be answered: who is late, how many are, and what that does to goodput."""

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

SERVED: dict[str, Any] = {"model": "llama-3.1-8b", "hw": "l40s"}


def written(path: Path, deadlines: list[float | None]) -> Path:
    rows = [
        {"arrival_s": row * 0.02, "prompt_tokens": 200 + 37 * (row % 9), "output_tokens": 5 + row % 30}
        | ({} if deadline is None else {"deadline_s": deadline})
        for row, deadline in enumerate(deadlines)
    ]
    path.write_text("\n".join(json.dumps(row) for row in rows) + "\n")
    return path


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("deadlines")


@settings(max_examples=15, deadline=None)
@given(
    deadlines=st.lists(st.none() | st.integers(50, 3000).map(lambda ms: ms / 1000), min_size=1, max_size=80),
    replicas=st.integers(1, 3),
    slo=st.sampled_from([None, "ttft:90", "e2e:900 tpot:40"]),
    late=st.sampled_from([{}, {"max_concurrency": 4}, {"warmup": "0.1s"}, {"api_latency": 40}]),
)
def test_a_deadline_is_met_where_the_answer_takes_no_longer(
    folder: Path, deadlines: list[float | None], replicas: int, slo: str | None, late: dict[str, Any]
) -> None:
    if "warmup" in late and len(deadlines) < 12:
        late = {}
    run = rf.simulate(written(folder / "t.jsonl", deadlines), **SERVED, dp=replicas, slo=slo, **late)
    if not any(deadlines):
        assert "deadline" not in run.requests.columns
        assert "deadlines" not in run.summary
        assert (run.summary["request_goodput"] is None) == (slo is None)
        return
    rows = run.requests
    assert rows["deadline_s"].to_list() == deadlines
    in_time = pl.col("e2e_s") <= pl.col("deadline_s")
    word = pl.when(in_time).then(pl.lit("met")).otherwise(pl.lit("missed"))
    word = pl.when(pl.col("deadline_s").is_not_null()).then(word)
    assert rows["deadline"].cast(pl.String).to_list() == rows.select(word.alias("word"))["word"].to_list()
    if "warmup" in late:
        rows = rows.filter(pl.col("arrival_s") >= 0.1)
    missed = rows.filter(pl.col("deadline") == "missed").height
    wanted = rows["deadline_s"].drop_nulls().len()
    if wanted == 0:
        assert "deadlines" not in run.summary
        return
    assert (run.summary["deadlines"], run.summary["deadlines_missed"]) == (wanted, missed)
    assert run.summary["deadline_attainment"] == pytest.approx((wanted - missed) / wanted)
    good = pl.col("deadline").is_null() | (pl.col("deadline") == "met")
    if slo == "ttft:90":
        good &= pl.col("ttft_s") <= 0.09
    elif slo is not None:
        good &= (pl.col("e2e_s") <= 0.9) & (pl.col("tpot_s").fill_null(0) <= 0.04)
    good_ones = rows.filter(good).height
    assert run.summary["request_goodput"] == pytest.approx(good_ones / run.summary["duration"])
    assert run.summary["slo_attainment"] == pytest.approx(good_ones / rows.height)


def test_deadlines_change_no_time(folder: Path) -> None:
    plain = rf.simulate(written(folder / "plain.jsonl", [None] * 40), **SERVED)
    hurried = rf.simulate(written(folder / "hurried.jsonl", [0.01] * 40), **SERVED)
    assert hurried.requests.drop("deadline_s", "deadline").equals(plain.requests)
    assert hurried.summary["deadlines_missed"] == 40
    assert hurried.summary["request_goodput"] == 0


def test_the_screen_counts_who_is_late(command: Callable[..., Any], folder: Path) -> None:
    file = written(folder / "screen.jsonl", [0.001, 60, 60, None])
    said = command(f"simulate {file} --hw l40s -m llama-3.1-8b").out
    assert "  deadlines   1 of 3 missed (67 % met)" in said
    assert "(75 % meet their deadlines)" in said
    strict = command(f"simulate {file} --hw l40s -m llama-3.1-8b --slo ttft@p50:500").out
    assert "(75 % meet ttft@p50:500 and their deadlines), percentiles met" in strict
    table = folder / "requests.parquet"
    command(f"simulate {file} --hw l40s -m llama-3.1-8b --requests {table}")
    assert pl.read_parquet(table)["deadline"].cast(pl.String).to_list() == ["missed", "met", "met", None]
