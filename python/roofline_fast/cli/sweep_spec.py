"""What a sweep's file and flags ask for, put together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from roofline_fast.errors import SpecError
from roofline_fast.sweeps.llm_viewer import ViewerRun
from roofline_fast.sweeps.run import POINTS_A_PART, Run, limits_of
from roofline_fast.sweeps.simulations import SCENARIOS_A_PART, SimulateRun
from roofline_fast.sweeps.space import Space

if TYPE_CHECKING:
    import polars as pl

RANKED_BY = "tokens_per_gpu_s"
AnyRun = Run | SimulateRun | ViewerRun


def run_of(
    file: Path | None,
    assignments: Sequence[str],
    flags: Mapping[str, Sequence[str]],
    trace: str | None,
    asked: Mapping[str, Any],
) -> AnyRun:
    """Return the sweep that is asked for.

    Flags, each with every text it was given, win over what is set of the file, and that over the file.

    Raises
    ------
    SpecError
        Mistakes of the file, all at once; flags that contradict each other.
    """
    from roofline_fast.cli import sweep_file
    from roofline_fast.sweeps import scenario as sweep_scenario

    axes: dict[str, Any] = {}
    given: dict[str, Any] = {}
    simulate = asked["simulate"] or trace is not None
    scenario = None
    content = sweep_file.content(file, assignments)
    if content is not None and file is None:
        content = _alone(content, flags, trace, simulate=simulate)
    if content is not None:
        scenario = sweep_scenario.checked(content, "--set" if file is None else str(file))
        if isinstance(scenario, sweep_scenario.SimulateScenario):
            trace = trace or scenario.trace
            simulate = True
            axes = dict(scenario.axes)
        else:
            axes = sweep_scenario.axes_of(scenario)
    elif not flags:
        hint = (
            "for example `roofline-fast sweep space.toml`, or `--model llama-3.1-8b --hw h100,l40s --tp 1,2`"
        )
        raise SpecError("SPACE must be given, or axes as flags", field="SPACE", hint=hint)
    if scenario is not None:
        given = scenario.model_dump(exclude={"axes", "trace", "simulate"})
    axes |= {name: _values(name, texts) for name, texts in flags.items()}
    if asked["compat"] is not None:
        return _viewer(axes, asked, simulate=simulate)
    if simulate:
        return _simulate(trace, axes, asked, given)
    return _priced(axes, asked, given)


def _alone(
    content: dict[str, Any], flags: Mapping[str, Sequence[str]], trace: str | None, *, simulate: bool
) -> dict[str, Any]:
    """Return what is set without a file, together with the axes that flags give: a scenario needs some."""
    axes = {name: _values(name, texts) for name, texts in flags.items()}
    found = {**content, "axes": {**content.get("axes", {}), **axes}}
    if simulate:
        found |= {"simulate": True} if trace is None else {"trace": trace}
    return found


def _values(axis: str, texts: Sequence[str]) -> str | list[str]:
    """Return what a flag says that may be repeated: its values add up, techniques are joined as everywhere."""
    from roofline_fast.sweeps import axes as sweep_axes

    if axis != "techniques":
        return ",".join(texts)
    return sweep_axes.together([sweep_axes.values(axis, text) for text in texts])


def _kept(asked: Mapping[str, Any], file: Mapping[str, Any]) -> tuple[str, tuple[str, ...]]:
    """Return which rows are kept, and by what they are weighed."""
    objectives = tuple(file.get("objectives") or ())
    keep = asked["keep"] or file.get("keep", "feasible")
    if asked["pareto"] is not None:
        if asked["keep"] not in (None, "pareto"):
            raise SpecError(f"--keep must be pareto with --pareto: {asked['keep']}", field="--keep")
        keep, objectives = "pareto", tuple(_names("--pareto", asked["pareto"]))
    if asked["by"] is not None:
        if keep == "pareto":
            raise SpecError(
                "--by must be left out with --pareto, which ranks by its first result", field="--by"
            )
        objectives = (asked["by"],)
    for way, flag in (("pareto", "--pareto"), ("topk", "--by")):
        if keep == way and not objectives:
            hint = f"for example `{flag} {'tokens_per_gpu_s,tokens_per_user_s' if way == 'pareto' else RANKED_BY}`"
            raise SpecError(f"{flag} must be given with --keep {way}", field=flag, hint=hint)
    return keep, objectives


def _priced(axes: Mapping[str, Any], asked: Mapping[str, Any], file: Mapping[str, Any]) -> Run:
    keep, objectives = _kept(asked, file)
    columns = file.get("columns") if asked["columns"] is None else _names("--columns", asked["columns"])
    limits = limits_of({**(file.get("limits") or {}), **asked["limits"]}, asked["slo"])
    return Run(
        Space(axes),
        keep=keep,
        objectives=objectives,
        top=asked["top"] or file.get("top", 10),
        limits=limits,
        columns=None if columns is None else tuple(columns),
        points_a_part=asked["points_a_part"] or file.get("points_a_part") or POINTS_A_PART,
        threads=asked["threads"],
    )


def _simulate(
    trace: str | None, axes: Mapping[str, Any], asked: Mapping[str, Any], file: Mapping[str, Any]
) -> SimulateRun:
    limits = {**(file.get("limits") or {}), **asked["limits"]}
    if "within_context" in limits:
        hint = "simulate refuses contexts that are longer, or cuts them: --axis over_context=..."
        raise SpecError(
            "--within-context must be left out of simulations", field="--within-context", hint=hint
        )
    values = {name: _of_simulate(name, given) for name, given in axes.items()}
    if asked["slo"] is not None:
        values["slo"] = asked["slo"]
    keep, objectives = _kept(asked, file)
    figures = file.get("columns") if asked["columns"] is None else _names("--columns", asked["columns"])
    return SimulateRun(
        trace,
        values,
        keep=keep,
        objectives=objectives,
        top=asked["top"] or file.get("top", 10),
        figures=None if figures is None else tuple(figures),
        limits=limits,
        points_a_part=asked["points_a_part"] or file.get("points_a_part") or SCENARIOS_A_PART,
        threads=asked["threads"],
    )


def _viewer(axes: Mapping[str, Any], asked: Mapping[str, Any], *, simulate: bool) -> ViewerRun:
    """Return the sweep of another tool's figures, which ranks nothing and has no limits."""
    ranks = {
        "--trace": simulate,
        "--keep": asked["keep"] is not None,
        "--pareto": asked["pareto"] is not None,
        "--by": asked["by"] is not None,
        "--top": asked["top"] is not None,
        "--slo": asked["slo"] is not None,
        "limits": bool(asked["limits"]),
    }
    for flag, given in ranks.items():
        if given:
            hint = "its rows come in the order of the axes"
            raise SpecError(f"{flag} must be left out with --compat", field=flag, hint=hint)
    results = None if asked["columns"] is None else _names("--columns", asked["columns"])
    return ViewerRun(axes, asked["compat"], results)


