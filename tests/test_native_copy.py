"""A native trace that is converted to the native schema stays the same: every field as given, and none beside."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import roofline_fast as rf
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

COUNTS = st.integers(1, 5000)
SECONDS = st.integers(0, 10**12).map(lambda nanos: nanos / 1e9)
NAMES = st.sampled_from(["a", "b", 'c "d"', "é"])
# What a row may have or not, each apart.
OPTIONAL: dict[str, st.SearchStrategy[Any]] = {
    "lora": NAMES,
    "tenant": NAMES,
    "slo_class": NAMES,
    "max_output_tokens": st.integers(0, 5000),
    "reasoning_tokens": st.integers(0, 5000),
    "images": COUNTS,
    "image_tokens": COUNTS | st.lists(COUNTS, min_size=1, max_size=4),
    "cached_tokens": st.just(1),
    "audio_tokens": COUNTS,
    "video_tokens": COUNTS,
    "deadline_s": SECONDS,
    "timeout_s": SECONDS,
    "observed_ttft_s": SECONDS,
    "observed_e2e_s": SECONDS,
    "observed_tpot_s": SECONDS,
}
ROW = st.fixed_dictionaries(
    {
        "arrival_s": SECONDS,
        "prompt_tokens": COUNTS,
        "output_tokens": COUNTS,
        "session": st.none() | NAMES,
        "first": st.booleans(),
        "group": st.none() | st.tuples(NAMES, st.integers(0, 1000)),
        "delay_s": st.none() | st.integers(1, 10**9).map(lambda nanos: nanos / 1e9),
    },
    optional=OPTIONAL,
)


def rows_of(drawn: list[dict[str, Any]], *, priority: bool, identified: bool) -> list[dict[str, Any]]:
    """Return rows as a careful writer has them: in time order from 0, and saying nothing that goes without saying."""
    rows = sorted(drawn, key=lambda row: row["arrival_s"])
    turns: dict[str, int] = {}
    for place, row in enumerate(rows):
        row["arrival_s"] *= place > 0
        session, first, delay = row.pop("session"), row.pop("first"), row.pop("delay_s")
        if group := row.pop("group"):
            row["prefix_group"], row["prefix_tokens"] = group[0], min(group[1], row["prompt_tokens"])
        if priority:
            row["priority"] = place % 3 - 1
        if identified:
            row["id"] = f"r{place}"
        if session is not None:
            row |= {"session": session, "turn": turns.get(session, 0)}
            turns[session] = row["turn"] + 1
        waits = bool(session is not None and row["turn"])
        if waits and identified and first:
            row["after"], waits = [], False
        elif session is None and identified and place and first:
            row["after"], waits = [f"r{place // 2}"], True
        if waits and delay:
            row["delay_s"] = delay
        if isinstance(row.get("image_tokens"), list) and row.get("images") == len(row["image_tokens"]):
            del row["images"]
    return rows


def written(file: Path, rows: list[dict[str, Any]]) -> Path:
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return file


def converted(source: Path, target: Path) -> Path:
    assert rf.Trace.read(source, format="native").write(target) == []
    return target


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(drawn=st.lists(ROW, min_size=1, max_size=12), priority=st.booleans(), identified=st.booleans())
def test_every_field_stays_as_it_was_and_none_is_added(
    tmp_path: Path, drawn: list[dict[str, Any]], priority: bool, identified: bool
) -> None:
    rows = rows_of(drawn, priority=priority, identified=identified)
    source = written(tmp_path / "t.jsonl", rows)
    once = converted(source, tmp_path / "once.jsonl")
    _, *lines = once.read_text().splitlines()
    assert [json.loads(line) for line in lines] == rows
    assert converted(once, tmp_path / "twice.jsonl").read_bytes() == once.read_bytes()
    frames = [rf.Trace.read(file, format="native").requests for file in (source, once)]
    assert_frame_equal(*frames)


FULL = [
    {"arrival_s": 0, "prompt_tokens": 2000, "output_tokens": 9, "session": "talk", "slo_class": "chat"},
    {"arrival_s": 1, "prompt_tokens": 2100, "output_tokens": 9, "session": "talk", "image_tokens": [500, 76]},
    {"arrival_s": 2, "prompt_tokens": 900, "output_tokens": 9, "timeout_s": 2.5, "max_output_tokens": 64},
    {"arrival_s": 3, "prompt_tokens": 900, "output_tokens": 9, "reasoning_tokens": 0, "deadline_s": 0.02},
]


@pytest.mark.parametrize("suffix", ["csv", "parquet", "jsonl.zst"])
def test_a_trace_is_the_same_in_every_kind_of_file(tmp_path: Path, suffix: str) -> None:
    source = written(tmp_path / "t.jsonl", FULL)
    other = converted(source, tmp_path / f"t.{suffix}")
    assert_frame_equal(rf.Trace.read(other).requests, rf.Trace.read(source).requests)
    _, *lines = converted(other, tmp_path / "back.jsonl").read_text().splitlines()
    assert [json.loads(line) for line in lines] == FULL


def test_counts_of_images_stand_beside_lists_of_them(tmp_path: Path) -> None:
    rows = [{"arrival_s": 0, "prompt_tokens": 900, "output_tokens": 9} for _ in range(2)]
    rows[0]["image_tokens"], rows[1]["image_tokens"] = [300, 76], 300  # type: ignore[assignment]
    source = written(tmp_path / "t.jsonl", rows)
    for suffix in ("csv", "parquet"):
        other = converted(source, tmp_path / f"t.{suffix}")
        assert_frame_equal(rf.Trace.read(other).requests, rf.Trace.read(source).requests)


def test_a_class_of_service_is_kept_from_other_formats_and_told_where_it_cannot_be(tmp_path: Path) -> None:
    source = tmp_path / "blis.csv"
    source.write_text(
        "request_id,arrival_time_us,input_tokens,output_tokens,client_id,tenant_id,slo_class,streaming,"
        "send_time_us,first_chunk_time_us,last_chunk_time_us,num_chunks,status\n"
        "0,0,100,10,c,t,critical,true,0,5,9,10,ok\n1,1000,100,10,c,t,batch,true,0,0,0,10,ok\n"
    )
    trace = rf.Trace.read(source, format="blis_tracev2")
    assert trace.requests["slo_class"].to_list() == ["critical", "batch"]
    assert trace.write(tmp_path / "t.jsonl") == []
    assert rf.Trace.read(tmp_path / "t.jsonl").requests["slo_class"].to_list() == ["critical", "batch"]
    assert "classes of service" in trace.write(tmp_path / "v.csv", format="vidur")
