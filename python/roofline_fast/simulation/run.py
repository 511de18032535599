"""What happens when real traffic meets a serving engine."""

from __future__ import annotations

import contextlib
import functools
import inspect
from collections.abc import Callable, Mapping, Sequence
from os import PathLike
from pathlib import Path
from typing import Any

from roofline_fast import _core, checks
from roofline_fast.atomic_file import aside
from roofline_fast.errors import SpecError
from roofline_fast.hardware import Hardware, find_hardware
from roofline_fast.model import Model, find_model, precision_note
from roofline_fast.prediction import MODES, api_latency_s, switches
from roofline_fast.simulation import served_model
from roofline_fast.simulation.result import Simulation
from roofline_fast.suggest import choice, nearest
from roofline_fast.traffic.workload import Traffic, load, words

PERCENTILES = (50.0, 90.0, 95.0, 99.0)
# What an engine is set to, each with what must hold of it whatever the engine.
SETTINGS: dict[str, Callable[..., None]] = {
    "num_gpu_blocks_override": checks.counts,
    "max_model_len": checks.counts,
    "max_num_seqs": checks.positive,
    "max_num_batched_tokens": checks.positive,
    "block_size": checks.positive,
    "long_prefill_token_threshold": checks.counts,
    "prefill_schedule_interval": checks.counts,
    "max_num_active_seqs": checks.counts,
    "gpu_memory_utilization": checks.numbers,
    "watermark": checks.numbers,
    "max_prefill_tokens": checks.counts,
    "schedule_conservativeness": checks.numbers,
    "capacity_scheduler_policy": checks.texts,
    "preemption_mode": checks.texts,
    "usage_context": checks.texts,
    "performance_mode": checks.texts,
    "swap_space": checks.numbers,
    "kv_cache_memory_bytes": checks.numbers,
    "swa_full_tokens_ratio": checks.numbers,
    "mamba_full_memory_ratio": checks.numbers,
    "max_num_scheduled_tokens": checks.counts,
    "max_num_queued_reqs": checks.counts,
    "stream_interval": checks.counts,
    "scheduling_policy": checks.texts,
    "enforce_eager": checks.switches,
    "enable_chunked_prefill": checks.switches,
    "enable_prefix_caching": checks.switches,
    "async_scheduling": checks.switches,
    "scheduler_reserve_full_isl": checks.switches,
    "long_prefill_token_threshold_adaptive": checks.switches,
    "enable_mixed_chunk": checks.switches,
}


