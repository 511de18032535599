"""A sweep's scenario file, with what ``--set`` says of it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from roofline_fast.errors import SpecError
from roofline_fast.json_text import parsed
from roofline_fast.suggest import nearest

# Settings of a file that hold several names.
LISTS = ("columns", "objectives")


def named(space: Path | None, config: Path | None) -> Path | None:
    """Return the file, which may be named in one of two ways.

    Raises
    ------
    SpecError
        It is named in both.
    """
    if space is not None and config is not None:
        raise SpecError(f"SPACE must be given once: {space} and --config {config}", field="SPACE")
    return config if space is None else space


def content(file: Path | None, assignments: Sequence[str]) -> dict[str, Any] | None:
    """Return what the file says, and what is set of it otherwise; nothing where there is neither.

    Raises
    ------
    SpecError
        A file that cannot be read; a word that is no ``KEY=VALUE``, or sets what there is not, or twice.
    """
    from roofline_fast.sweeps import scenario as sweep_scenario

    if file is None and not assignments:
        return None
    found: dict[str, Any] = {} if file is None else sweep_scenario.read(file)
    before = set()
    for word in assignments:
        path, value = _assigned(word)
        if path in before:
            raise SpecError(f"--set must set {'.'.join(path)} once: {word}", field="--set", value=word)
        before.add(path)
        group = found
        for name in path[:-1]:
            group = group.setdefault(name, {})
        group[path[-1]] = value
    return found


def _assigned(word: str) -> tuple[tuple[str, ...], Any]:
    """Return where a word sets what: ``axes.tp=1,2``, ``tp=1,2``, ``limits.max_gpus=8``, ``keep=all``."""
    from roofline_fast.sweeps import axes as sweep_axes
    from roofline_fast.sweeps.scenario import Scenario, SimulateScenario
    from roofline_fast.sweeps.simulations import known_axes

    key, equals, text = word.partition("=")
    if not equals:
        hint = "for example `--set axes.tp=1,2` or `--set limits.max_gpus=8`"
        raise SpecError(f"--set must be KEY=VALUE: {word}", field="--set", value=word, hint=hint)
    names = key.strip().replace("-", "_").split(".")
    axes = {*sweep_axes.COUNTS, *sweep_axes.NUMBERS, *sweep_axes.FLAGS, *sweep_axes.NAMES, *known_axes()}
    whole = ({*Scenario.model_fields} | {*SimulateScenario.model_fields}) - {"axes", "limits"}
    if len(names) == 1 and names[0] in whole:
        return (names[0],), text.split(",") if names[0] in LISTS else _plain(text)
    if names[0] == "limits" and len(names) == 2:
        return (names[0], names[1]), _plain(text)
    name = {"with": "techniques"}.get(names[-1], names[-1])
    if name not in axes or names[:-1] not in ([], ["axes"]):
        hint = f"nearest: {', '.join(nearest(names[-1], axes | whole))}"
        raise SpecError(f"--set must set what a scenario has: {key}", field="--set", value=word, hint=hint)
    return ("axes", name), _values(name, text)


def _values(axis: str, text: str) -> Any:
    from roofline_fast.sweeps import axes as sweep_axes

    if axis in (*sweep_axes.COUNTS, *sweep_axes.NUMBERS, *sweep_axes.FLAGS, *sweep_axes.NAMES):
        return sweep_axes.values(axis, text)
    values = [_plain(part.strip()) for part in text.split(",")]
    return values[0] if len(values) == 1 else values


def _plain(text: str) -> Any:
    """Return a number, a truth value, or the text itself."""
    try:
        value = parsed(text)
    except ValueError:
        return text
    return value if isinstance(value, bool | int | float) else text
