"""A frame of configurations in, the same rows with results out."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from difflib import SequenceMatcher
from os import PathLike
from typing import TYPE_CHECKING, Any, TypeVar

from roofline_fast import _core, checks
from roofline_fast.analysis import INPUT_LEN, MIXED_CHUNK, OUTPUT_LEN
from roofline_fast.errors import RooflineError, SpecError
from roofline_fast.hardware import find_hardware
from roofline_fast.model import find_model
from roofline_fast.prediction import MODES, switches
from roofline_fast.suggest import choice, nearest

if TYPE_CHECKING:
    import polars as pl

T = TypeVar("T")

COUNTS = ("tp", "pp", "dp", "ep", "batch_size", "input_len", "output_len", "prefix_len", "chunk")
TEXTS = ("quantization", "kv_cache_dtype", "techniques", "phase")
# What engines call drafts: the technique `spec` in other words.
DRAFTS = ("spec_method", "num_speculative_tokens", "spec_acceptance", "spec_model")
AXES = ("model", "hw", *COUNTS, *TEXTS, "mode", *DRAFTS)
# What users of engines call the axes, and what only a keyword may say.
SYNONYMS = {
    "tensor_parallel_size": "tp",
    "pipeline_parallel_size": "pp",
    "data_parallel_size": "dp",
    "expert_parallel_size": "ep",
    "batch": "batch_size",
    "bs": "batch_size",
    "isl": "input_len",
    "osl": "output_len",
    "dtype": "quantization",
    "hardware": "hw",
    "system": "hw",
    "gpu": "hw",
}
KEYWORDS_ONLY = (
    "engine",
    "efficiency",
    "act_quant",
    "launch",
    "p2p",
    "host",
    "gpu_memory_utilization",
    "block_size",
    "max_num_seqs",
    "max_num_batched_tokens",
    "columns",
    "progress",
)
OF_ANALYZE_ONLY = ("w_bits", "a_bits", "kv_bits", "fusion", "flash_attention", "overlap", "compat")
# Whole numbers that floats hold exactly are below this.
MOST_EXACT = 2.0**53
# How alike two names are, 0 to 1, from which one is taken for a slip of the other.
SLIP = 0.8
DEFAULTS: dict[str, Any] = {
    "tp": 1,
    "pp": 1,
    "dp": 1,
    "ep": 1,
    "batch_size": 1,
    "input_len": INPUT_LEN,
    "output_len": OUTPUT_LEN,
    "prefix_len": 0,
    "quantization": "auto",
    "kv_cache_dtype": "auto",
    "techniques": "none",
    "phase": "decode",
    "mode": "predicted",
}


@checks.named
def evaluate(
    frame: Any,
    *,
    model: Any = None,
    hw: Any = None,
    tp: int | None = None,
    pp: int | None = None,
    dp: int | None = None,
    ep: int | None = None,
    quantization: str | None = None,
    kv_cache_dtype: str | None = None,
    techniques: str | Sequence[str] | None = None,
    batch_size: int | None = None,
    input_len: int | None = None,
    output_len: int | None = None,
    prefix_len: int | None = None,
    chunk: int | None = None,
    phase: str | None = None,
    mode: str | None = None,
    spec_method: str | None = None,
    spec_model: str | None = None,
    num_speculative_tokens: int | None = None,
    spec_acceptance: float | Sequence[float] | str | None = None,
    efficiency: str | PathLike[str] | None = None,
    act_quant: str | None = None,
    launch: str | None = None,
    p2p: bool | None = None,
    host: Mapping[str, float] | None = None,
    engine: str = "vllm",
    gpu_memory_utilization: float | None = None,
    block_size: int | None = None,
    max_num_seqs: int | None = None,
    max_num_batched_tokens: int | None = None,
    columns: str | Sequence[str] | None = None,
    progress: _core.Progress | None = None,
) -> Any:
    """Price every row of a frame, by the same cost model as `analyze`.

    Parameters
    ----------
    frame : DataFrame, LazyFrame or mapping
        Configurations: columns named as the parameters of `analyze`; what is missing comes from the
        keywords, else from the defaults of `analyze`. Other columns stay as they are, unless their name is
        so near to a parameter's that a slip is likelier. A mapping holds lists, numpy arrays or single
        values; a LazyFrame is collected.
    model, hw, tp, pp, dp, ep, quantization, kv_cache_dtype : optional
        The value of all rows, where the frame has no such column.
    techniques : str or sequence of str, optional
        What is applied to all rows, as for `analyze`; in a column one text a row, joined by ``+``, ``none``
        for none.
    batch_size, input_len, output_len, prefix_len, chunk, phase, mode : optional
        The value of all rows, where the frame has no such column.
    spec_method, spec_model, num_speculative_tokens, spec_acceptance : optional
        Drafts, as for `analyze`, of all rows or in columns; ``spec_model`` is a name, and 0 tokens are no drafts.
    efficiency, act_quant, launch, p2p, host : optional
        What predictions of all rows rest on, as for `analyze`.
    engine, gpu_memory_utilization, block_size, max_num_seqs, max_num_batched_tokens : optional
        Whose kernels run, and whose division of the memory `fits` and `max_concurrency` speak of, as for
        `analyze`.
    columns : str or sequence of str, optional
        Which results are added; all unless said.
    progress : optional
        Counters to follow from another thread.

    Returns
    -------
    DataFrame or LazyFrame
        The same rows with ``step_s, ideal_s, low_s, high_s, ttft_s, tpot_s, e2e_s`` (seconds),
        ``tokens_per_gpu_s, tokens_per_user_s, bound, intensity`` (FLOP/B), ``weight_bytes, kv_bytes,
        memory_bytes, engine_memory_bytes, fits, max_concurrency, energy_j_per_token, usd_per_mtok``. A
        LazyFrame where a LazyFrame came in.

    Raises
    ------
    SpecError
        The first row that is not possible, by its number and column.

    Examples
    --------
    >>> import roofline_fast as rf
    >>> rows = {"tp": [1, 2, 4, 8], "batch_size": [8, 16, 32, 64]}
    >>> steps = rf.evaluate(rows, model="llama-3.1-8b", hw="h100-sxm", columns=["step_s", "bound"])
    >>> steps.columns
    ['tp', 'batch_size', 'step_s', 'bound']
    """
    import polars as pl

    given = {
        "tp": tp,
        "pp": pp,
        "dp": dp,
        "ep": ep,
        "quantization": quantization,
        "kv_cache_dtype": kv_cache_dtype,
        "techniques": " + ".join(checks.techniques(techniques)) or None,
        "batch_size": batch_size,
        "input_len": input_len,
        "output_len": output_len,
        "prefix_len": prefix_len,
        "chunk": chunk,
        "phase": phase,
        "mode": mode,
    }
    checks.counts(tp=tp, pp=pp, dp=dp, ep=ep, batch_size=batch_size, input_len=input_len)
    checks.counts(output_len=output_len, prefix_len=prefix_len, chunk=chunk)
    checks.positive(block_size=block_size, max_num_seqs=max_num_seqs)
    checks.positive(max_num_batched_tokens=max_num_batched_tokens)
    checks.numbers(gpu_memory_utilization=gpu_memory_utilization)
    checks.texts(phase=phase, quantization=quantization, kv_cache_dtype=kv_cache_dtype, mode=mode)
    checks.texts(spec_method=spec_method, spec_model=spec_model)
    checks.counts(num_speculative_tokens=num_speculative_tokens)
    checks.several(columns=columns)
    drafts = {
        "spec_method": spec_method,
        "num_speculative_tokens": num_speculative_tokens,
        "spec_acceptance": checks.chances(spec_acceptance=spec_acceptance),
        "spec_model": spec_model,
    }
    rows = _frame(frame)
    _check_columns(rows.columns)
    models, model_index = _distinct("model", model, frame, rows, find_model)
    devices, device_index = _distinct("hw", hw, frame, rows, find_hardware)
    axes = _axes(rows, given)
    axes["techniques"] = _drafted(axes["techniques"], rows, drafts)
    division = _core.Engine(
        engine,
        gpu_memory_utilization=gpu_memory_utilization,
        block_size=block_size,
        max_num_seqs=max_num_seqs,
        max_num_batched_tokens=max_num_batched_tokens,
    )
    configurations = _core.Configurations(
        rows.height,
        {**axes, "model": model_index, "hw": device_index},
        models=[each.compiled for each in models],
        devices=[each.compiled for each in devices],
        engines=[division.memory(each.compiled) for each in devices],
        engine=engine,
        **switches(efficiency, act_quant, launch, p2p, host),
    )
    wanted = [columns] if isinstance(columns, str) else list(columns or ())
    results = pl.DataFrame(configurations.evaluate(wanted, progress))
    if taken := [name for name in results.columns if name in rows.columns]:
        message = f"the frame must not have the result {taken[0]} already"
        raise SpecError(
            message, field=taken[0], hint="drop or rename the column, or leave it out of columns="
        )
    priced = pl.concat([rows, results], how="horizontal")
    return priced.lazy() if isinstance(frame, pl.LazyFrame) else priced


def _frame(frame: Any) -> pl.DataFrame:
    import polars as pl

    if isinstance(frame, pl.LazyFrame):
        return _typed(frame.collect())
    if isinstance(frame, Mapping):
        _check_lengths(frame)
        frame = {name: _names(values) for name, values in frame.items()}
    elif isinstance(frame, pl.Series) or not _is_table(frame):
        hint = 'for example {"batch_size": [1, 2, 4]}'
        message = f"frame must be a data frame or a mapping of columns: {frame!r}"
        raise SpecError(message, field="frame", value=repr(frame), hint=hint)
    try:
        rows = pl.DataFrame(frame)
    except (TypeError, ValueError, OverflowError, AttributeError, pl.exceptions.PolarsError) as why:
        message = (
            f"frame must have columns of equal length and one type each: {str(why).partition(chr(10))[0]}"
        )
        raise SpecError(message, field="frame") from None
    return _typed(rows)


def _is_table(frame: Any) -> bool:
    """Return whether it has columns: a frame of any library, or rows as dictionaries."""
    if isinstance(frame, list | tuple):
        return bool(frame) and all(isinstance(row, Mapping) for row in frame)
    return hasattr(frame, "__arrow_c_stream__") or hasattr(frame, "columns")


def _check_lengths(columns: Mapping[str, Any]) -> None:
    sized = {
        name: len(values)
        for name, values in columns.items()
        if hasattr(values, "__len__") and not isinstance(values, str)
    }
    if len(set(sized.values())) > 1:
        lengths = ", ".join(f"{name} {length:,}" for name, length in sized.items())
        raise SpecError(f"columns must have the same length: {lengths}", field="frame", value=lengths)


def _typed(rows: pl.DataFrame) -> pl.DataFrame:
    """Give columns without a value the types they would have, which nothing tells; refuse other kinds."""
    import polars as pl

    counts = (*COUNTS, "num_speculative_tokens")
    # Chances are numbers, or texts that hold several.
    known = [name for name in rows.columns if name in AXES and name != "spec_acceptance"]
    types = {name: pl.UInt32 if name in counts else pl.String for name in known}
    untold = {name: kind for name, kind in types.items() if not rows.height or rows[name].dtype == pl.Null}
    rows = rows.with_columns(pl.Series(name, [None] * rows.height, kind) for name, kind in untold.items())
    for name, kind in types.items():
        dtype = rows[name].dtype
        plain = dtype.is_numeric() and not isinstance(dtype, pl.Decimal | pl.Int128 | pl.UInt128)
        if name in counts and not plain:
            raise SpecError(
                f"{name} must be a column of whole numbers: {dtype}", field=name, value=str(dtype)
            )
        if kind == pl.String and not isinstance(dtype, pl.String | pl.Categorical | pl.Enum):
            raise SpecError(f"{name} must be a column of names: {dtype}", field=name, value=str(dtype))
        if name not in DRAFTS:
            _check_values(rows[name])
        if name in counts and dtype.is_float():
            rows = rows.with_columns(_whole(rows[name]))
    return rows


def _whole(column: pl.Series) -> pl.Series:
    """Return counts that came as floats as whole numbers; refuse others by their first row."""
    import polars as pl

    odd = (column.is_finite() & (column == column.round()) & (column.abs() < MOST_EXACT)).not_()
    if odd.any():
        row = odd.arg_max() or 0
        message = f"row {row}: {column.name} must be a whole number: {column[row]}"
        raise SpecError(message, field=column.name, value=str(column[row]))
    whole = column.cast(pl.Int64)
    _check_values(whole)
    return whole


def _check_values(column: pl.Series) -> None:
    """Refuse nulls and negative counts, by their first row."""
    name = column.name
    if nulls := column.null_count():
        text = f"{nulls}, the first in row {column.is_null().arg_max()}"
        hint = "fill or drop them first"
        raise SpecError(f"{name} must hold no nulls: {text}", field=name, value=str(nulls), hint=hint)
    if column.dtype.is_signed_integer() and column.len() and column.min() < 0:  # type: ignore[operator]
        row = (column < 0).arg_max() or 0
        value = column[row]
        message = f"row {row}: {name} must not be negative: {value}"
        raise SpecError(message, field=name, value=str(value))


def _check_columns(columns: Sequence[str]) -> None:
    """Refuse columns that look like a setting and would be none; all others are the user's own."""
    for name in columns:
        if name in AXES:
            continue
        if name in KEYWORDS_ONLY:
            message, hint = f"{name} must be a keyword, not a column", "one evaluate for each of its values"
        elif name in OF_ANALYZE_ONLY:
            message = f"{name} must not be a column: evaluate has no such setting"
            hint = "rename the column if it is your own; analyze has the setting"
        elif meant := _meant(name):
            message = f"a column must not be named almost as an axis: {name}"
            hint = f"nearest: {', '.join(meant)}; rename the column if it is your own"
        else:
            continue
        raise SpecError(message, field=name, value=name, hint=hint)


