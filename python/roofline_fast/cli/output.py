"""Where results go: the screen, JSON or CSV on stdout, and files by suffix."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from roofline_fast.atomic_file import aside, write_text
from roofline_fast.cli.figures import folded
from roofline_fast.errors import SpecError
from roofline_fast.frames import without_lists
from roofline_fast.suggest import choice

if TYPE_CHECKING:
    import polars as pl

FORMATS = ("table", "json", "csv")
SUFFIXES = (".parquet", ".csv", ".jsonl", ".json", ".html")
PICTURE = ".svg"
STYLE = (
    "body{font:14px sans-serif}table{border-collapse:collapse}th,td{padding:.2em .6em;text-align:left}"
    "th{position:sticky;top:0;background:#eee}tr:nth-child(even){background:#f7f7f7}"
    ".number{text-align:right;font-variant-numeric:tabular-nums}"
)
# What is written into folders.
FOLDER = (
    "summary.json",
    "curve.parquet",
    "requests.parquet",
    "request_times.parquet",
    "steps.parquet",
    "timeline.parquet",
)


def checked(form: str, output: Path | None, *inputs: str | None, pictures: bool = False) -> None:
    """Refuse an unknown format or suffix, or a file that is read too, before any work is done."""
    choice("format", form, FORMATS)
    if output is not None:
        checked_file("--output", output, inputs, (*SUFFIXES, PICTURE) if pictures else SUFFIXES)


def checked_file(
    flag: str, output: Path, inputs: Iterable[str | None], suffixes: tuple[str, ...] = SUFFIXES
) -> None:
    """Refuse a file of another format, in a folder that is absent, or that is read too."""
    if output.suffix.lower() not in suffixes:
        known = ", ".join(suffixes)
        raise SpecError(f"{flag} must end in one of {known}: {output}", field=flag, value=str(output))
    check_place(output, *inputs, flag=flag)


def check_place(output: Path, *inputs: str | None, flag: str = "--output") -> None:
    """Refuse a file in a folder that is absent or may not be written to, or one that is read too."""
    if not output.parent.is_dir():
        message = f"{flag} must lie in a folder that exists: {output}"
        hint = f"make {output.parent} first, or choose another folder"
        raise SpecError(message, field=flag, value=str(output), hint=hint)
    _check_writable(output.parent, flag)
    if output.is_dir():
        message = f"{flag} must be a file: {output} is a folder"
        raise SpecError(message, field=flag, value=str(output))
    for given in inputs:
        if given is not None and _same_file(output, Path(given)):
            message = f"{flag} must be another file than the input: {output}"
            hint = "what is read would be overwritten; choose another name"
            raise SpecError(message, field=flag, value=str(output), hint=hint)


def is_folder(output: Path) -> bool:
    """Return whether results go to a folder: one that exists, or a name without a suffix."""
    return output.is_dir() or not output.suffix


def check_folder(output: Path, *inputs: str | None) -> None:
    """Refuse a folder that cannot be made or filled, or in which the input lies under a name that is written."""
    place = output.absolute()
    while not place.exists():
        place = place.parent
    if not place.is_dir():
        message = f"--output must lie in a folder: {output}, but {place} is a file"
        raise SpecError(message, field="--output", value=str(output))
    _check_writable(place, "--output")
    for given in inputs:
        if (
            given is not None
            and Path(given).name in FOLDER
            and _same_file(output / Path(given).name, Path(given))
        ):
            message = f"--output must be another folder than the input's: {output}"
            hint = f"{Path(given).name}, which is read, would be overwritten"
            raise SpecError(message, field="--output", value=str(output), hint=hint)


def _check_writable(folder: Path, flag: str) -> None:
    if not os.access(folder, os.W_OK):
        message = f"{flag} must lie in a folder that may be written to: {folder}"
        raise SpecError(message, field=flag, value=str(folder), hint="choose another place")


def _same_file(output: Path, given: Path) -> bool:
    """Return whether both are one file, links included; a folder means the ``config.json`` in it."""
    try:
        read = given.expanduser()
        return output.samefile(read / "config.json" if read.is_dir() else read)
    except (OSError, ValueError, RuntimeError):
        return False


def width() -> int | None:
    """Return the columns of the terminal that stdout is, if it is one."""
    return shutil.get_terminal_size().columns if sys.stdout.isatty() else None


def show(
    form: str, *, screen: Callable[[], str], record: Callable[[], Any], frame: Callable[[], pl.DataFrame]
) -> None:
    """Write a result to stdout: a screen for people, one JSON object, or its table as CSV."""
    if form == "json":
        text = json.dumps(record(), ensure_ascii=False, indent=2, allow_nan=False) + "\n"
    elif form == "csv":
        text = without_lists(frame()).write_csv()
    else:
        text, columns = screen().rstrip("\n") + "\n", width()
        if columns is not None:
            text = folded(text, columns)
    sys.stdout.write(text)
    sys.stdout.flush()


def save(frame: pl.DataFrame, path: Path) -> None:
    """Write a table to a file, in the format its suffix says; the file appears whole or not at all."""
    suffix = path.suffix.lower()
    with aside(path) as part:
        if suffix == ".parquet":
            frame.write_parquet(part, compression="zstd", compression_level=1)
        elif suffix == ".csv":
            without_lists(frame).write_csv(part)
        elif suffix == ".jsonl":
            frame.write_ndjson(part)
        elif suffix == ".html":
            part.write_text(_page(frame, path.stem), encoding="utf-8")
        else:
            frame.write_json(part)


def _page(frame: pl.DataFrame, title: str) -> str:
    """Return a table as a page that needs no other file; numbers as they are, to be copied."""
    from html import escape

    numbers = [dtype.is_numeric() for dtype in frame.dtypes]
    head = "".join(f"<th>{escape(name)}</th>" for name in frame.columns)
    kinds = ['<td class="number">' if number else "<td>" for number in numbers]
    rows = [
        "".join(
            f"{kind}{'' if value is None else escape(str(value))}</td>"
            for kind, value in zip(kinds, row, strict=True)
        )
        for row in frame.iter_rows()
    ]
    body = "\n".join(f"<tr>{row}</tr>" for row in rows)
    name = escape(title)
    return (
        f'<!doctype html>\n<html lang="en">\n<meta charset="utf-8">\n<title>{name}</title>\n<style>{STYLE}</style>\n'
        f"<table>\n<thead><tr>{head}</tr></thead>\n<tbody>\n{body}\n</tbody>\n</table>\n</html>\n"
    )


def save_record(record: Any, path: Path) -> None:
    """Write one JSON object to a file, whole or not at all."""
    write_text(path, json.dumps(record, ensure_ascii=False, indent=2, allow_nan=False) + "\n")


@contextlib.contextmanager
def folder(path: Path) -> Iterator[Path]:
    """Give a folder beside that one to write to; when done all of it moves there, which is made with its parents."""
    path = path.absolute()
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    part.mkdir()
    try:
        yield part
        if path.is_dir():
            for file in sorted(part.iterdir()):
                file.replace(path / file.name)
        else:
            part.rename(path)
    finally:
        shutil.rmtree(part, ignore_errors=True)
