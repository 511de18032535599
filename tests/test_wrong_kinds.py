"""Values of a wrong kind are refused by name with the documented classes; results can be pickled."""

from __future__ import annotations

import pickle
import threading
from collections.abc import Callable
from typing import Any

import numpy as np
import polars as pl
import pytest
import roofline_fast as rf

MODEL, HW = "llama-3.1-8b", "h100-sxm"
STEP: dict[str, Any] = {"model": MODEL, "hw": HW, "columns": ["step_s"]}


def trace(**columns: Any) -> rf.Trace:
    given: dict[str, Any] = {"arrival_s": [0.0, 1.0], "prompt_tokens": [5, 6], "output_tokens": [2, 3]}
    return rf.Trace(**{**given, **columns})


@pytest.mark.parametrize(
    ("keywords", "said"),
    [
        ({"tp": None}, "tp must be a whole number: None"),
        ({"enforce_eager": "yes"}, "enforce_eager must be True or False: 'yes'"),
        ({"flash_attention": 3.5, "mode": None}, "mode must be a name: None"),
        ({"efficiency": 3}, "efficiency must be a path: 3"),
        ({"efficiency": "no.toml"}, "a file must exist: no.toml"),
        ({"efficiency": "."}, ". must be a file that can be read: Is a directory"),
    ],
)
def test_keywords_of_analyze_of_a_wrong_kind_are_refused_by_name(keywords: dict[str, Any], said: str) -> None:
    with pytest.raises(rf.SpecError) as caught:
        rf.analyze(MODEL, HW, **keywords)
    assert str(caught.value) == said


@pytest.mark.parametrize(
    ("keywords", "said"),
    [
        ({"async_scheduling": "on"}, "async_scheduling must be True or False: 'on'"),
        ({"use_recorded_cache": 2}, "use_recorded_cache must be True or False: 2"),
        ({"percentiles": "1:8"}, "percentiles must be numbers: '1:8'"),
        ({"percentiles": ["p"]}, "percentiles must be numbers: ['p']"),
    ],
)
def test_keywords_of_simulate_of_a_wrong_kind_are_refused_by_name(
    keywords: dict[str, Any], said: str
) -> None:
    with pytest.raises(rf.SpecError) as caught:
        rf.simulate(trace(), hw=HW, **keywords)
    assert str(caught.value) == said


@pytest.mark.parametrize(
    ("ask", "said"),
    [
        (lambda: rf.bound_map(MODEL, HW, batch_size=[1.5]), "batch_size must be a whole number: 1.5"),
        (lambda: rf.bound_map(MODEL, HW, context=[None]), "context must be a whole number: None"),
        (lambda: rf.catalog(3), "catalogue must be a name: 3"),
        (lambda: rf.Trace.generate(5, like="x"), "like must be a Trace: 'x'"),
        (
            lambda: rf.Trace.generate(5, cv=np.array([])),
            "cv must be a number or a text: array([], dtype=float64)",
        ),
        (lambda: rf.Hardware.from_toml(3), "hw must be a TOML file: 3"),
        (lambda: rf.Hardware.from_toml("no.toml"), "a device's file must exist: no.toml"),
        (lambda: rf.Model.from_config("a\0b"), "model must be a name of a file: 'a\\x00b'"),
        (
            lambda: rf.Model.from_config("x" * 5000),
            f"{'x' * 5000} must be a file that can be read: File name too long",
        ),
        (lambda: rf.sweep({"model": MODEL, "hw": HW}, objectives=3), "objectives must be names: 3"),
        (lambda: rf.sweep({"model": MODEL, "hw": HW}, limits=3), "limits must be values by name: 3"),
        (lambda: rf.evaluate({}, columns=3, model=MODEL, hw=HW), "columns must be names: 3"),
        (
            lambda: rf.Trace.read("examples/chat.jsonl", csv_delimiter="ab"),
            "csv_delimiter must be one character: 'ab'",
        ),
    ],
)
def test_whatever_is_of_a_wrong_kind_is_refused_by_name(ask: Any, said: str) -> None:
    with pytest.raises(rf.SpecError) as caught:
        ask()
    assert str(caught.value) == said


@pytest.mark.parametrize(
    ("columns", "said"),
    [
        ({"batch_size": ["1", "2"]}, "batch_size must be a column of whole numbers: String"),
        (
            {"batch_size": pl.Series([1, 2], dtype=pl.Int128)},
            "batch_size must be a column of whole numbers: Int128",
        ),
        ({"phase": [[1], [2]]}, "phase must be a column of names: List(Int64)"),
        ({"mode": [1, 2]}, "mode must be a column of names: Int64"),
        ({"hw": ["h100-sxm", None], "model": [MODEL] * 2}, "hw must hold no nulls: 1, the first in row 1"),
    ],
)
def test_columns_of_a_wrong_kind_are_refused_by_name(columns: dict[str, Any], said: str) -> None:
    rest = {name: value for name, value in STEP.items() if name not in columns}
    with pytest.raises(rf.SpecError) as caught:
        rf.evaluate(columns, **rest)
    assert str(caught.value) == said


