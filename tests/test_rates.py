"""Several rates in Python come to the curve of the command line: the same traffic, one row a rate."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import roofline_fast as rf
from polars.testing import assert_frame_equal

LENGTHS = {"input_len": 300, "output_len": 20}
SERVED = {"model": "llama-3.1-8b", "hw": "h100-sxm", "seed": 7}


def test_the_curve_is_that_of_the_command_line(command: Callable[..., Any], tmp_path: Path) -> None:
    file = tmp_path / "curve.parquet"
    line = "simulate --num-prompts 40 --input-len 300 --output-len 20 -m llama-3.1-8b --hw h100-sxm --seed 7"
    assert command(f"{line} --request-rate 1,10,inf -o {file}").code == 0
    for rates in ([1, 10, "inf"], (1.0, 10.0, float("inf")), "1,10,inf"):
        curve = rf.simulate_rates(num_prompts=40, request_rate=rates, **LENGTHS, **SERVED)
        assert_frame_equal(curve, pl.read_parquet(file))


def test_each_row_is_the_simulation_of_its_rate() -> None:
    trace = rf.Trace.generate(30, request_rate=1, **LENGTHS)
    curve = rf.simulate_rates(trace, request_rate=[2, 50], burstiness=0.5, limit=None, **SERVED)
    for row in curve.iter_rows(named=True):
        one = rf.simulate(trace, request_rate=row.pop("request_rate"), burstiness=0.5, **SERVED)
        assert row == one.summary


def test_a_list_that_simulate_refuses_is_told_where_to_go() -> None:
    with pytest.raises(rf.SpecError, match="must be one rate") as error:
        rf.simulate(num_prompts=30, request_rate=[1, 2, 4], hw="h100-sxm")
    told = error.value.hint.partition("`")[2].partition("`")[0]
    assert eval(told, {"rf": rf})["request_rate"].to_list() == [1, 2, 4]


REFUSED: dict[str, dict[str, Any]] = {
    "request_rate must be a list of rates: 4": {"request_rate": 4},
    "request_rate must be a list of rates: []": {"request_rate": []},
    "request_rate must be a number or a text: [1]": {"request_rate": [[1]]},
    "request_rate must be above 0, or `inf`: -1": {"request_rate": [1, -1]},
    "request_rate must be left out with concurrency: 1": {"request_rate": [1, 2], "concurrency": 4},
    "requests_file must be left out with several rates": {
        "request_rate": [1, 2],
        "requests_file": "r.parquet",
    },
    "simulate must be given keywords it has: max_num_seq": {"request_rate": [1, 2], "max_num_seq": 4},
}


@pytest.mark.parametrize("message", REFUSED)
def test_what_is_no_list_of_rates_is_refused(message: str) -> None:
    with pytest.raises(rf.SpecError) as error:
        rf.simulate_rates(num_prompts=5, hw="h100-sxm", **REFUSED[message])
    assert str(error.value) == message
