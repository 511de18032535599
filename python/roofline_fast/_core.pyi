"""The compiled half: what Rust hands to Python."""

from typing import Any, Final, final

__version__: Final[str]
DEBUG: Final[bool]

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
