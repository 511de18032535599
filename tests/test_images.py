"""Images of prompts: a pass of the vision tower each, where the model has one, and a sentence where it has none."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import roofline_fast as rf

SEEING = "qwen3-vl-30b-a3b"
TRACE = "tests/traces/images.jsonl"
# Patches of which its tower makes a token.
MERGED = 4


def written(path: Path, *rows: dict[str, Any]) -> Path:
    path.write_text("\n".join(json.dumps({"arrival_s": 0, "output_tokens": 1} | row) for row in rows) + "\n")
    return path


def ttft_s(file: Path, **asked: Any) -> float:
    run = rf.simulate(file, **{"model": SEEING, "hw": "h100", "mode": "ideal"} | asked)
    return float(run.requests["ttft_s"][0])


@pytest.mark.parametrize("images", [1, 3])
def test_a_prompt_with_images_takes_a_pass_of_the_tower_and_then_what_it_took(
    tmp_path: Path, images: int
) -> None:
    tokens = 576
    row = {"prompt_tokens": 2000, "image_tokens": [tokens] * images}
    seen = ttft_s(written(tmp_path / "seen.jsonl", row))
    plain = ttft_s(written(tmp_path / "plain.jsonl", {"prompt_tokens": 2000}))
    asked: dict[str, Any] = {
        "phase": "encode",
        "input_len": tokens * MERGED,
        "batch_size": images,
        "mode": "ideal",
    }
    encode = rf.analyze(SEEING, "h100", **asked).step_s
    assert seen == pytest.approx(plain + encode, rel=1e-12)
    # One image of all the tokens has more to compare; the tower is on every device of a group.
    assert (
        ttft_s(written(tmp_path / "one.jsonl", row | {"image_tokens": tokens * 3, "images": 1}))
        > plain + encode
    )
    halved = [ttft_s(tmp_path / f"{name}.jsonl", tp=2) for name in ("seen", "plain")]
    assert halved[0] - halved[1] == pytest.approx(encode, rel=1e-9)


def test_the_host_prepares_a_step_once(tmp_path: Path) -> None:
    seen = written(tmp_path / "seen.jsonl", {"prompt_tokens": 2000, "image_tokens": 1152, "images": 2})
    plain = written(tmp_path / "plain.jsonl", {"prompt_tokens": 2000})
    asked: dict[str, Any] = {"phase": "encode", "input_len": 576 * MERGED, "batch_size": 2}
    alone = rf.analyze(SEEING, "h100", **asked).step_s
    more = ttft_s(seen, mode="predicted") - ttft_s(plain, mode="predicted")
    ideal = rf.analyze(SEEING, "h100", **asked, mode="ideal").step_s
    assert ideal < more <= alone


def test_time_in_the_tower_adds_up_with_all_other() -> None:
    run = rf.simulate(TRACE, model=SEEING, hw="h100")
    duration = run.summary["duration"]
    assert sum(run.operators.values()) == pytest.approx(duration, rel=1e-9)
    assert sum(run.bounds.values()) == pytest.approx(duration, rel=1e-9)
    blind = rf.simulate(TRACE, model="qwen3-30b-a3b", hw="h100")
    assert "encode" not in blind.operators
    assert 0 < run.operators["encode"] < duration
    times = run.request_times
    parts = ["queue_s", "prefill_s", "decode_s", "preempted_s", "outside_s"]
    for whole, row in zip(run.requests["e2e_s"], times.select(parts).rows(), strict=True):
        assert sum(row) == pytest.approx(whole, rel=1e-9)
    assert run.summary["mean_ttft_ms"] > 0


def test_what_images_cost_is_said(tmp_path: Path) -> None:
    def images_of(model: str, row: dict[str, Any], **asked: Any) -> list[str]:
        file = written(tmp_path / "one.jsonl", {"prompt_tokens": 900} | row)
        return [note for note in rf.simulate(file, model=model, hw="h100", **asked).notes if "image" in note]

    row = {"images": 2, "image_tokens": 600}
    told = (
        "images of 1 prompts pass the vision tower once, in the step that begins their prompt; "
        "taken as first in it and of one size"
    )
    assert images_of(SEEING, row) == [told]
    blind = "images cost no more than their tokens in prompts: `llama-3.1-8b` has no vision tower"
    assert images_of("llama-3.1-8b", row) == [blind]
    own = "images cost no more than their tokens in prompts: the step cost has no vision tower"
    assert images_of(SEEING, row, step_cost="linear:0.01,1e-5,0") == [own]
    unknown = (
        "no pass of the vision tower is priced for 1 prompts: the trace counts their images, not image_tokens"
    )
    assert images_of(SEEING, {"images": 2}) == [unknown]
    assert images_of(SEEING, {}) == []


def test_images_and_deadlines_on_a_screen(snapshot: Callable[[str, str], None]) -> None:
    snapshot("simulate-images", f"simulate {TRACE} --hw a100-80gb-sxm -m {SEEING} --mode ideal")
