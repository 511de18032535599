"""Names and techniques in files of settings: every mistake, each with its path."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any

from roofline_fast import _core, checks
from roofline_fast.errors import RooflineError, SpecError, UnknownNameError
from roofline_fast.suggest import nearest, unknown

# A device to ask engines about: which ones there are does not depend on it.
ANY_DEVICE = "h100-sxm"


def entries(content: Mapping[str, Any], path: str = "") -> Iterator[tuple[str, Any]]:
    """Give each setting with its path; tables group settings, and mean nothing of their own."""
    for key, value in content.items():
        if isinstance(value, Mapping):
            yield from entries(value, f"{path}{key}.")
        else:
            yield f"{path}{key}", value


def mistakes(settings: Mapping[str, Any], path: str = "") -> Iterator[str]:
    """Give what is wrong with the names among some settings, ``path: what must hold: what was (hint)``.

    Parameters
    ----------
    settings : mapping
        Names of settings and their values: one, or a list of alternatives. Other values than texts are left alone.
    path : str
        What stands before each setting (``axes.``).
    """
    for name, given in settings.items():
        if name == "techniques":
            yield from of_choices(given, f"{path}{name}")
        elif name in _CHECKS:
            values = given if isinstance(given, list | tuple) else str(given).split(",")
            for place, value in enumerate(values):
                where = f"{path}{name}[{place}]" if len(values) > 1 else f"{path}{name}"
                if isinstance(value, str):
                    yield from _said(where, partial(_CHECKS[name], value.strip()))


def of_value(name: str, path: str, value: Any) -> list[str]:
    """Return what is wrong with a value that names something, under the path that the user wrote."""
    if name not in _CHECKS or not isinstance(value, str):
        return []
    return list(_said(path, partial(_CHECKS[name], value)))


def of_settings(given: Mapping[str, Any], paths: Mapping[str, str], *, traffic: bool = True) -> Iterator[str]:
    """Give what is wrong with texts and numbers among settings, each with the path the user wrote.

    Parameters
    ----------
    given : mapping
        Keywords of `simulate` (or of another command) and their values, of the kind that each must be of.
    paths : mapping
        The path of each.
    traffic : bool
        Whether lengths and rates are those of a generator; elsewhere they mean something else.
    """
    for name, value in given.items():
        if name in _TEXTS and isinstance(value, str):
            yield from _said(paths[name], partial(_TEXTS[name], value))
        elif name in _AXES and isinstance(value, int) and value < 1:
            yield f"{paths[name]} must be at least 1: {value}"
    engine = given.get("engine")
    if isinstance(engine, str) and not of_value("engine", "", engine):
        for name in filter(_knobs().__contains__, given):
            yield from _said(paths[name], partial(_knob, engine, name, given[name]))
    if traffic:
        yield from _of_traffic(given, paths)


def _of_traffic(given: Mapping[str, Any], paths: Mapping[str, str]) -> Iterator[str]:
    """Give what is wrong with words of a generator, by themselves and together."""
    from roofline_fast.traffic.kinds import expanded
    from roofline_fast.traffic.workload import TRAFFIC, texts

    words = {word: given[word] for word in TRAFFIC if isinstance(given.get(word), str)}
    rates = [part.strip() for part in words.get("request_rate", "").split(",")]
    for rate in rates[1:]:
        yield from _said(
            paths["request_rate"], partial(_core.Trace.check, [*_ENOUGH, ("request_rate", rate)])
        )
    words |= {"request_rate": rates[0]} if len(rates) > 1 else {}
    if "workload" in words:
        found = list(_said(paths["workload"], partial(expanded, {"workload": words["workload"]})))
        yield from found
        words = (
            expanded(words)
            if not found
            else {word: text for word, text in words.items() if word != "workload"}
        )
    while words:
        some = (
            [*_ENOUGH, *words.items()] if not {"num_prompts", "duration"} & words.keys() else [*words.items()]
        )
        try:
            return _core.Trace.check(texts(dict(some)))
        except RooflineError as error:
            about = [word for word, text in words.items() if word in paths and _is_about(error, word, text)]
            if not about:
                return None
            yield _told(paths[about[0]], error)
            del words[about[0]]
    return None


def _is_about(error: RooflineError, word: str, text: str) -> bool:
    """Return whether an error is one of that word, or of a name in its text."""
    named = isinstance(error, UnknownNameError) and bool(error.value) and str(error.value) in text
    return error.field.partition(":")[0] == word or named


def check(settings: Mapping[str, Sequence[Any]]) -> None:
    """Refuse what no combination of these settings could be: unknown names, texts and sizes that none reads.

    Parameters
    ----------
    settings : mapping
        Keywords of `simulate`, each with the values that it takes in turn.

    Raises
    ------
    RooflineError
        The first that is wrong.
    """
    for name, values in settings.items():
        for value in values:
            if isinstance(value, str) and (read := _CHECKS.get(name) or _TEXTS.get(name)):
                read(value)
            elif name in _SIZES and value is not None:
                checks.counts(**{name: value})
                if value < 1:
                    raise SpecError(f"{name} must be at least 1: {value}", field=name, value=str(value))
            elif name == "request_rate" and value is not None:
                _core.Trace.check([*_ENOUGH, (name, str(value))])


def of_choices(given: Any, path: str) -> Iterator[str]:
    """Give what is wrong with alternatives, each one text or several that are applied together."""
    from roofline_fast.sweeps import axes as sweep_axes

    if isinstance(given, str):
        parts = [part.strip() for part in given.split(",")]
        choices: Sequence[Any] = sweep_axes.values("techniques", given) if all(parts) else []
    else:
        choices = given if isinstance(given, list | tuple) else []
    for place, choice in enumerate(choices):
        where = f"{path}[{place}]" if len(choices) > 1 or not isinstance(given, str) else path
        if isinstance(choice, str):
            yield from _of_texts([choice], [where])
        elif isinstance(choice, list | tuple):
            texts = [text for text in choice if isinstance(text, str)]
            yield from _of_texts(texts, [f"{where}[{inner}]" for inner in range(len(texts))])


def of_set(given: Any, path: str) -> Iterator[str]:
    """Give what is wrong with techniques that are applied together: one text, or a list of texts."""
    texts = [given] if isinstance(given, str) else list(given)
    alone = isinstance(given, str)
    yield from _of_texts(texts, [path if alone else f"{path}[{place}]" for place in range(len(texts))])


def _of_texts(texts: Sequence[str], paths: Sequence[str]) -> Iterator[str]:
    for text, part, key, said, hint in _core.Deployment.mistakes(texts):
        parts = [each for each in texts[text].split("+") if each.strip() not in ("", "none")]
        of = f".{parts[part].partition(':')[0].strip()}" if len(parts) > 1 else ""
        told = f"{paths[text]}{of}{f'.{key}' if key else ''} {said}"
        yield f"{told} ({hint})" if hint else told


def not_known(path: str, name: str, known: Sequence[str]) -> str:
    """Return what is said of a setting that there is none of."""
    return f"{path} is not known (nearest: {', '.join(nearest(name, known))})"


def of_names(path: str, names: Any, kind: str, known: Sequence[str]) -> Iterator[str]:
    """Give which of a list of names are none of those known."""
    for place, name in enumerate(names if isinstance(names, list) else ()):
        if isinstance(name, str) and name not in known:
            yield _told(f"{path}[{place}]", unknown(kind, name, known))


def _said(path: str, check: Callable[[], Any]) -> Iterator[str]:
    try:
        check()
    except RooflineError as error:
        yield _told(path, error)


def _told(path: str, error: RooflineError) -> str:
    message = str(error)
    if isinstance(error, UnknownNameError):
        message = f"{path} must be a known {error.field}: {error.value}"
    elif message.startswith(f"{error.field} "):
        message = f"{path}{message[len(error.field) :]}"
    else:
        message = f"{path}: {message}"
    return f"{message} ({error.hint})" if error.hint else message


def _model(name: str) -> None:
    from roofline_fast.model import find_model

    find_model(name)


def _hardware(name: str) -> None:
    from roofline_fast.hardware import find_hardware

    find_hardware(name)


def _engine(name: str) -> None:
    from roofline_fast.hardware import find_hardware

    _core.Engine(name).memory(find_hardware(ANY_DEVICE).compiled)


def _knobs() -> set[str]:
    """Return the settings of engines that are no texts, and are checked by themselves."""
    from roofline_fast.simulation.run import SETTINGS

    return {*SETTINGS, "num_speculative_tokens"} - {"max_model_len", "kv_cache_memory_bytes"}


def _knob(engine: str, name: str, value: Any) -> None:
    from roofline_fast.hardware import find_hardware

    if isinstance(value, int) and not isinstance(value, bool):
        checks.counts(**{name: value})
    try:
        _core.Engine(engine, **{name: value}).memory(find_hardware(ANY_DEVICE).compiled)
    except TypeError:
        # Of which kind a value must be is told where kinds are read.
        return


def _reader(option: str) -> Callable[[str], Any]:
    return lambda text: _core.TraceOptions(**{option: text})  # type: ignore[arg-type]


def _window(text: str) -> None:
    from roofline_fast.traffic.trace_options import window

    window(text)


def _slo(text: str) -> None:
    checks.objectives(text)
    _core.Engine.check("slo", text)


def _ranks(text: str) -> None:
    checks.ranks(percentiles=text.replace(",", " ").split())


def _named(axis: str) -> Callable[[str], None]:
    return lambda name: _core.Space.check(axis, name)


# Which settings are names of something, and how a name is looked up.
_CHECKS: dict[str, Callable[[str], None]] = {
    "model": _model,
    "hw": _hardware,
    "engine": _engine,
    **{
        axis: _named(axis)
        for axis in (
            "quantization",
            "kv_cache_dtype",
            "fusion",
            "mode",
            "phase",
            "spec_method",
            "spec_acceptance",
        )
    },
}

# Settings that are texts with a grammar of their own, and how each is read.
_TEXTS: dict[str, Callable[[str], Any]] = {
    "slo": _slo,
    "percentiles": _ranks,
    "window": _window,
    "trace_format": _reader("format"),
    **{
        option: _reader(option)
        for option in (
            "columns",
            "csv_delimiter",
            "csv_decimal",
            "on_error",
            "priority_order",
            "time_format",
            "time_unit",
            "turn_lengths",
            "zero_output",
        )
    },
    **{
        word: partial(_core.Engine.check, word)
        for word in ("measure", "over_context", "session_mode", "step_cost", "warmup")
    },
}
_AXES = ("tp", "pp", "dp", "ep")
_SIZES = (*_AXES, "max_num_seqs", "max_num_batched_tokens", "block_size", "concurrency", "max_concurrency")
# What a generator must be told beside anything else.
_ENOUGH = [("num_prompts", "1")]
