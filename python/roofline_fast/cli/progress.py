"""How far a long call has come, drawn on stderr while it runs."""

from __future__ import annotations

import contextlib
import sys
import threading
from collections.abc import Iterator
from typing import Protocol

WIDTH = 24
# Short calls draw nothing.
PATIENCE_S = 0.3
REFRESH_S = 0.1


class Progress(Protocol):
    """How far a call has come: units of work finished, and in all (0 until known)."""

    @property
    def done(self) -> int:
        """Units of work finished."""

    @property
    def total(self) -> int:
        """Units of work in all; 0 until known."""


@contextlib.contextmanager
def shown(label: str, progress: Progress, *, quiet: bool) -> Iterator[None]:
    """Draw a bar while the body runs, if stderr is a terminal; it is gone when the body ends."""
    if quiet or not sys.stderr.isatty():
        yield
        return
    done = threading.Event()
    painter = threading.Thread(target=_paint, args=(label, progress, done), daemon=True)
    painter.start()
    try:
        yield
    finally:
        done.set()
        painter.join()


def _paint(label: str, progress: Progress, done: threading.Event) -> None:
    if done.wait(PATIENCE_S):
        return
    while not done.wait(REFRESH_S):
        sys.stderr.write("\r" + line(label, progress.done, progress.total))
        sys.stderr.flush()
    sys.stderr.write("\r\x1b[K")
    sys.stderr.flush()


def line(label: str, done: int, total: int) -> str:
    """Return the bar as text: ``simulating ━━━━────  6,000/12,031``."""
    filled = WIDTH * min(done, total) // total if total else 0
    return f"  {label} {'━' * filled}{'─' * (WIDTH - filled)}  {done:,}/{total:,}"
