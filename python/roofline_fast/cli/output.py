"""Where results go: the screen, JSON or CSV on stdout, and files by suffix."""

from __future__ import annotations

import contextlib
import json
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from roofline_fast.errors import SpecError
from roofline_fast.suggest import choice

if TYPE_CHECKING:
    import polars as pl

FORMATS = ("table", "json", "csv")
SUFFIXES = (".parquet", ".csv", ".jsonl", ".json")


def checked(form: str, output: Path | None, *inputs: str | None) -> None:
    """Refuse an unknown format or suffix, or a file that is read too, before any work is done."""
    choice("format", form, FORMATS)
    if output is None:
        return
    if output.suffix.lower() not in SUFFIXES:
        known = ", ".join(SUFFIXES)
        raise SpecError(f"--output must end in one of {known}: {output}", field="--output", value=str(output))
    check_place(output, *inputs)


def check_place(output: Path, *inputs: str | None) -> None:
    """Refuse a file in a folder that is absent, or one that is read too."""
    if not output.parent.is_dir():
        message = f"--output must lie in a folder that exists: {output}"
        raise SpecError(message, field="--output", value=str(output))
    for given in inputs:
        if given is not None and _same_file(output, Path(given)):
            message = f"--output must be another file than the input: {output}"
            hint = "what is read would be overwritten; choose another name"
            raise SpecError(message, field="--output", value=str(output), hint=hint)


def _same_file(output: Path, given: Path) -> bool:
    """Return whether both are one file, links included; a folder means the ``config.json`` in it."""
    try:
        read = given.expanduser()
        return output.samefile(read / "config.json" if read.is_dir() else read)
    except (OSError, ValueError, RuntimeError):
        return False


def show(
    form: str, *, screen: Callable[[], str], record: Callable[[], Any], frame: Callable[[], pl.DataFrame]
) -> None:
    """Write a result to stdout: a screen for people, one JSON object, or its table as CSV."""
    if form == "json":
        text = json.dumps(record(), ensure_ascii=False, indent=2, allow_nan=False) + "\n"
    elif form == "csv":
        text = frame().write_csv()
    else:
        text = screen().rstrip("\n") + "\n"
    sys.stdout.write(text)
    sys.stdout.flush()


def save(frame: pl.DataFrame, path: Path) -> None:
    """Write a table to a file, in the format its suffix says; the file appears whole or not at all."""
    suffix = path.suffix.lower()
    with _aside(path) as aside:
        if suffix == ".parquet":
            frame.write_parquet(aside)
        elif suffix == ".csv":
            frame.write_csv(aside)
        elif suffix == ".jsonl":
            frame.write_ndjson(aside)
        else:
            frame.write_json(aside)


@contextlib.contextmanager
def _aside(path: Path) -> Iterator[Path]:
    aside = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        yield aside
        aside.replace(path)
    finally:
        aside.unlink(missing_ok=True)
