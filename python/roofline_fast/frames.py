"""Tables of the compiled half as data frames."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import polars as pl

    from roofline_fast._core import Table


def frame(table: Table) -> pl.DataFrame:
    """Return the table as a data frame; numbers are shared, not copied."""
    import polars as pl

    return pl.DataFrame(table)


def record(table: Table) -> dict[str, Any]:
    """Return the only row of a table by column."""
    return frame(table).row(0, named=True)
