"""Settings of techniques that stand in files: what was measured of drafts and of routing (``accept=@FILE``)."""

from __future__ import annotations

import csv
import io
import json
import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from roofline_fast.errors import MissingFileError, SpecError
from roofline_fast.json_text import parsed

# A setting whose value is a file: up to the next setting or technique.
NAMED = re.compile(r"(?P<key>[\w-]+)\s*=\s*@(?P<path>[^,+]*)")
SUFFIXES = (".csv", ".json", ".jsonl", ".ndjson", ".parquet")
# More numbers than this are not spelled out on screens.
SHOWN = 8

Rows = list[tuple[int, dict[str, Any]]]


def inline(text: str) -> str:
    """Return techniques with what their files say in the place of the files.

    Parameters
    ----------
    text : str
        Techniques as one writes them. The value of ``accept`` and ``recorded`` (drafts) and of ``loads``
        (routing) may be ``@`` and a file that ends in .csv, .json, .jsonl or .parquet, whose path has neither
        commas nor pluses. Files of drafts have a column ``acceptance``, the chance of a position if those
        before it were accepted, in order or by ``position``; or ``accepted`` and ``drafts`` of each position,
        as engines count them; recorded runs a column ``accepted`` with one row a verification, or one for
        each value and its ``count``. Files of routing have a column ``load`` (or ``tokens``, ``visits``) in
        the order of experts or by ``expert``, or a column ``experts`` with those that each token visited;
        where there is a ``layer``, the busiest experts of the layers are averaged, then the next. A list of
        numbers in a JSON file, or a CSV file of one column without a header, is the column.

    Raises
    ------
    MissingFileError
        A file that is not there.
    SpecError
        A file that is empty, of another kind, or holds something else: with its line.

    Examples
    --------
    >>> from roofline_fast.technique_files import inline
    >>> inline("spec:method=eagle,gamma=2,accept=0.8/0.6")
    'spec:method=eagle,gamma=2,accept=0.8/0.6'
    """
    return NAMED.sub(_said, text)


def chances(path: str) -> list[float]:
    """Return the chances that a file of accepted drafts holds, one a position; refused as by `inline`."""
    return _chances("spec_acceptance", path, _rows("spec_acceptance", path, "acceptance"))


def short(text: str) -> str:
    """Return a technique as screens show it: of long lists the first numbers and how many there are.

    Examples
    --------
    >>> from roofline_fast.technique_files import short
    >>> short("experts:loads=" + "/".join(["7"] * 64))
    'experts:loads=7/7/7/… (64)'
    """

    def cut(found: re.Match[str]) -> str:
        numbers = found[0].split("/")
        return found[0] if len(numbers) <= SHOWN else f"{'/'.join(numbers[:3])}/… ({len(numbers)})"

    return re.sub(r"(?<==)[^,]*/[^,]*", cut, text)


def _said(found: re.Match[str]) -> str:
    key, path = found["key"].lower().replace("_", "-"), found["path"].strip()
    known: Mapping[str, tuple[str, str, Callable[[str, str, Rows], Iterable[Any]]]] = {
        "accept": ("spec:accept", "acceptance", _chances),
        "recorded": ("spec:recorded", "accepted", _recorded),
        "loads": ("experts:loads", "load", _loads),
    }
    if key not in known:
        message = f"{key} must be given in the text: @{path}"
        hint = "files are read for spec:accept, spec:recorded and experts:loads"
        raise SpecError(message, field=key, value=f"@{path}", hint=hint)
    field, column, of = known[key]
    return f"{found['key']}={'/'.join(str(value) for value in of(field, path, _rows(field, path, column)))}"


def _wrong(field: str, path: str, line: int, must: str, value: Any, hint: str = "") -> SpecError:
    place = f"{path}:{line}" if line else path
    return SpecError(f"{place}: {field} {must}: {value}", field=field, value=str(value), hint=hint)