def _meant(column: str) -> list[str]:
    """Return the axes that a column was likely to be, nearest first; none where it is a name of its own."""
    plain = column.lower().replace("-", "_").replace(" ", "_")
    if plain in SYNONYMS:
        return [SYNONYMS[plain]]
    if plain in AXES:
        return [plain]
    # `model_id` and `my_model` are made of an axis and a word: no slip of a key.
    if any(plain.startswith(f"{axis}_") or plain.endswith(f"_{axis}") for axis in AXES):
        return []
    best = nearest(plain, (axis for axis in AXES if len(axis) > 2))
    squeezed = (plain.replace("_", ""), best[0].replace("_", ""))
    return best if SequenceMatcher(None, *squeezed).ratio() >= SLIP else []


def _names(values: Any) -> Any:
    """Return models and devices among the values by their names: frames hold no objects."""
    if isinstance(values, list | tuple):
        if any(isinstance(value, float) for value in values) and all(
            type(value) in (int, float) for value in values
        ):
            return [float(value) for value in values]
        return [getattr(value, "name", value) if hasattr(value, "compiled") else value for value in values]
    return values


def _distinct(
    axis: str, given: Any, frame: Any, rows: pl.DataFrame, find: Callable[[Any], T]
) -> tuple[list[T], Any]:
    """Return the distinct things of a column, and the place of each row's in that list."""
    import polars as pl

    if axis not in rows.columns:
        if given is None:
            raise SpecError(f"{axis} must be given, as a column or a keyword", field=axis)
        return [find(given)], 0
    _once(axis, given)
    names = rows[axis].cast(pl.String)
    known = names.unique(maintain_order=True).to_list()
    objects = _objects(frame, axis)
    if not known:
        return [], pl.Series(axis, [], dtype=pl.UInt32)
    places = names.replace_strict(known, range(len(known)), return_dtype=pl.UInt32)
    found = []
    for name in known:
        try:
            found.append(find(objects.get(name, name)))
        except LookupError as error:
            row = names.to_list().index(name)
            error.args = (f"row {row}: {error.args[0]}",)
            raise
    return found, places


