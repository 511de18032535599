"""Numbers on screens: three digits, a unit, and nothing rounded into what it is not."""

from __future__ import annotations

import pytest
from roofline_fast.cli import figures


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0"),
        (0.0012, "0.0012"),
        (7.966, "7.97"),
        (9.996, "10.0"),
        (63.07, "63.1"),
        (99.96, "100"),
        (6270.4, "6,270"),
    ],
)
def test_three_digits_are_shown(value: float, text: str) -> None:
    assert figures.digits(value) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.0, "0 s"),
        (3e-10, "0.30 ns"),
        (254.4e-6, "254 us"),
        (999.7e-6, "1.00 ms"),
        (5.134e-3, "5.13 ms"),
        (61.0, "61.0 s"),
    ],
)
def test_a_duration_is_shown_in_the_unit_that_fits(value: float, text: str) -> None:
    assert figures.seconds(value) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [(0, "0 B"), (512, "512 B"), (999_800, "1.00 MB"), (53.7e9, "53.7 GB"), (2.7e12, "2.70 TB")],
)
def test_a_size_is_shown_with_its_prefix(value: float, text: str) -> None:
    assert figures.scaled(value, "B") == text


@pytest.mark.parametrize(
    ("share", "text"), [(0, "0 %"), (0.001, "<1 %"), (0.333, "33 %"), (0.999, ">99 %"), (1, "100 %")]
)
def test_only_nothing_is_0_and_only_everything_is_100_percent(share: float, text: str) -> None:
    assert figures.percent(share) == text


@pytest.mark.parametrize(("share", "text"), [(-0.0691, "−6.9 %"), (0.1, "+10.0 %"), (-0.0001, "±0 %")])
def test_a_change_has_its_sign(share: float, text: str) -> None:
    assert figures.change(share) == text


def test_a_bar_is_as_long_as_its_share() -> None:
    assert [figures.bar(share, 4) for share in (0, 0.25, 0.28, 1)] == ["", "█", "█▏", "████"]


def test_columns_are_aligned() -> None:
    assert figures.table(["a", "b"], [["xx", "1"], ["y", "100"]]) == ["a     b", "xx    1", "y   100"]


WIDE = """chat.jsonl  native, 400 requests, 10.0 min, 0.67 req/s, in 1,191 / out 211 tokens (mean)   seed 0
  time went to  prefill <1 %  mixed 1 %  decode 59 %  idle 40 %    bound by  weights 47 %  launch 12 %
  attention     32  34.7 G  8.62 GB    3.99  2.57 ms    3.32 ms   33 %  memory  ▏████"""


@pytest.mark.parametrize("width", [30, 60, 80, 100])
def test_a_folded_screen_keeps_its_words_and_fits(width: int) -> None:
    lines = figures.folded(WIDE, width).split("\n")
    assert all(len(line) <= width for line in lines)
    words = [word for word in WIDE.replace("▏████", "").split() if word != "·"]
    assert "".join(lines).replace("▏████", "").replace(" ", "") == "".join(words)


def test_what_fits_is_left_as_it_is_and_what_has_no_space_stays_whole() -> None:
    assert figures.folded(WIDE, 120) == WIDE
    assert figures.folded("x" * 50, 20) == "x" * 50