def _rows(field: str, path: str, column: str) -> Rows:
    """Return the rows of a file with their lines, counted from 1; nameless numbers under the name `column`."""
    place = Path(path).expanduser()
    if not path or not place.is_file():
        hint = "a file is named after @, for example @accepted.csv"
        raise MissingFileError(
            f"{field} must be a file that exists: @{path}", field=field, value=path, hint=hint
        )
    suffix = place.suffix.lower()
    if suffix not in SUFFIXES:
        raise _wrong(field, path, 0, f"must be a file that ends in one of {', '.join(SUFFIXES)}", place.name)
    if suffix == ".parquet":
        rows = _parquet(field, path, place)
    else:
        try:
            text = place.read_text(encoding="utf-8-sig")
        except (UnicodeDecodeError, OSError) as why:
            raise _wrong(field, path, 0, "must be a text that can be read", why) from None
        rows = {".csv": _csv, ".json": _json}.get(suffix, _jsonl)(field, path, column, text)
    if not rows:
        raise _wrong(field, path, 0, "must hold numbers", "no rows", f"one a row, in a column {column}")
    return rows


def _parquet(field: str, path: str, place: Path) -> Rows:
    import polars as pl

    try:
        return list(enumerate(pl.read_parquet(place, glob=False).to_dicts(), 1))
    except (pl.exceptions.PolarsError, OSError) as why:
        raise _wrong(field, path, 0, "must be a Parquet file", str(why).partition("\n")[0]) from None


def _csv(field: str, path: str, column: str, text: str) -> Rows:
    reader = csv.reader(io.StringIO(text))
    lines = [(reader.line_num, [cell.strip() for cell in cells]) for cells in reader if any(cells)]
    if not lines:
        return []
    header = [name.lower() for name in lines[0][1]]
    if len(header) == 1 and _number(header[0]) is not None:
        header = [column]
    else:
        lines = lines[1:]
    rows: Rows = []
    for line, cells in lines:
        if len(cells) != len(header):
            raise _wrong(field, path, line, f"must have {len(header)} cells a row", len(cells))
        rows.append((line, dict(zip(header, cells, strict=True))))
    return rows


def _json(field: str, path: str, column: str, text: str) -> Rows:
    try:
        found = parsed(text) if text.strip() else []
    except json.JSONDecodeError as why:
        raise _wrong(field, path, why.lineno, "must be JSON", why.msg) from None
    if isinstance(found, dict):
        columns = {str(name).lower(): values for name, values in found.items() if isinstance(values, list)}
        if len({len(values) for values in columns.values()}) != 1:
            raise _wrong(
                field, path, 0, "must be a list, or lists of equal length by name", type(found).__name__
            )
        found = [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]
    if not isinstance(found, list):
        raise _wrong(field, path, 0, "must be a list, or lists of equal length by name", type(found).__name__)
    return [(0, _row(value, column)) for value in found]


def _jsonl(field: str, path: str, column: str, text: str) -> Rows:
    rows: Rows = []
    for line, each in enumerate(text.splitlines(), 1):
        if each.strip():
            try:
                rows.append((line, _row(parsed(each), column)))
            except json.JSONDecodeError as why:
                raise _wrong(field, path, line, "must be JSON on each line", why.msg) from None
    return rows


def _row(value: Any, column: str) -> dict[str, Any]:
    return (
        {str(name).lower(): each for name, each in value.items()}
        if isinstance(value, dict)
        else {column: value}
    )


def _number(value: Any) -> float | None:
    try:
        number = None if isinstance(value, bool) else float(value)
    except (TypeError, ValueError):
        return None
    return number if number is not None and number == number else None


def _column(
    field: str, path: str, rows: Rows, names: Sequence[str], least: float, most: float, whole: bool = False
) -> list[float]:
    """Return the numbers of the first of these columns that is there."""
    name = next((name for name in names if name in rows[0][1]), None)
    if name is None:
        hint = f"it has {', '.join(rows[0][1]) or 'none'}"
        raise _wrong(field, path, rows[0][0], f"must have a column {' or '.join(names)}", "none", hint)
    what = "whole numbers" if whole else "numbers"
    numbers: list[float] = []
    for line, row in rows:
        number = _number(row.get(name))
        if number is None or not least <= number <= most or (whole and number != int(number)):
            span = f"from {least:g} to {most:g}" if most < float("inf") else f"of at least {least:g}"
            raise _wrong(
                field, path, line, f"must be {what} {span} in column {name}", row.get(name, "absent")
            )
        numbers.append(number)
    return numbers


