"""Settings of a command from a file (``--config``) and by name (``--set``), beneath what its flags say."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Any

import typer

from roofline_fast.errors import SpecError

SCENARIO = "Settings from a file"
# What a file may not hold: they say where settings come from.
_OWN = ("config", "assignments", "help")
_TRUE, _FALSE = ("true", "yes", "on", "1"), ("false", "no", "off", "0")


def _from_file(ctx: typer.Context, value: Path | None) -> Path | None:
    """Take the settings of a file as defaults, or name all its mistakes at once."""
    if value is None or ctx.resilient_parsing:
        return value
    from roofline_fast import scenario_names
    from roofline_fast.sweeps.scenario import read

    content = read(value, "--config")
    _take(ctx, list(scenario_names.entries(content)), f"{value}", "--config", text=False)
    return value


def _from_words(ctx: typer.Context, value: list[str] | None) -> list[str] | None:
    """Take settings given as ``key=value`` as defaults; they come before a file's."""
    if not value or ctx.resilient_parsing:
        return value
    entries = []
    for word in value:
        key, equals, given = word.partition("=")
        if not equals:
            hint = "for example `--set max_num_seqs=64`"
            raise SpecError(f"--set must be KEY=VALUE: {word}", field="--set", value=word, hint=hint)
        entries.append((key.strip(), given.strip()))
    _take(ctx, entries, "--set", "--set", text=True)
    return value


Config = Annotated[
    Path | None,
    typer.Option(
        "--config",
        "-c",
        "--scenario",
        metavar="FILE",
        help="TOML or JSON: flags by their names, with `_` for `-`; flags given here win.",
        is_eager=True,
        callback=_from_file,
        rich_help_panel=SCENARIO,
    ),
]
Assignments = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="KEY=VALUE",
        help="One setting of the file, otherwise; repeatable.",
        is_eager=True,
        callback=_from_words,
        rich_help_panel=SCENARIO,
    ),
]


def _take(ctx: typer.Context, entries: list[tuple[str, Any]], origin: str, field: str, *, text: bool) -> None:
    """Put settings where the command looks for what its flags do not say.

    Raises
    ------
    SpecError
        All that is wrong with them, each with its path.
    """
    from roofline_fast import scenario_names
    from roofline_fast.sweeps.scenario import several

    known = _names(ctx)
    taken: dict[str, Any] = {}
    paths: dict[str, str] = {}
    mistakes = []
    for path, value in entries:
        key = path.rpartition(".")[2].replace("-", "_")
        if key not in known:
            mistakes.append(scenario_names.not_known(path, key, list(known)))
            continue
        parameter = known[key]
        if parameter.name in taken and not (text and parameter.multiple):
            mistakes.append(f"{path} must be given once")
            continue
        kind, read = _read(parameter, value, text=text)
        if kind is not None:
            mistakes.append(f"{path} must be {kind}: {value!r}")
            continue
        mistakes += _misnamed(str(parameter.name), path, value)
        if parameter.name in taken:
            taken[parameter.name] += read
        else:
            taken[parameter.name] = read
            paths[parameter.name] = path
    texts = {name: " ".join(value) if name == "slo" else value for name, value in taken.items()}
    mistakes += scenario_names.of_settings(texts, paths, traffic="num_prompts" in known)
    if mistakes:
        places = {path: place for place, (path, _) in enumerate(entries)}
        mistakes.sort(
            key=lambda mistake: places.get(re.split(r"[ :\[]", mistake, maxsplit=1)[0], len(places))
        )
        hint = f"settings are the flags of `{ctx.command_path}`, with `_` for `-`; tables only group them"
        raise several(origin, mistakes, field, hint)
    before = dict(ctx.default_map or {})
    ctx.default_map = {**before, **taken} if text else {**taken, **before}


def _misnamed(name: str, path: str, value: Any) -> list[str]:
    """Return what is wrong with a value that names something."""
    from roofline_fast import scenario_names

    if name == "techniques":
        return list(scenario_names.of_set(value, path))
    return scenario_names.of_value({"model_flag": "model"}.get(name, name), path, value)


def _names(ctx: typer.Context) -> dict[str, Any]:
    """Return what can be set, under every name that it has."""
    known: dict[str, Any] = {}
    for parameter in ctx.command.params:
        if parameter.name in _OWN:
            continue
        known[str(parameter.name)] = parameter
        for name in parameter.opts:
            if name.startswith("--"):
                known[name[2:].replace("-", "_")] = parameter
    return known


def _read(parameter: Any, value: Any, *, text: bool) -> tuple[str | None, Any]:
    """Return what a value must be, if it is not; and the value as its flag would have it."""
    several = parameter.multiple or parameter.nargs == -1
    if several:
        values = value if isinstance(value, list) else [value]
        wrong = any(not isinstance(each, str) for each in values)
        return ("texts" if wrong else None), values
    kind = _kind(parameter)
    if kind is bool:
        if text and value.lower() in (*_TRUE, *_FALSE):
            return None, value.lower() in _TRUE
        return ("true or false" if not isinstance(value, bool) else None), value
    if isinstance(value, list):
        parts = [_text(part) for part in value]
        if kind is not str or None in parts:
            return "one value", value
        return None, ",".join(str(part) for part in parts)
    if kind in (int, float):
        return _number(kind, value, text=text)
    shown = _text(value)
    return (None, shown) if shown is not None else ("a text or a number", value)


def _kind(parameter: Any) -> type:
    """Return of which kind the values of a flag are; what is neither yes nor no nor a number is a text."""
    if getattr(parameter, "is_flag", False):
        return bool
    annotation = parameter.type_descriptor.annotation
    return annotation if annotation in (int, float) else str


def _number(kind: type, value: Any, *, text: bool) -> tuple[str | None, Any]:
    if text:
        try:
            return None, kind(value)
        except ValueError:
            pass
    elif not isinstance(value, bool) and isinstance(value, (int, kind)):
        return None, kind(value)
    return ("a whole number" if kind is int else "a number"), value


def _text(value: Any) -> str | None:
    """Return a text, or a number as text; nothing of what is neither."""
    if isinstance(value, str):
        return value
    return str(value) if isinstance(value, (int, float)) and not isinstance(value, bool) else None
