"""Generated and scaled traffic from Python."""

from __future__ import annotations

from pathlib import Path

import pytest
import roofline_fast as rf
from hypothesis import given
from hypothesis import strategies as st
from roofline_fast.cli.trace_flags import READING, SCALING
from roofline_fast.cli.traffic import ARRIVALS as ARRIVAL_FLAGS
from roofline_fast.cli.traffic import TRAFFIC as TRAFFIC_FLAGS
from roofline_fast.traffic.workload import ARRIVALS, SCALES, TRAFFIC, words


def test_numbers_ranges_and_texts_are_understood() -> None:
    trace = rf.Trace.generate(50, request_rate=float("inf"), input_len=(10, 20), output_len="zipf(1,5,9)")
    frame = trace.requests
    assert len(trace) == 50
    assert frame["prompt_tokens"].is_between(10, 20).all()
    assert frame["output_tokens"].is_between(5, 9).all()
    assert frame["arrival_s"].max() == 0


@given(seed=st.integers(0, 2**64 - 1), low=st.integers(1, 500), rate=st.floats(0.1, 1e4))
def test_lengths_leave_arrivals_as_they_are(seed: int, low: int, rate: float) -> None:
    one = rf.Trace.generate(20, request_rate=rate, seed=seed)
    other = rf.Trace.generate(20, request_rate=rate, seed=seed, input_len=(low, 2 * low))
    assert one.requests["arrival_s"].equals(other.requests["arrival_s"])
    assert other.requests["prompt_tokens"].is_between(low, 2 * low).all()


def test_a_simulation_needs_no_file() -> None:
    run = rf.simulate(num_prompts=20, request_rate=2, input_len=100, output_len=5, hw="h100-sxm", seed=3)
    assert run.summary["completed"] == 20
    assert run.trace.information == []


PAIRS = {
    "request_rate must be left out with concurrency: 3": {"concurrency": 2, "request_rate": 3},
    "burstiness must be left out with concurrency: 2": {"concurrency": 2, "burstiness": 2},
    "target_rps must be left out with request_rate: 5": {"request_rate": 3, "target_rps": 5},
    "request_rate must be one rate: [1, 2]": {"request_rate": [1, 2]},
}


@pytest.mark.parametrize("message", PAIRS)
@pytest.mark.parametrize("generated", [True, False])
def test_words_of_which_one_could_hold_are_refused(message: str, generated: bool) -> None:
    trace = None if generated else rf.Trace([0.0, 1.0], [10, 10], [2, 2])
    count = {"num_prompts": 5} if generated else {}
    with pytest.raises(rf.SpecError) as error:
        rf.simulate(trace, hw="h100-sxm", **count, **PAIRS[message])
    assert str(error.value) == message
    assert error.value.hint


def test_a_faster_trace_at_another_rate_is_refused() -> None:
    for word in ("speedup", "time_scale", "idle_gap_cap"):
        with pytest.raises(rf.SpecError, match=f"{word} must be left out with request_rate: 2"):
            rf.simulate("examples/chat.jsonl", hw="h100-sxm", request_rate=5, **{word: 2})


def test_users_may_be_asked_for_beside_no_rate() -> None:
    run = rf.simulate(num_prompts=5, request_rate="inf", output_len=3, concurrency=2, hw="h100-sxm")
    assert run.summary["completed"] == 5


def test_arrivals_may_be_said_to_be_those_of_the_trace() -> None:
    trace = rf.Trace([0.0, 1.0], [10, 10], [2, 2])
    run = rf.simulate(trace, hw="h100-sxm", arrivals="trace")
    assert run.trace is trace
    assert rf.simulate("examples/chat.jsonl", speedup=2, arrivals="trace", hw="h100-sxm").summary["completed"]
    with pytest.raises(rf.SpecError, match="arrivals must be given with a trace: trace"):
        rf.simulate(num_prompts=5, arrivals="trace", hw="h100-sxm")
    with pytest.raises(rf.SpecError, match="arrivals must be given with servegen, a folder of its clients"):
        rf.simulate(trace, arrivals="servegen", hw="h100-sxm")
    with pytest.raises(rf.SpecError, match="request_rate must be left out with arrivals as in the trace: 3"):
        rf.simulate(trace, arrivals="trace", request_rate=3, hw="h100-sxm")