def _in_order(field: str, path: str, rows: Rows, name: str) -> Rows:
    """Return rows in the order of a column of places, if there is one: each place once, none left out."""
    if name not in rows[0][1]:
        return rows
    places = _column(field, path, rows, [name], 0, float("inf"), whole=True)
    ordered = sorted(zip(places, range(len(rows)), strict=True))
    first = ordered[0][0]
    for expected, (place, row) in enumerate(ordered, int(first)):
        if place != expected or first > 1:
            raise _wrong(field, path, rows[row][0], f"must have each {name} once, from 0 or 1 up", int(place))
    return [rows[row] for _, row in ordered]


def _chances(field: str, path: str, rows: Rows) -> list[float]:
    rows = _in_order(field, path, rows, "position")
    if "accepted" in rows[0][1] and "drafts" in rows[0][1]:
        accepted = _column(field, path, rows, ["accepted"], 0, float("inf"))
        drafts = _column(field, path, rows, ["drafts"], 0, float("inf"))
        given = [drafts[0], *accepted[:-1]]
        for (line, _), held, before in zip(rows, accepted, given, strict=True):
            if held > before:
                raise _wrong(
                    field,
                    path,
                    line,
                    f"must have accepted at most the {before:g} that got there",
                    f"{held:g}",
                )
        return [held / before if before else 0.0 for held, before in zip(accepted, given, strict=True)]
    return _column(field, path, rows, ["acceptance", "accept", "rate", "chance"], 0, 1)


def _recorded(field: str, path: str, rows: Rows) -> list[str]:
    accepted = _column(field, path, rows, ["accepted"], 0, 4096, whole=True)
    counted = "count" in rows[0][1]
    times = _column(field, path, rows, ["count"], 0, 2**53, whole=True) if counted else [1] * len(rows)
    found: Counter[int] = Counter()
    for value, count in zip(accepted, times, strict=True):
        found[int(value)] += int(count)
    return [f"{value}x{count}" for value, count in sorted(found.items())]


def _loads(field: str, path: str, rows: Rows) -> list[str]:
    layers: dict[Any, Rows] = {}
    for line, row in rows:
        layers.setdefault(row.get("layer"), []).append((line, row))
    found = [_of_layer(field, path, layer) for layer in layers.values()]
    most = max(len(loads) for loads in found)
    if len(found) == 1:
        return [f"{load:g}" for load in found[0]]
    # Layers are uneven each in its own way: what they have in common is how uneven they are.
    ranked = [sorted(loads + [0.0] * (most - len(loads)), reverse=True) for loads in found]
    shares = [[load / sum(loads) if sum(loads) else 0.0 for load in loads] for loads in ranked]
    return [f"{sum(place) / len(shares):.6g}" for place in zip(*shares, strict=True)]


def _of_layer(field: str, path: str, rows: Rows) -> list[float]:
    """Return the visits of each expert of one layer."""
    lists = next((name for name in ("experts", "expert_ids") if name in rows[0][1]), None)
    if lists is None:
        rows = _in_order(field, path, rows, "expert")
        return _column(field, path, rows, ["load", "loads", "tokens", "visits", "count"], 0, float("inf"))
    visits: Counter[int] = Counter()
    for line, row in rows:
        experts = row.get(lists)
        if isinstance(experts, str):
            experts = experts.replace(";", " ").split()
        for expert in experts if isinstance(experts, list | tuple) else [experts]:
            number = _number(expert)
            if number is None or number < 0 or number != int(number):
                raise _wrong(field, path, line, f"must be whole numbers in column {lists}", expert)
            visits[int(number)] += 1
    return [float(visits[expert]) for expert in range(max(visits, default=-1) + 1)]
