"""How requests are sent: conversations, users, caps, and what is measured."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
import roofline_fast as rf

CHAT = "examples/chat.jsonl"
SECOND = "linear:1,0,0"


def alone(trace: rf.Trace, **settings: Any) -> rf.Simulation:
    """Serve a trace at one second a step: a request alone takes as many seconds as it has tokens."""
    return rf.simulate(trace, hw="h100", engine="vllm-sync", step_cost=SECOND, **settings)


def regular(requests: int, every_s: float = 0.0, **columns: Any) -> rf.Trace:
    """Return requests of one prompt token and two for the answer."""
    return rf.Trace(
        arrival_s=[row * every_s for row in range(requests)],
        prompt_tokens=[1] * requests,
        output_tokens=[2] * requests,
        **columns,
    )


def sent(simulation: rf.Simulation) -> list[float]:
    return simulation.requests["arrival_s"].to_list()


def test_a_turn_waits_for_the_answer_before_it_and_its_delay() -> None:
    trace = regular(4, session=["a", "b", "a", None], delay_s=[0, 0, 0.5, 0])
    assert sent(alone(trace)) == [0.0, 0.0, 2.5, 0.0]
    assert sent(alone(trace, session_mode="open")) == [0.0] * 4


def test_a_request_can_wait_for_several_others() -> None:
    trace = regular(3, after=[[], [], [0, 1]], delay_s=[0, 0, 1.0])
    assert sent(alone(trace)) == [0.0, 0.0, 3.0]


def test_a_user_sends_the_next_request_when_the_last_one_was_answered() -> None:
    assert sent(alone(regular(3, 9.0), concurrency=1, think_time=500)) == [0.0, 2.5, 5.0]


def test_an_answer_takes_the_api_latency_to_reach_its_user() -> None:
    run = alone(regular(3, 9.0), concurrency=1, api_latency=500)
    assert sent(run) == [0.0, 2.5, 5.0]
    assert run.requests["finish_s"].to_list() == [2.5, 5.0, 7.5]


def test_a_cap_holds_requests_back_and_says_for_how_long() -> None:
    run = alone(regular(3), max_concurrency=1)
    assert sent(run) == [0.0, 2.0, 4.0]
    assert run.requests["held_s"].to_list() == [0.0, 2.0, 4.0]
    assert run.requests["ttft_s"].to_list() == [1.0] * 3
    assert "held_s" not in alone(regular(3)).requests.columns


def test_only_what_is_measured_is_summarised() -> None:
    run = alone(regular(10, 4.0), warmup=2, measure=5)
    assert (run.summary["injected"], run.summary["duration"]) == (5, 20.0)
    assert run.summary["request_throughput"] == 0.25
    assert run.requests.height == 10
    assert alone(regular(10, 4.0), warmup="8s", measure="20s").summary == run.summary
    assert any(note.startswith("measured: 5 of 10 requests") for note in run.notes)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"session_mode": "half"}, "session mode"),
        ({"concurrency": 0}, "concurrency must be at least 1: 0"),
        ({"max_concurrency": 0}, "max_concurrency must be at least 1: 0"),
        ({"concurrency": 1.5}, "concurrency must be a whole number"),
        ({"think_time": 5}, "think_time must be given with concurrency"),
        ({"concurrency": 1, "think_time": -5}, "think_time must be milliseconds, none negative: -5"),
        ({"warmup": "soon"}, "warmup must be a number of requests, or a time with its unit: `soon`"),
        ({"warmup": 3}, "warmup must leave some of the 3 requests to be measured: 3"),
        ({"warmup": "1h"}, "warmup must leave requests to be measured"),
        ({"measure": "0s"}, "measure must be more than nothing"),
        ({"warmup": 1, "measure": "1s"}, "measure must be of the kind of warmup, requests or time"),
    ],
)
def test_what_cannot_be_sent_or_measured_is_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises((rf.SpecError, rf.UnknownNameError), match=message.replace("`", ".")):
        alone(regular(3), **settings)


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"delay_s": [0, 1]}, "session must be given with delay_s: absent"),
        ({"session": ["a"]}, "session must have the 2 rows of arrival_s: 1"),
        ({"session": ["a", "a"], "delay_s": [0, -1]}, "delay_s must be seconds from 0 up"),
        ({"after": [[1], []]}, "after must name rows that arrive earlier"),
    ],
)
def test_conversations_that_cannot_be_are_refused(columns: dict[str, Any], message: str) -> None:
    with pytest.raises(rf.SpecError, match=message):
        regular(2, **columns)


def test_the_command_line_has_the_same_words(command: Callable[..., Any]) -> None:
    line = (
        f"simulate {CHAT} --hw h100 --concurrency 8 --think-time 100 --max-concurrency 6 "
        "--warmup 50 --measure 200 --session-mode closed --format json --quiet"
    )
    answer = json.loads(command(line).out)
    assert (answer["injected"], answer["concurrency"], answer["max_concurrency"]) == (200, 8, 6)
    assert answer["max_running"] <= 6
    notes = " ".join(answer["notes"])
    assert "8 users, 100 ms between an answer and the next request" in notes
    assert "at most 6 requests in flight" in notes


def test_the_command_line_refuses_with_exit_code_2(command: Callable[..., Any]) -> None:
    result = command(f"simulate {CHAT} --hw h100 --think-time 100")
    assert result.code == 2
    assert "think_time must be given with concurrency" in result.err