@checks.named
def simulate(
    trace: Traffic | None = None,
    *,
    hw: str | PathLike[str] | Hardware,
    model: str | PathLike[str] | Mapping[str, Any] | Model | None = None,
    engine: str = "vllm",
    tp: int = 1,
    pp: int = 1,
    dp: int = 1,
    ep: int = 1,
    quantization: str | None = None,
    kv_cache_dtype: str | None = None,
    w_bits: int | None = None,
    a_bits: int | None = None,
    fusion: str | None = None,
    flash_attention: bool = True,
    overlap: float = 0.0,
    techniques: str | Sequence[str] | None = None,
    mode: str = "predicted",
    efficiency: str | PathLike[str] | None = None,
    act_quant: str | None = None,
    launch: str | None = None,
    p2p: bool | None = None,
    host: Mapping[str, float] | None = None,
    api_latency: float | None = None,
    gpu_memory_utilization: float | None = None,
    enforce_eager: bool | None = None,
    num_gpu_blocks_override: int | None = None,
    max_model_len: int | None = None,
    max_num_seqs: int | None = None,
    max_num_batched_tokens: int | None = None,
    block_size: int | None = None,
    enable_chunked_prefill: bool | None = None,
    enable_prefix_caching: bool | None = None,
    async_scheduling: bool | None = None,
    scheduling_policy: str | None = None,
    watermark: float | None = None,
    long_prefill_token_threshold: int | None = None,
    long_prefill_token_threshold_adaptive: bool | None = None,
    scheduler_reserve_full_isl: bool | None = None,
    prefill_schedule_interval: int | None = None,
    max_num_active_seqs: int | None = None,
    max_prefill_tokens: int | None = None,
    schedule_conservativeness: float | None = None,
    enable_mixed_chunk: bool | None = None,
    capacity_scheduler_policy: str | None = None,
    preemption_mode: str | None = None,
    swap_space: float | None = None,
    swa_full_tokens_ratio: float | None = None,
    mamba_full_memory_ratio: float | None = None,
    usage_context: str | None = None,
    performance_mode: str | None = None,
    kv_cache_memory_bytes: float | None = None,
    max_num_scheduled_tokens: int | None = None,
    max_num_queued_reqs: int | None = None,
    stream_interval: int | None = None,
    spec_method: str | None = None,
    spec_model: str | PathLike[str] | Mapping[str, Any] | Model | None = None,
    num_speculative_tokens: int | None = None,
    spec_acceptance: float | Sequence[float] | str | None = None,
    step_cost: str | None = None,
    session_mode: str = "closed",
    concurrency: int | None = None,
    think_time: float = 0.0,
    max_concurrency: int | None = None,
    warmup: int | str | None = None,
    measure: int | str | None = None,
    over_context: str = "reject",
    use_recorded_cache: bool = False,
    record: str = "summary",
    stream: bool | None = None,
    requests_file: str | PathLike[str] | None = None,
    slo: str | None = None,
    percentiles: Sequence[float] = PERCENTILES,
    seed: int = 0,
    progress: _core.Progress | None = None,
    **trace_options: Any,
) -> Simulation:
    """Replay a trace through an engine.

    Parameters
    ----------
    trace : path, sequence of paths or Trace, optional
        The traffic; generated from ``num_prompts=``, ``request_rate=``, … where it is left out.
    hw : str, path or Hardware
        Catalogue name or TOML file.
    model : str, path, mapping or Model, optional
        What is served; the trace's own model if it names one, else ``llama-3.1-8b``.
    engine : str
        ``vllm`` (as ``vllm serve`` starts it), ``vllm-sync`` (without asynchronous scheduling), ``vllm-v0``,
        ``sarathi``, ``orca``, ``static``, ``sglang`` or ``trtllm``; ``docs/engines.md`` says what each is and
        leaves out.
    tp, pp, dp, ep : int
        Devices that share every layer; pipeline stages; replicas, which get requests in turn; devices that
        share the experts.
    quantization, kv_cache_dtype, w_bits, a_bits, fusion, flash_attention, overlap, techniques
        As for `analyze`: techniques change the price of steps, the size of the cache and tokens a step.
    mode, efficiency, act_quant, launch, p2p, host
        As for `analyze`.
    api_latency : float, optional
        What clients wait outside the engine, ms, part of TTFT and E2E; 4.5 unless said, 0 for the ideal
        roofline and under a `step_cost`.
    gpu_memory_utilization, enforce_eager, num_gpu_blocks_override, max_model_len, max_num_seqs : optional
        Settings of the engine, as all that follow under vLLM's names; its own choice unless said.
        ``gpu_memory_utilization`` is what the engine calls its share of memory, of whatever it is a share.
    max_num_batched_tokens, block_size, enable_chunked_prefill, enable_prefix_caching : optional
        As above.
    async_scheduling, scheduling_policy, watermark, long_prefill_token_threshold : optional
        As above.
    long_prefill_token_threshold_adaptive, scheduler_reserve_full_isl : optional
        As above.
    prefill_schedule_interval, max_num_active_seqs : optional
        As above. A setting that the engine does not have is refused.
    max_prefill_tokens, schedule_conservativeness, enable_mixed_chunk : optional
        SGLang's own settings.
    swa_full_tokens_ratio, mamba_full_memory_ratio : float, optional
        How SGLang shares memory with layers that keep a window (tokens of theirs to others', 0.8) or a state
        (bytes of theirs to the KV cache's, 0.9).
    preemption_mode : {"recompute", "swap"}, optional
        How requests give way in vLLM V0; swapped ones keep what they have computed with the host.
    swap_space : float, optional
        GiB of the host for each device to swap to; 4 unless said.
    usage_context : {"api-server", "llm"}, optional
        Which of vLLM's defaults count: those of ``vllm serve`` or of its ``LLM`` class.
    performance_mode : {"balanced", "interactivity", "throughput"}, optional
        ``throughput`` doubles vLLM's default sequences and tokens of a step.
    kv_cache_memory_bytes : float, optional
        Bytes of each device for the KV cache, instead of what its share of memory leaves.
    max_num_scheduled_tokens : int, optional
        Tokens vLLM schedules in a step, where fewer than it could feed the model.
    max_num_queued_reqs : int, optional
        Requests that may wait; vLLM refuses others (503).
    stream_interval : int, optional
        Tokens of an answer that vLLM and SGLang send together; the first is sent at once, the last with what is
        left. Gaps (ITL) are then those between messages; TTFT, TPOT and E2E stay.
    capacity_scheduler_policy : {"guaranteed-no-evict", "max-utilization"}, optional
        TensorRT-LLM's own setting.
    spec_method : {"ngram", "draft-model", "medusa", "eagle", "mtp", "dflash"}, optional
        Where draft tokens come from; nothing is drafted unless said. An EAGLE head or MTP module takes the time
        of one layer and the head for each draft.
    spec_model : str, path, mapping or Model, optional
        The model that drafts, for ``draft-model``; without it drafts take no time to make.
    num_speculative_tokens : int, optional
        Draft tokens a step.
    spec_acceptance : float, sequence of float or str, optional
        The chance that a draft is accepted if those before it were: one for all, or one a position, the last
        for all further ones; or ``"@FILE"``, as a technique's settings have it (`technique_files.inline`).
        ``"pattern:A,B"`` accepts (A·i + B·v) mod (drafts + 1) at verification v of
        request i instead.
    step_cost : str, optional
        ``linear:A,B,C`` prices a step as A + B·tokens + C·context seconds instead of by the cost model.
    session_mode : {"closed", "open"}
        Whether a turn of a conversation waits for the answers it follows, each plus its delay, or is sent at
        its recorded (or earliest) time.
    concurrency : int, optional
        Users, each of whom sends the next request (or conversation) when the last one was answered; arrivals
        of the trace are not used then.
    think_time : float
        Milliseconds between an answer and a user's next request.
    max_concurrency : int, optional
        Requests in flight at most, under any arrivals: others are held back. Latencies count from sending.
    warmup, measure : int or str, optional
        What is left out of the summary at the beginning, and how much is in it: requests (``500``) or time
        (``"30s"``). Latencies are then those of the requests sent in between, rates count what was answered.
    over_context : {"reject", "truncate", "fail"}
        What becomes of requests whose prompt and answer are longer than ``max_model_len``: the engine rejects
        prompts without room for an answer, prompts are cut at their end, or the trace is refused.
    use_recorded_cache : bool
        Whether prompt tokens that a cache held when the trace was recorded (``cached_tokens``) are found
        cached again, whatever the engine's own cache holds. Counts under vLLM's scheduler.
    stream : bool, optional
        Whether generated requests are drawn as they are served and forgotten when they are answered: any number in
        memory that does not grow. Unless said, from 10 million on, where `record` keeps nothing. Percentiles then
        come from sketches (``percentile_error``), and `requests`, `timeline` and the like are refused.
    requests_file : str or path, optional
        Where requests that are drawn as they are served go as they end: a Parquet file with the columns of
        `requests` but their bands, which are known when all were served. Rows are in the order in which answers
        end, replica after replica; `request_id` tells the order of arrival.
    record : {"summary", "stretches", "steps", "decisions"}
        Whether steps are kept: in stretches that decode alike, which is as quick as without; or one row each,
        and with them who was in it. What is not kept and asked for later is simulated again.
        Decisions at a linear `step_cost` run in recorded time: arrivals as given and seconds added as floats, to
        compare with the recorded schedule of an engine.
    slo : str, optional
        What requests must meet, in ms: ``"ttft:500 tpot:50"``, or of a percentile ``"ttft@p99:500"``.
    percentiles : sequence of float
        Which percentiles the summary has.
    seed : int
        Seed of whatever is drawn: traffic, and which drafts are accepted.
    progress : optional
        Counters to follow from another thread.
    **trace_options
        How the file is read, as for `Trace.read`; ``trace_format`` stands for its ``format``. How much of it
        is replayed, as for `Trace.scaled`, and when, as for `Trace.arriving`. Without a trace, what is
        generated, as for `Trace.generate`.

    Returns
    -------
    Simulation
        Summary, requests and steps.

    Raises
    ------
    TraceError
        A trace that breaks a rule, with file and line.
    DoesNotFitError
        Weights that leave no room for a KV cache.
    SpecError
        Settings that no engine could start with.

    Examples
    --------
    >>> import roofline_fast as rf
    >>> trace = rf.Trace(arrival_s=[0.0, 0.1], prompt_tokens=[1000, 200], output_tokens=[10, 20])
    >>> run = rf.simulate(trace, model="llama-3.1-8b", hw="h100-sxm")
    >>> run.summary["completed"], run.requests["status"].to_list()
    (2, ['finished', 'finished'])
    """
    given = dict(locals())
    _check_options(trace_options)
    checks.counts(tp=tp, pp=pp, dp=dp, ep=ep, w_bits=w_bits, a_bits=a_bits)
    checks.counts(64, seed=seed)
    checks.counts(num_speculative_tokens=num_speculative_tokens)
    settings = {name: given[name] for name in SETTINGS}
    for name, check in SETTINGS.items():
        check(**{name: given[name]})
    checks.shares(overlap=overlap)
    checks.texts(engine=engine, quantization=quantization, kv_cache_dtype=kv_cache_dtype, fusion=fusion)
    checks.texts(step_cost=step_cost, record=record, slo=slo)
    checks.texts(spec_method=spec_method, session_mode=session_mode, mode=mode)
    checks.texts(over_context=over_context)
    checks.counts(concurrency=concurrency, max_concurrency=max_concurrency)
    checks.numbers(think_time=think_time)
    checks.objectives(slo)
    requests = load(
        trace,
        trace_options,
        seed,
        arrivals_needed=concurrency is None,
        stream=False if stream is None and record != "summary" else stream,
    )
    found, note = served_model.model_of(model, requests)
    device = find_hardware(hw)
    deployment = _core.Deployment(
        found.compiled,
        device.compiled,
        _core.Layout(tp=tp, pp=pp, dp=dp, ep=ep),
        _core.Precision(
            quantization=quantization, kv_cache_dtype=kv_cache_dtype, w_bits=w_bits, a_bits=a_bits
        ),
        fusion=fusion,
        flash_attention=flash_attention,
        overlap=overlap,
        techniques=checks.techniques(techniques),
        spec_method=spec_method,
        engine=engine,
        mode=choice("mode", mode, MODES),
        **switches(efficiency, act_quant, launch, p2p, host, enforce_eager),
    )
    server = _core.Engine(
        engine,
        **settings,
        spec_method=spec_method,
        spec_model=None if spec_model is None else find_model(spec_model).compiled,
        num_speculative_tokens=num_speculative_tokens,
        spec_acceptance=checks.chances(spec_acceptance=spec_acceptance),
        seed=seed,
    )
    serve = functools.partial(
        server.simulate,
        deployment,
        requests.compiled,
        step_cost=step_cost,
        api_latency_s=api_latency_s(api_latency, mode, step_cost, efficiency),
        session_mode=session_mode,
        concurrency=concurrency,
        think_time_ms=think_time,
        max_concurrency=max_concurrency,
        warmup=None if warmup is None else str(warmup),
        measure=None if measure is None else str(measure),
        over_context=over_context,
        use_recorded_cache=use_recorded_cache,
        slo=slo,
    )
    with contextlib.nullcontext() if requests_file is None else aside(Path(requests_file)) as file:
        served = serve(record=record, progress=progress, requests_file=file)
    drafter = None if spec_model is None else find_model(spec_model).name
    drafts = _core.Deployment.drafts(
        spec_method,
        num_speculative_tokens,
        checks.chances(spec_acceptance=spec_acceptance),
        drafter,
        priced=step_cost is None,
    )
    shorthands = _core.Deployment.expand(quantization, kv_cache_dtype)
    inputs = {
        "trace": requests.origin,
        "model": found.name,
        "hw": device.name,
        "engine": engine,
        "tp": tp,
        "pp": pp,
        "dp": dp,
        "ep": ep,
        "quantization": deployment.weights_format,
        "kv_cache_dtype": deployment.kv_format,
        "techniques": [*shorthands, *deployment.techniques, *([] if drafts is None else [drafts])],
        "mode": mode,
        "api_latency": api_latency_s(api_latency, mode, step_cost, efficiency) * 1e3,
        "step_cost": step_cost,
        "session_mode": session_mode,
        "concurrency": concurrency,
        "think_time_ms": think_time,
        "max_concurrency": max_concurrency,
        "warmup": warmup,
        "measure": measure,
        "slo": slo,
        "seed": seed,
        "record": record,
    }
    kept = quantization is not None or w_bits is not None
    precision = precision_note(found, deployment.weights_format, asked=kept)
    notes = [text for text in (note, device.note, precision) if text]
    return Simulation(
        served,
        serve,
        served.summary(slo, checks.ranks(percentiles=percentiles)),
        inputs,
        notes,
        requests,
        found,
        device,
        deployment,
        server,
    )


def _check_options(options: Mapping[str, Any]) -> None:
    """Refuse keywords that neither the engine, nor the reader of traces, nor the generator has."""
    about_traces = words()
    for name, value in options.items():
        if name not in about_traces:
            known = about_traces | set(inspect.signature(simulate).parameters) - {"trace_options"}
            hint = "nearest: " + ", ".join(nearest(name, known))
            raise SpecError(
                f"simulate must be given keywords it has: {name}", field=name, value=repr(value), hint=hint
            )
