"""Columns on their way in: which arrays are understood, and what is said of those that are not."""

from __future__ import annotations

import array
from typing import Any

import numpy as np
import polars as pl
import pytest
import roofline_fast as rf
from roofline_fast import _core, errors

LISTS = "a column of lists of whole numbers, none negative"
ONES = np.ones(3, dtype=np.int64)


def trace(arrival_s: Any = ONES, prompt_tokens: Any = ONES, **columns: Any) -> pl.DataFrame:
    return pl.DataFrame(_core.Trace(arrival_s, prompt_tokens, ONES, **columns).requests)


@pytest.mark.parametrize("dtype", ["f4", "f8", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8"])
def test_numpy_arrays_and_polars_columns_of_every_width_say_the_same(dtype: str) -> None:
    numbers = np.array([1, 2, 100], dtype=dtype)
    assert trace(numbers)["arrival_s"].to_list() == [1.0, 2.0, 100.0]
    assert trace(pl.Series(numbers))["arrival_s"].to_list() == [1.0, 2.0, 100.0]


def test_other_layouts_are_read_in_order() -> None:
    assert trace(np.arange(6.0)[::2])["arrival_s"].to_list() == [0.0, 2.0, 4.0]
    chunked = pl.concat([pl.Series([1.0, 2.0]), pl.Series([3.0])], rechunk=False)
    assert trace(chunked)["arrival_s"].to_list() == [1.0, 2.0, 3.0]
    assert trace(pl.Series([0.0, 1.0, 2.0, 3.0]).slice(1))["arrival_s"].to_list() == [1.0, 2.0, 3.0]
    assert trace(array.array("d", [1.0, 2.0, 3.0]))["arrival_s"].to_list() == [1.0, 2.0, 3.0]


def test_ids_and_priorities_are_kept() -> None:
    frame = trace(np.array([3.0, 2.0, 1.0]), ids=["a", "b", "c"], priority=np.array([-1, 0, 1]))
    assert frame["request_id"].to_list() == ["c", "b", "a"]
    assert frame["priority"].to_list() == [1, 0, -1]
    assert trace(ids=pl.Series(["x", "y", "z"]))["request_id"].to_list() == ["x", "y", "z"]


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"prompt_tokens": np.ones(3)}, "prompt_tokens must be a column of whole numbers: floats"),
        ({"prompt_tokens": np.array([1, -1, 1])}, "prompt_tokens must not be negative: a negative number"),
        ({"prompt_tokens": pl.Series([1, None, 1])}, "prompt_tokens must hold no nulls: 1"),
        (
            {"prompt_tokens": pl.Series(["a", "b", "c"])},
            "prompt_tokens must be a column of numbers: Utf8View",
        ),
        ({"arrival_s": 7}, "arrival_s must be a column of numbers: int"),
        ({"arrival_s": np.ones((3, 1))}, "arrival_s must be a column of numbers: ndarray"),
        ({"arrival_s": np.ones(2)}, "prompt_tokens must have the 2 rows of arrival_s: 3"),
        ({"arrival_s": -np.ones(3)}, "arrival_s must be seconds from 0 up, within 292 years: -1 in row 0"),
        ({"ids": np.ones(3)}, "ids must be a column of texts: ndarray"),
        ({"ids": pl.Series([1, 2, 3])}, "ids must be a column of texts: Int64"),
        ({"block_hashes": [[1], [2], [3]]}, "block_size must be given with block_hashes: absent"),
        ({"block_hashes": [1, 2, 3]}, f"block_hashes must be {LISTS}: 1"),
        ({"block_hashes": [[1], [-2], [3]]}, f"block_hashes must be {LISTS}: [-2]"),
        ({"block_hashes": [[1], [0.5] * 90, [3]]}, f"block_hashes must be {LISTS}: list"),
        ({"block_hashes": np.zeros((3, 1))}, "block_hashes must be a column of whole numbers: floats"),
        ({"block_hashes": np.full((3, 1), -1)}, "block_hashes must not be negative: a negative number"),
        (
            {"block_hashes": pl.Series([[1], [-2], [3]])},
            "block_hashes must not be negative: a negative number",
        ),
        ({"block_hashes": pl.Series([[1], None, [3]])}, "block_hashes must hold no nulls: 1"),
        ({"block_hashes": pl.Series([[1], [None], [3]])}, "block_hashes must hold no nulls: 1"),
        (
            {"block_hashes": pl.Series([[0.5], [], []])},
            "block_hashes must be a column of whole numbers: floats",
        ),
        ({"block_hashes": pl.Series([1, 2, 3])}, f"block_hashes must be {LISTS}: Int64"),
        ({"block_hashes": 7}, f"block_hashes must be {LISTS}: int"),
        (
            {"segments": [[1], [2], [3]], "segment_lengths": [[1], [1], [2]]},
            "segment_lengths must add up to the 1 tokens of its prompt: 2 in row 2",
        ),
        ({"priority": np.array([2**63] * 3, dtype="u8")}, "priority must be below 2^63: a larger number"),
    ],
)
def test_a_wrong_column_is_named_with_what_it_is(columns: dict[str, Any], message: str) -> None:
    with pytest.raises(errors.SpecError) as caught:
        trace(**columns)
    assert message in str(caught.value)
    assert caught.value.field in {*columns, "trace", "prompt_tokens", "block_size"}