@pytest.mark.parametrize(
    "values", [[0, None], ["0", "1"], [True, False], np.ones((2, 2)), np.array([0, "a"], dtype=object)]
)
def test_a_trace_says_which_column_holds_no_numbers(values: Any) -> None:
    with pytest.raises(rf.SpecError, match=r"^arrival_s must be a column of numbers: ") as caught:
        trace(arrival_s=values)
    assert "list of numbers" in caught.value.hint


def test_names_may_be_categories() -> None:
    plain = rf.evaluate({"hw": ["h100-sxm", "l40s", "l40s"]}, model=MODEL, columns="step_s")
    categories = pl.DataFrame({"hw": pl.Series(["h100-sxm", "l40s", "l40s"], dtype=pl.Categorical)})
    assert rf.evaluate(categories, model=MODEL, columns="step_s")["step_s"].equals(plain["step_s"])


@pytest.mark.parametrize("empty", [[], np.array([]), pl.Series([], dtype=pl.Float64)])
@pytest.mark.parametrize("axis", ["batch_size", "phase", "hw"])
def test_an_empty_column_of_any_type_gives_no_rows(axis: str, empty: Any) -> None:
    rest = {name: value for name, value in STEP.items() if name != axis}
    found = rf.evaluate({axis: empty}, **rest)
    assert found.height == 0
    assert found.columns == [axis, "step_s"]


def test_requests_keep_the_numbers_of_their_rows_when_arrivals_were_out_of_order() -> None:
    moved = trace(arrival_s=[1.0, 0.0])
    assert moved.requests["request_id"].to_list() == ["1", "0"]
    served = rf.simulate(moved, model=MODEL, hw=HW).requests
    assert dict(served.select("request_id", "prompt_tokens").iter_rows()) == {"0": 5, "1": 6}


@pytest.mark.parametrize(
    "ask",
    [
        lambda: rf.analyze(MODEL, "h100", tp=2, quantization="fp8").to_dict(),
        lambda: rf.compare(None, {"tp": 2}, model=rf.Model(MODEL), hw=rf.Hardware("h100")).to_dict(),
        lambda: rf.Model(MODEL).parameters,
    ],
)
def test_answers_are_the_same_each_time(ask: Any) -> None:
    assert ask() == ask()


def test_models_devices_layouts_and_answers_can_be_pickled() -> None:
    answer = rf.analyze(MODEL, "h100", tp=2, quantization="fp8")
    assert pickle.loads(pickle.dumps(answer)).to_dict() == answer.to_dict()
    compared = rf.compare(None, {"tp": 2}, model=rf.Model(MODEL), hw=rf.Hardware("h100"))
    assert pickle.loads(pickle.dumps(compared)).to_dict() == compared.to_dict()
    viewed = rf.analyze("llama-2-7b", "nvidia_A100_80G", compat="llm-viewer")
    assert pickle.loads(pickle.dumps(viewed)).step_s == viewed.step_s
    own = rf.Model.from_config(rf.Model("llama-2-7b").config)
    assert pickle.loads(pickle.dumps(own)).parameters == own.parameters
    layout = rf.Layout(tp=2, ep=4)
    assert pickle.loads(pickle.dumps(layout)) == layout


def test_what_cannot_be_pickled_says_what_to_take_instead() -> None:
    requests = trace()
    with pytest.raises(TypeError, match="`write` it to a file"):
        pickle.dumps(requests)
    with pytest.raises(TypeError, match="`summary`, `requests`"):
        pickle.dumps(rf.simulate(requests, hw=HW, model=MODEL))


def test_many_users_for_few_requests_cost_nothing() -> None:
    few = rf.simulate(trace(), model=MODEL, hw=HW, concurrency=2)
    many = rf.simulate(trace(), model=MODEL, hw=HW, concurrency=2**32 - 1)
    assert few.summary == many.summary


def test_threads_get_the_answers_of_one() -> None:
    alone = [rf.analyze(MODEL, HW, batch_size=size).step_s for size in (1, 2, 3)]
    found: dict[int, list[float]] = {}

    def ask(place: int) -> None:
        found[place] = [rf.analyze(MODEL, HW, batch_size=size).step_s for size in (1, 2, 3)]

    threads = [threading.Thread(target=ask, args=(place,)) for place in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(found[place] == alone for place in range(4))


def test_quotes_that_stay_open_are_bad_input(command: Callable[..., Any]) -> None:
    done = command(["compare", 'with="spec', "base", "-m", MODEL, "--hw", HW])
    assert (done.code, done.err) == (2, 'error: a side must close the quotes it opens: with="spec\n')