def _objects(frame: Any, axis: str) -> dict[str, Any]:
    values = frame.get(axis) if isinstance(frame, Mapping) else None
    if not isinstance(values, list | tuple):
        return {}
    return {value.name: value for value in values if hasattr(value, "compiled")}


def _once(axis: str, given: Any) -> None:
    if given is not None:
        raise SpecError(f"{axis} must be a column or a keyword, not both: {given}", field=axis)


def _axes(rows: pl.DataFrame, given: dict[str, Any]) -> dict[str, Any]:
    """Return every axis: its column, else the keyword, else the default."""
    axes: dict[str, Any] = {}
    for axis, value in given.items():
        if axis in rows.columns:
            _once(axis, value)
            axes[axis] = rows[axis]
            if axis == "techniques":
                files = {
                    text: checks.techniques(text)[0]
                    for text in rows[axis].drop_nulls().unique()
                    if "@" in text
                }
                axes[axis] = rows[axis].replace(files) if files else rows[axis]
        else:
            axes[axis] = DEFAULTS.get(axis) if value is None else value
    _check_modes(axes["mode"])
    phases = {axes["phase"]} if isinstance(axes["phase"], str) else set(axes["phase"].unique().to_list())
    if "encode" in phases and "input_len" not in rows.columns and given["input_len"] is None:
        raise SpecError("input_len must be given where a phase is encode", field="input_len")
    if axes["chunk"] is None:
        axes["chunk"] = _chunks(axes["phase"])
    return axes