OBJECTS = np.empty(3, dtype=object)
OBJECTS[:] = [[1, 2], np.array([], dtype=np.int64), [2**64 - 1]]


@pytest.mark.parametrize(
    "hashes",
    [
        [[1, 2], [], [2**64 - 1]],
        [np.array([1, 2]), (), pl.Series([2**64 - 1], dtype=pl.UInt64)],
        OBJECTS,
        pl.Series([[1, 2], [], [2**64 - 1]], dtype=pl.List(pl.UInt64)),
        pl.Series([[0], [1, 2], [], [2**64 - 1]], dtype=pl.List(pl.UInt64)).slice(1),
        pl.concat(
            [
                pl.Series([[1, 2]], dtype=pl.List(pl.UInt64)),
                pl.Series([[], [2**64 - 1]], dtype=pl.List(pl.UInt64)),
            ],
            rechunk=False,
        ),
    ],
    ids=["lists", "a-list-of-arrays", "an-object-array", "a-list-column", "a-slice", "chunks"],
)
def test_lists_of_every_kind_say_the_same(hashes: Any) -> None:
    """A second request for each prompt finds the blocks of the first, and only those."""
    tokens = np.full(6, 48)
    twice = (
        pl.concat([pl.Series(hashes, dtype=pl.List(pl.UInt64))] * 2)
        if isinstance(hashes, pl.Series)
        else [*hashes] * 2
    )
    trace = rf.Trace(np.arange(6.0), tokens, tokens, block_hashes=twice, block_size=16)
    run = rf.simulate(trace, hw="h100-sxm", model="llama-3.1-8b")
    assert run.requests["cached_tokens"].to_list() == [0, 0, 0, 32, 0, 16]


@pytest.mark.parametrize(
    "lists",
    [
        np.array([[3, 4], [3, 4], [3, 5]]),
        pl.Series([[3, 4], [3, 4], [3, 5]], dtype=pl.Array(pl.Int64, 2)),
        pl.Series([[3, 4], [3, 4], [3, 5]], dtype=pl.Array(pl.Int8, 2)),
    ],
    ids=["a-table-of-numbers", "lists-of-one-length", "narrow-numbers"],
)
def test_rectangles_are_lists_of_one_length(lists: Any) -> None:
    tokens = np.full(3, 64)
    lengths = [[32, 32]] * 3
    trace = rf.Trace(np.arange(3.0), tokens, tokens, segments=lists, segment_lengths=lengths)
    run = rf.simulate(trace, hw="h100-sxm", model="llama-3.1-8b")
    assert run.requests["cached_tokens"].to_list() == [0, 48, 32]
