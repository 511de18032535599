"""Files that appear whole or not at all: written beside their place, then moved there."""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Iterator
from pathlib import Path


@contextlib.contextmanager
def aside(path: Path) -> Iterator[Path]:
    """Give a file beside that one to write to, which takes its place when done.

    Raises
    ------
    OSError
        What the system says, of the file that was meant.
    """
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        yield part
        part.replace(path)
    except BrokenPipeError:
        raise
    except OSError as why:
        if why.filename is not None and Path(why.filename) != part:
            raise
        reason = f"must be writable: {os.strerror(why.errno) if why.errno else why}"
        raise OSError(why.errno or errno.EIO, reason, str(path)) from None
    finally:
        part.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Write a text file, whole or not at all."""
    with aside(path) as part:
        part.write_text(text, encoding="utf-8")
