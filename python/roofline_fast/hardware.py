"""Devices as users name them: by catalogue name or TOML file."""

from __future__ import annotations

import os
from collections.abc import Callable
from os import PathLike
from typing import TYPE_CHECKING, Any

from roofline_fast import _core, user_files
from roofline_fast.errors import MissingFileError, SpecError
from roofline_fast.frames import frame

if TYPE_CHECKING:
    import polars as pl


class Hardware:
    """A device and the machine around it.

    Parameters
    ----------
    name : str
        A catalogue name in any spelling (``h100-sxm``, ``NVIDIA A100 80GB``). The folder that
        ``$ROOFLINE_FAST_DATA`` names is searched first (``hardware/*.toml``).

    Raises
    ------
    UnknownNameError
        Nothing is known under the name; the hint holds the nearest three.

    Examples
    --------
    >>> import roofline_fast as rf
    >>> rf.Hardware("NVIDIA H100 80GB HBM3").name
    'h100-sxm'
    >>> rf.Hardware("h100").note
    '`h100` taken as `h100-sxm`'
    """

    def __init__(self, name: str) -> None:
        if not isinstance(name, str):
            raise _refused(name, "a name")
        own = user_files.find("hardware", name, (".toml",))
        self.compiled = _core.Hardware(name) if own is None else _core.Hardware.from_toml(own)
        self._made: tuple[Callable[..., Hardware], tuple[Any]] = (Hardware, (name,))

    @classmethod
    def from_toml(cls, path: str | PathLike[str]) -> Hardware:
        """Read the device that a TOML file describes.

        Raises
        ------
        SpecError
            A file that cannot be read or understood; all its mistakes at once.
        """
        if not isinstance(path, str | PathLike):
            raise _refused(path, "a TOML file")
        hardware = cls.__new__(cls)
        hardware._made = (cls.from_toml, (path,))
        try:
            hardware.compiled = _core.Hardware.from_toml(path)
        except FileNotFoundError:
            hint = "give a TOML file, or a name that `roofline-fast catalog hardware` lists"
            message = f"a device's file must exist: {os.fspath(path)}"
            raise MissingFileError(message, field="hw", value=str(path), hint=hint) from None
        return hardware

    @property
    def name(self) -> str:
        """Its name (``h100-sxm``)."""
        return self.compiled.name

    @property
    def title(self) -> str:
        """As printed on screens (``H100-SXM``)."""
        return self.compiled.title

    @property
    def note(self) -> str | None:
        """How its name was understood, where it named a family and not one member."""
        return self.compiled.note

    @property
    def facts(self) -> pl.DataFrame:
        """Every field with its unit and source, one row each."""
        return frame(self.compiled.facts())

    def __reduce__(self) -> tuple[Callable[..., Hardware], tuple[Any]]:
        """Return what is pickled: its name, or the file it was read from."""
        return self._made

    def __repr__(self) -> str:
        return f"Hardware({self.name!r})"


def find_hardware(hardware: Any) -> Hardware:
    """Return the device that a name, a path (which wins over a name) or a device means."""
    if isinstance(hardware, Hardware):
        return hardware
    if not isinstance(hardware, str | PathLike):
        raise _refused(hardware, "a name, a TOML file or a Hardware")
    if not isinstance(hardware, str) or user_files.is_path(hardware, ".toml"):
        return Hardware.from_toml(hardware)
    return Hardware(hardware)


def _refused(value: Any, accepted: str) -> SpecError:
    hint = "for example `h100-sxm`; `roofline-fast catalog hardware` lists every device"
    return SpecError(f"hw must be {accepted}: {value!r}", field="hw", value=repr(value), hint=hint)