def _drafted(techniques: Any, rows: pl.DataFrame, drafts: Mapping[str, Any]) -> Any:
    """Return techniques with those that speculative settings stand for: of all rows, or one text a row."""
    import polars as pl

    columns = [name for name in DRAFTS if name in rows.columns]
    for name in columns:
        _once(name, drafts[name])
    if not columns and all(value is None for value in drafts.values()):
        return techniques
    if not isinstance(techniques, str):
        columns.append("techniques")
    if not columns:
        return _joined(techniques, drafts)
    found = []
    ways = rows.select(columns).with_row_index("row").unique(columns, keep="first", maintain_order=True)
    for way in ways.iter_rows(named=True):
        row = way.pop("row")
        try:
            found.append(_joined(way.pop("techniques", techniques), {**drafts, **way}))
        except RooflineError as error:
            error.args = (f"row {row}: {error.args[0]}",)
            raise
    texts = ways.drop("row").with_columns(pl.Series("drafted", found, dtype=pl.String))
    return rows.select(columns).join(texts, on=columns, how="left", nulls_equal=True, maintain_order="left")[
        "drafted"
    ]


def _joined(techniques: str | None, drafts: Mapping[str, Any]) -> str:
    method, tokens, acceptance, model = (drafts[name] for name in DRAFTS)
    if tokens == 0 or method == "none":
        method = tokens = acceptance = model = None
    text = _core.Deployment.drafts(method, tokens, acceptance, model)
    return "+".join(each for each in (techniques, text) if each not in (None, "none")) or "none"


def _check_modes(modes: Any) -> None:
    for mode in [modes] if isinstance(modes, str) else modes.drop_nulls().unique().to_list():
        choice("mode", mode, MODES)


def _chunks(phase: Any) -> Any:
    """Return the prompt tokens a step takes where nothing is said: all, but few beside decodes."""
    if isinstance(phase, str):
        return MIXED_CHUNK if phase == "mixed" else 0
    return (phase == "mixed").fill_null(value=False).cast(int) * MIXED_CHUNK
