"""The compiled half: what Rust hands to Python."""

from typing import Any, Final, final

__all__ = ["Progress", "Table", "__version__", "_probe"]

__version__: Final[str]

def _probe(what: str, progress: Progress | None = None) -> None:
    """Break in a chosen way, to show that a panic and Ctrl-C come out as they should."""

@final
class Progress:
    """How far a long call has come: handed in as ``progress=``, read from another thread."""

    def __new__(cls) -> Progress: ...
    @property
    def done(self) -> int: ...
    @property
    def total(self) -> int: ...

@final
class Table:
    """Columns of equal length, read by anything that speaks Arrow: ``polars.DataFrame(table)``."""

    @property
    def num_rows(self) -> int: ...
    @property
    def columns(self) -> list[str]: ...
    def __len__(self) -> int: ...
    def __arrow_c_stream__(self, requested_schema: Any = None) -> Any: ...