def test_turns_wait_no_longer_than_the_cap() -> None:
    trace = rf.Trace([0.0, 0.0], [10, 20], [2, 2], session=["s", "s"], delay_s=[0, 50])
    capped = trace.scaled(turn_delay_cap=2)
    slow, quick = (rf.simulate(one, hw="h100-sxm").summary["duration"] for one in (trace, capped))
    assert slow - quick == pytest.approx(48)


def test_a_trace_and_a_generator_together_are_refused() -> None:
    trace = rf.Trace.generate(5)
    with pytest.raises(rf.SpecError, match="num_prompts must be left out with a trace: 9"):
        rf.simulate(trace, num_prompts=9, hw="h100-sxm")
    with pytest.raises(rf.SpecError, match="limit must be left out for a Trace: 3"):
        rf.simulate(trace, limit=3, hw="h100-sxm")
    with pytest.raises(rf.SpecError, match="strict must be left out without a trace: True"):
        rf.simulate(num_prompts=5, strict=True, hw="h100-sxm")
    with pytest.raises(rf.SpecError, match="trace must be given"):
        rf.simulate(hw="h100-sxm")


def test_scaling_multiplies_and_samples() -> None:
    trace = rf.Trace.generate(1000, request_rate=10, shared_prefix_ratio=0.5)
    assert len(trace.scaled(upsample=3)) == 3000
    assert 400 < len(trace.scaled(sample=0.5)) < 600
    faster = trace.scaled(target_rps=50).requests["arrival_s"].max()
    assert faster == pytest.approx(999 / 50)
    assert rf.simulate(trace, upsample=2, hw="h100-sxm").summary["injected"] == 2000


def test_a_trace_is_read_as_it_was_written(tmp_path: Path) -> None:
    trace = rf.Trace.generate(100, request_rate=10, input_len=(1, 500), prefix_len=40, prefix_groups=4)
    trace.write(tmp_path / "t.jsonl")
    again = rf.Trace.read(tmp_path / "t.jsonl")
    assert again.requests.equals(trace.requests)
    assert again.inspect().equals(trace.inspect())
    assert again.warnings == []
    with pytest.raises(FileNotFoundError):
        trace.write(tmp_path / "absent" / "t.jsonl")


def test_values_that_are_no_texts_are_refused() -> None:
    with pytest.raises(rf.SpecError, match=r"input_len must be a number or a text: \[1, 2\]"):
        rf.Trace.generate(5, input_len=[1, 2])
    with pytest.raises(rf.UnknownNameError, match="no traffic setting is called `isl`"):
        rf.Trace.generate(5, isl=7)


def test_every_word_has_a_flag() -> None:
    assert set(TRAFFIC) - set(TRAFFIC_FLAGS) == {"seed", "trace_block_size"}
    assert set(ARRIVALS) == set(ARRIVAL_FLAGS)
    assert set(SCALES) == set(SCALING)
    assert words() - set(READING) - set(SCALING) - set(TRAFFIC_FLAGS) == {"format", "arrivals_elsewhere"}


def test_recorded_requests_can_arrive_at_another_rate() -> None:
    trace = rf.Trace(arrival_s=[0, 1, 9], prompt_tokens=[5, 6, 7], output_tokens=[1, 2, 3])
    faster = trace.arriving(request_rate=10, arrivals="constant")
    assert faster.requests["arrival_s"].to_list() == [0.0, 0.1, 0.2]
    assert faster.requests["prompt_tokens"].to_list() == [5, 6, 7]
    assert faster.information == ["arrivals are drawn, not the recorded ones"]
    run = rf.simulate(trace, request_rate=10, arrivals="constant", hw="h100-sxm")
    assert run.requests["arrival_s"].to_list() == [0.0, 0.1, 0.2]
    with pytest.raises(rf.SpecError, match="request_rate must be given for other arrivals"):
        trace.arriving(cv=2)
    with pytest.raises(rf.UnknownNameError, match="no setting of arrivals is called `input_len`"):
        trace.arriving(input_len=5)


def test_what_shares_tokens_by_segments_can_neither_be_copied_nor_written(tmp_path: Path) -> None:
    trace = rf.Trace([0.0], [4], [1], segments=[[1]], segment_lengths=[[4]], output_segment=[2])
    for ask in (
        lambda: trace.write(tmp_path / "t.jsonl"),
        lambda: trace.scaled(upsample=2),
        lambda: trace.arriving(request_rate=1),
    ):
        with pytest.raises(
            rf.SpecError, match="segments must be left out of a trace that is scaled or written"
        ):
            ask()