def _of_simulate(axis: str, given: Any) -> Any:
    from roofline_fast.sweeps import axes as sweep_axes

    if axis == "techniques":
        return sweep_axes.values(axis, given)
    return _parsed(given) if isinstance(given, str) else given


def _parsed(text: str) -> list[Any]:
    """Return the values of a flag as numbers, truth values or names, whichever each of them is."""
    from roofline_fast.sweeps import axes as sweep_axes

    found: list[Any] = []
    for part in text.split(","):
        plain = part.strip()
        if ":" in plain and plain.replace(":", "").replace("x", "").isdigit():
            found += sweep_axes.values("batch_size", plain)
        elif plain.lower() in ("true", "false"):
            found.append(plain.lower() == "true")
        else:
            try:
                found.append(int(plain))
            except ValueError:
                try:
                    found.append(float(plain))
                except ValueError:
                    found.append(plain)
    return found


def _names(flag: str, text: str) -> list[str]:
    names = [name.strip() for name in text.split(",")]
    if not all(names):
        raise SpecError(f"{flag} must be names with commas between them: {text!r}", field=flag, value=text)
    return names


def picks(run: AnyRun) -> bool:
    """Return whether only the best rows are kept."""
    return run.picks


def in_order(run: AnyRun) -> bool:
    """Return whether rows keep the order of the axes, because nothing ranks them."""
    return isinstance(run, ViewerRun) or (isinstance(run, SimulateRun) and not run.objectives)


def window(run: AnyRun, points: int) -> int:
    """Return how many points are read at a time."""
    return points if isinstance(run, Run) else run.points_a_part


def best(run: AnyRun, rows: pl.DataFrame, count: int) -> pl.DataFrame:
    """Return the best of some rows: a front whole, otherwise the first few by what the sweep ranks by."""
    if not isinstance(run, ViewerRun) and run.picks:
        return run.pick(rows)
    if in_order(run):
        return rows.head(200)
    from roofline_fast import _core
    from roofline_fast.sweeps.dataset import columns_of

    objective = run.objectives[0] if run.objectives else RANKED_BY
    if objective.rpartition(":")[2] not in rows.columns:
        return rows.head(count)
    known = rows.filter(rows[objective.rpartition(":")[2]].is_not_null())
    return known[_core.Space.pick(columns_of(known, [objective]), "topk", [objective], count)]


def ranked_by(run: AnyRun) -> str:
    """Return what its best rows are ranked by."""
    return run.objectives[0] if run.objectives else RANKED_BY
