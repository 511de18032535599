"""Tables of the compiled half as data frames."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import polars as pl

    from roofline_fast._core import Table


def frame(table: Table) -> pl.DataFrame:
    """Return the table as a data frame; numbers are shared, not copied, and what all rows have in common is kept once."""
    import polars as pl

    rows = pl.DataFrame(table.varying)
    constants = {name: pl.lit(value, getattr(pl, kind)).alias(name) for name, kind, value in table.constants}
    return rows.select(constants.get(name, name) for name in table.columns) if constants else rows


def without_lists(rows: pl.DataFrame) -> pl.DataFrame:
    """Return the frame with its lists as JSON texts: a CSV file holds no others."""
    import polars as pl

    lists = [column for column in rows if isinstance(column.dtype, pl.List)]
    texts = ([json.dumps(row) for row in column.to_list()] for column in lists)
    return rows.with_columns(pl.Series(column.name, text) for column, text in zip(lists, texts, strict=True))


def record(table: Table) -> dict[str, Any]:
    """Return the only row of a table by column."""
    return frame(table).row(0, named=True)
