"""Every field of a native trace does something, or is named among those that do nothing: never both, never neither."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import roofline_fast as rf
from roofline_fast.measurements import requests as observed

SCHEMAS = Path(__file__).parent.parent / "rust/sim/src/trace"
NOTHING = "known fields that have no effect yet: "

GROUP = {"prefix_group": "g", "prefix_tokens": 512}
RANKED = {"scheduling_policy": "priority", "max_num_seqs": 1}
SEEING = {"model": "qwen3-vl-30b-a3b"}
# Two values of the last of three requests, what else each of them has, and how they are served.
CASES: dict[str, tuple[Any, Any, dict[str, Any], dict[str, Any]]] = {
    "arrival_s": (1, 2, {}, {}),
    "arrival_ms": (1000, 2000, {}, {}),
    "arrival_us": (1000, 2_000_000, {}, {}),
    "arrival_ns": (1000, 2_000_000_000, {}, {}),
    "arrival": ("2026-01-01T00:00:01Z", "2026-01-01T00:00:02Z", {}, {}),
    "prompt_tokens": (600, 900, {}, {}),
    "input_tokens": (600, 900, {}, {}),
    "output_tokens": (20, 30, {}, {}),
    "id": ("a", "b", {}, {}),
    "session": ("s", "t", {"session": "s"}, {}),
    "turn": (0, 2, {"session": "s", "turn": 1}, {}),
    "after": (["0"], [], {}, {}),
    "delay_s": (0, 3, {"session": "s"}, {}),
    "block_hashes": (list(range(38)), list(range(100, 138)), {"block_hashes": list(range(38))}, {}),
    "model": ("qwen3-8b", "llama-3.1-8b", {}, {"model": None}),
    "priority": (0, -1, {"priority": 0}, RANKED),
    "strict_priority": (0, 1, {"strict_priority": 0}, RANKED),
    "prefix_group": ("g", "h", GROUP, {}),
    "prefix_tokens": (512, 256, GROUP, {}),
    "cached_tokens": (0, 512, {}, {"use_recorded_cache": True}),
    "lora": ("a", "b", {"lora": "a", **GROUP}, {}),
    "tenant": ("a", "b", {}, {}),
    "slo_class": ("chat", "batch", {}, {}),
    "deadline_s": (0.001, 100, {}, {}),
    "timeout_s": (0.001, 100, {}, {}),
    "max_output_tokens": (20, 2000, {}, {}),
    "reasoning_tokens": (0, 19, {}, {}),
    "images": (1, 2, {"image_tokens": 500}, SEEING),
    "image_tokens": (0, 500, {"images": 1}, SEEING),
    "audio_tokens": (0, 500, {}, SEEING),
    "video_tokens": (0, 500, {}, SEEING),
    "observed_ttft_s": (0.1, 0.2, {}, {}),
    "observed_e2e_s": (0.5, 0.6, {}, {}),
    "observed_tpot_s": (0.01, 0.02, {}, {}),
}


def fields() -> list[str]:
    """Return the names of the native schema, without those that other formats have for the same."""
    text = "\n".join(file.read_text() for file in sorted(SCHEMAS.rglob("*.rs")))
    [schema] = re.findall(r"static NATIVE: Schema .*?// What other formats call the same", text, re.DOTALL)
    return re.findall(r'(?:alias|timed)\("(\w+)"', schema)


def told(file: Path, field: str, value: Any) -> tuple[Any, list[str]]:
    """Return what comes of a trace whose last request has that value, warnings (of turns) with it; and the notes."""
    _, _, others, asked = CASES[field]
    rows = [
        {"arrival_s": 0, "prompt_tokens": 600, "output_tokens": 20, "id": str(row)} | others
        for row in range(3)
    ]
    for row in rows:
        if field.startswith("arrival"):
            del row["arrival_s"]
            row[field] = "2026-01-01T00:00:00Z" if field == "arrival" else 0
        if field == "input_tokens":
            row[field] = row.pop("prompt_tokens")
        if field == "model":
            row[field] = value
    rows[-1][field] = value
    file.write_text("\n".join(json.dumps(row) for row in rows) + "\n")
    run = rf.simulate(file, **{"model": "llama-3.1-8b", "hw": "h100", **asked})
    result: list[Any] = [run.requests.to_dict(as_series=False), run.summary, run.trace.warnings]
    if field.startswith("observed"):
        found = observed.traced(file)
        assert found is not None
        result.append(found.rows.to_dict(as_series=False))
    return json.dumps(result, default=str), run.notes


@pytest.mark.parametrize("field", fields())
def test_a_field_changes_what_comes_of_a_trace_or_is_said_not_to(tmp_path: Path, field: str) -> None:
    first, second, _, _ = CASES[field]
    one, notes = told(tmp_path / "t.jsonl", field, first)
    other, _ = told(tmp_path / "t.jsonl", field, second)
    idle = next((note.removeprefix(NOTHING).split(", ") for note in notes if note.startswith(NOTHING)), [])
    assert (one != other) == (field not in idle), idle
