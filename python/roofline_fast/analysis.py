"""What a step costs, and what bounds it."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from os import PathLike
from typing import TYPE_CHECKING, Any

from roofline_fast import _core, checks
from roofline_fast.errors import SpecError
from roofline_fast.frames import frame, record
from roofline_fast.hardware import Hardware, find_hardware
from roofline_fast.model import Model, find_model, precision_note
from roofline_fast.prediction import MODES, switches
from roofline_fast.suggest import choice

if TYPE_CHECKING:
    import polars as pl

# Sizes that are used where nothing is said.
INPUT_LEN = 2048
OUTPUT_LEN = 256
MIXED_CHUNK = 512


@checks.named
def analyze(
    model: str | PathLike[str] | Mapping[str, Any] | Model,
    hw: str | PathLike[str] | Hardware,
    *,
    phase: str | None = None,
    batch_size: int = 1,
    input_len: int | None = None,
    output_len: int | None = None,
    prefix_len: int = 0,
    chunk: int | None = None,
    tp: int = 1,
    pp: int = 1,
    dp: int = 1,
    ep: int = 1,
    quantization: str | None = None,
    kv_cache_dtype: str | None = None,
    w_bits: int | None = None,
    a_bits: int | None = None,
    kv_bits: int | None = None,
    fusion: str | None = None,
    flash_attention: bool | None = None,
    overlap: float = 0.0,
    techniques: str | Sequence[str] | None = None,
    mode: str = "predicted",
    efficiency: str | PathLike[str] | None = None,
    act_quant: str | None = None,
    launch: str | None = None,
    p2p: bool | None = None,
    host: Mapping[str, float] | None = None,
    engine: str = "vllm",
    gpu_memory_utilization: float | None = None,
    enforce_eager: bool | None = None,
    block_size: int | None = None,
    max_num_seqs: int | None = None,
    max_num_batched_tokens: int | None = None,
    spec_method: str | None = None,
    spec_model: str | PathLike[str] | Mapping[str, Any] | Model | None = None,
    num_speculative_tokens: int | None = None,
    spec_acceptance: float | Sequence[float] | str | None = None,
    compat: str | None = None,
) -> Analysis:
    """Price one step, or one whole request, operator by operator.

    Parameters
    ----------
    model : str, path, mapping or Model
        Catalogue name, Hugging Face id, ``config.json``, its folder, or its content.
    hw : str, path or Hardware
        Catalogue name or TOML file.
    phase : {"decode", "prefill", "mixed", "chat", "encode"}, optional
        One token for each sequence; whole prompts; a decode step that carries a prompt chunk; a request from
        prompt to last token; one pass of an encoder, a diffusion transformer or a vision tower. ``decode``
        unless said, ``encode`` for models that generate nothing.
    batch_size : int
        Sequences of each data-parallel rank.
    input_len : int, optional
        New prompt tokens of a sequence; for decode the tokens already in its KV cache. 2,048 unless said (for
        ``encode`` at most what the model was made for).
    output_len : int, optional
        Tokens generated a sequence; only ``chat`` needs it. 256 unless said.
    prefix_len : int
        Tokens cached in front of the input.
    chunk : int, optional
        Largest prompt chunk of a sequence in one step, tokens; prompts are taken whole unless said. For
        ``mixed`` the tokens that ride along, 512 unless said.
    tp, pp, dp, ep : int
        Devices that share every layer; pipeline stages; replicas; devices that share the experts.
    quantization : str, optional
        Scheme of weights and activations (``bf16``, ``fp8``, ``w4a16``, …); the checkpoint's own unless said.
    kv_cache_dtype : str, optional
        Format of the KV cache (``auto``, ``bf16``, ``fp8``, …).
    w_bits, a_bits : int, optional
        Bits of weights and activations, instead of a scheme's name.
    kv_bits : int, optional
        Bits of a KV element, for ``compat="llm-viewer"`` alone.
    fusion : {"full", "engine", "none"}, optional
        How much of the element-wise work is fused into its neighbours: for the roofline all unless said, for
        a prediction what engines fuse.
    flash_attention : bool, optional
        Whether attention is one operator; yes, except where ``compat`` says otherwise.
    overlap : float
        Share of the communication that hides behind computation, 0 to 1.
    techniques : str or sequence of str, optional
        What is applied to it, as ``name:key=value,key=value``: ``["weight-quant:bits=4",
        "kv-quant:bits=4"]``, or one text joined by ``+``. `catalog("techniques")` lists them; the order
        does not count.
    mode : {"predicted", "ideal"}
        What an engine takes, by fitted kernels, or the datasheet's roofline.
    efficiency : path, optional
        A file of fits that come before the shipped ones.
    act_quant : {"fused", "static", "dynamic"}, optional
        How activations are brought into a narrow format: inside the kernels before, by a kernel of its own,
        by kernels that also find the scales; the engine's own way unless said.
    launch : {"graph", "eager"}, optional
        Whether kernels are replayed as a graph or launched one by one; a graph unless `enforce_eager`.
    p2p : bool, optional
        Whether devices on PCIe reach each other's memory; as far as is known of the device unless said.
    host : mapping, optional
        What no kernel hides, seconds: ``h0`` a step and ``h1`` a sequence of it; the engine's own unless
        said.
    engine : str
        Whose division of the memory is shown.
    gpu_memory_utilization, block_size, max_num_seqs, max_num_batched_tokens : optional
        Settings of that engine, under vLLM's names; its own choice unless said.
    enforce_eager : bool, optional
        Whether steps are launched kernel by kernel: no memory is then kept for CUDA graphs.
    spec_method, spec_model, num_speculative_tokens, spec_acceptance : optional
        What engines call drafts, as for `simulate`: the technique ``spec`` in other words.
    compat : str, optional
        ``"llm-viewer"`` or ``"llm-viewer@VERSION"`` for that tool's figures, its mistakes included.

    Returns
    -------
    Analysis
        Times in seconds, operators, memory, totals; under ``compat`` that tool's operators and totals alone.

    Raises
    ------
    SpecError
        A size, layout or format that is not possible.
    UnknownNameError
        An unknown name, with the nearest ones.

    Examples
    --------
    >>> import roofline_fast as rf
    >>> step = rf.analyze("llama-3.1-8b", "h100-sxm", batch_size=32, input_len=2048)
    >>> f"{step.step_s * 1e3:.1f} ms, bound by {step.bound}"
    '9.9 ms, bound by memory'
    >>> step.ops.filter(step.ops["op"] == "attention")["bound"].item()
    'memory'
    """
    keywords = dict(locals())
    checks.counts(tp=tp, pp=pp, dp=dp, ep=ep, batch_size=batch_size, input_len=input_len)
    checks.counts(output_len=output_len, prefix_len=prefix_len, chunk=chunk)
    checks.counts(w_bits=w_bits, a_bits=a_bits, kv_bits=kv_bits)
    checks.positive(block_size=block_size, max_num_seqs=max_num_seqs)
    checks.positive(max_num_batched_tokens=max_num_batched_tokens)
    checks.numbers(gpu_memory_utilization=gpu_memory_utilization)
    checks.shares(overlap=overlap)
    checks.texts(phase=phase, quantization=quantization, kv_cache_dtype=kv_cache_dtype, fusion=fusion)
    checks.texts(mode=mode, engine=engine, spec_method=spec_method, compat=compat)
    checks.counts(num_speculative_tokens=num_speculative_tokens)
    acceptance = checks.chances(spec_acceptance=spec_acceptance)
    if compat is not None:
        from roofline_fast import llm_viewer

        unused: dict[str, tuple[Any, Any]] = {
            "pp": (pp, 1),
            "dp": (dp, 1),
            "ep": (ep, 1),
            "prefix_len": (prefix_len, 0),
            "chunk": (chunk, None),
            "quantization": (quantization, None),
            "kv_cache_dtype": (kv_cache_dtype, None),
            "fusion": (fusion, None),
            "overlap": (overlap, 0.0),
            "techniques": (checks.techniques(techniques), []),
            "efficiency": (efficiency, None),
            "act_quant": (act_quant, None),
            "launch": (launch, None),
            "p2p": (p2p, None),
            "host": (host, None),
            "spec_method": (spec_method, None),
            "spec_model": (spec_model, None),
            "num_speculative_tokens": (num_speculative_tokens, None),
            "spec_acceptance": (spec_acceptance, None),
        }
        for name, (value, default) in unused.items():
            if value != default:
                message = f"{name} must be left out with compat, whose tool has no such setting: {value}"
                raise SpecError(message, field=name, value=str(value))
        inputs = llm_viewer.inputs(
            batch_size=batch_size,
            input_len=INPUT_LEN if input_len is None else input_len,
            w_bits=w_bits,
            a_bits=a_bits,
            kv_bits=kv_bits,
            flash_attention=bool(flash_attention),
            tp=tp,
        )
        length = OUTPUT_LEN if output_len is None else output_len
        viewed = llm_viewer.analyze(find_model(model), hw, inputs, phase or "decode", length, compat)
        viewed._keywords = keywords
        return viewed
    if kv_bits is not None:
        hint = 'use kv_cache_dtype, for example "fp8"'
        raise SpecError("kv_bits must be left out without compat", field="kv_bits", hint=hint)
    choice("mode", mode, MODES)
    found, device = find_model(model), find_hardware(hw)
    drafter = None if spec_model is None else find_model(spec_model).compiled
    if phase is None:
        phase = "decode" if found.generates else "encode"
    deployment = _core.Deployment(
        found.compiled,
        device.compiled,
        _core.Layout(tp=tp, pp=pp, dp=dp, ep=ep),
        _core.Precision(
            quantization=quantization, kv_cache_dtype=kv_cache_dtype, w_bits=w_bits, a_bits=a_bits
        ),
        fusion=fusion,
        flash_attention=flash_attention is not False,
        overlap=overlap,
        techniques=checks.techniques(techniques),
        speculation=(spec_method, num_speculative_tokens, acceptance, drafter),
        engine=engine,
        mode=mode,
        **switches(efficiency, act_quant, launch, p2p, host, enforce_eager),
    )
    asked = {
        "batch_size": batch_size,
        "input_len": _input_len(phase, found) if input_len is None else input_len,
        "output_len": (OUTPUT_LEN if phase == "chat" else 0) if output_len is None else output_len,
        "prefix_len": prefix_len,
        "chunk": (MIXED_CHUNK if phase == "mixed" else 0) if chunk is None else chunk,
    }
    memory = _core.Engine(
        engine,
        gpu_memory_utilization=gpu_memory_utilization,
        enforce_eager=enforce_eager,
        block_size=block_size,
        max_num_batched_tokens=max_num_batched_tokens,
        max_num_seqs=max_num_seqs,
    ).memory(device.compiled)
    answer = _core.analyze(deployment, _core.Point(phase, **asked), memory)
    inputs_used = {
        "model": found.name,
        "hw": device.name,
        "phase": phase,
        **asked,
        "tp": tp,
        "pp": pp,
        "dp": dp,
        "ep": ep,
        "quantization": deployment.weights_format,
        "kv_cache_dtype": deployment.kv_format,
        "techniques": [*_core.Deployment.expand(quantization, kv_cache_dtype), *deployment.techniques],
        "mode": mode,
        "engine": engine,
        "gpu_memory_utilization": memory.gpu_memory_utilization,
        "max_num_seqs": memory.max_num_seqs,
        "max_num_batched_tokens": memory.max_num_batched_tokens,
    }
    kept = quantization is not None or w_bits is not None
    precision = precision_note(found, deployment.weights_format, asked=kept)
    notes = [note for note in (found.note, precision, *_unused(phase, output_len, chunk)) if note]
    return Analysis(answer, inputs_used, found, device, deployment, notes, keywords)


def _unused(phase: str, output_len: int | None, chunk: int | None) -> list[str]:
    """Return what was given and changes nothing in this phase."""
    notes = []
    if output_len and phase != "chat":
        notes.append(
            f"output_len {output_len:,} changes nothing in {phase}: only chat generates several tokens"
        )
    if chunk and phase in ("decode", "encode"):
        notes.append(f"chunk {chunk:,} changes nothing in {phase}: it takes no prompt")
    if chunk == 0 and phase in ("prefill", "chat"):
        notes.append("chunk 0 taken as no chunks: prompts are taken whole")
    return notes


def _input_len(phase: str, model: Model) -> int:
    """Return the length used where none is said: an encoder never takes more than it was made for."""
    if phase == "encode" and model.max_context is not None:
        return min(INPUT_LEN, model.max_context)
    return INPUT_LEN


class Analysis:
    """The answer of `analyze`; times in seconds, sizes in bytes."""

    # What was asked: an answer is pickled as its question.
    _keywords: dict[str, Any]

    def __init__(
        self,
        answer: _core.Analysis,
        inputs: Mapping[str, Any],
        model: Model,
        hardware: Hardware,
        deployment: _core.Deployment,
        notes: Sequence[str],
        keywords: Mapping[str, Any],
    ) -> None:
        self._keywords = dict(keywords)
        self._answer = answer
        self._inputs = dict(inputs)
        self._notes = list(notes)
        self.model = model
        self.hardware = hardware
        self.deployment = deployment

    @property
    def inputs(self) -> dict[str, Any]:
        """What was asked, with what was assumed where nothing was said."""
        return dict(self._inputs)

    @property
    def step_s(self) -> float:
        """What was asked about: a step, or the whole request for ``chat``."""
        return self._answer.step_s

    @property
    def ideal_s(self) -> float:
        """The same by the datasheet alone."""
        return self._answer.ideal_s

    @property
    def low_s(self) -> float | None:
        """P10 of the prediction; ``None`` where no error was measured."""
        return self._answer.low_s

    @property
    def high_s(self) -> float | None:
        """P90 of the prediction; ``None`` where no error was measured."""
        return self._answer.high_s

    @property
    def ttft_s(self) -> float | None:
        """Time to first token (``prefill``, ``chat``)."""
        return self._answer.ttft_s

    @property
    def tpot_s(self) -> float | None:
        """Time per output token (``decode``, ``mixed``, ``chat``)."""
        return self._answer.tpot_s

    @property
    def ttft_low_s(self) -> float | None:
        """P10 of the time to first token; ``None`` where no error was measured."""
        band = self._answer.ttft_band_s
        return None if band is None else band[0]

    @property
    def ttft_high_s(self) -> float | None:
        """P90 of the time to first token; ``None`` where no error was measured."""
        band = self._answer.ttft_band_s
        return None if band is None else band[1]

    @property
    def tpot_low_s(self) -> float | None:
        """P10 of the time per output token; ``None`` where no error was measured."""
        band = self._answer.tpot_band_s
        return None if band is None else band[0]

    @property
    def tpot_high_s(self) -> float | None:
        """P90 of the time per output token; ``None`` where no error was measured."""
        band = self._answer.tpot_band_s
        return None if band is None else band[1]

    @property
    def e2e_s(self) -> float | None:
        """The whole request (``chat``)."""
        return self._answer.e2e_s

    @property
    def tokens(self) -> float:
        """Tokens that enter (``prefill``, ``encode``) or leave (otherwise) one rank in that time."""
        return self._answer.tokens

    @property
    def tokens_per_gpu_s(self) -> float:
        """Tokens a second and device of the whole deployment."""
        return self._answer.tokens_per_gpu_s

    @property
    def tokens_per_user_s(self) -> float | None:
        """Tokens a second that one sequence sees (``decode``, ``mixed``, ``chat``)."""
        return self._answer.tokens_per_user_s

    @property
    def bound(self) -> str:
        """What bounds most of the time (``memory``, ``compute``, ``link``, …)."""
        return self._answer.bound

    @property
    def bounds(self) -> dict[str, float]:
        """Share of the time that each bound takes, largest first."""
        return dict(self._answer.bounds)

    @cached_property
    def ops(self) -> pl.DataFrame:
        """One row an operator: of one GPU (the busiest), all its ``repeat`` occurrences together.

        ``op, repeat, flops`` (of the tensor unit; those of the vector unit are ``vector_flops``), ``bytes`` moved in
        memory and their parts ``weight_bytes, activation_bytes, kv_bytes``, ``link_bytes``, ``intensity`` (FLOP/B; null
        where nothing is moved), seconds ``ideal_s, predicted_s, low_s, high_s``, ``share`` of the time, ``bound``,
        ``source``, ``family`` of kernels and ``format`` multiplied in.
        """
        return frame(self._answer.ops)

    @cached_property
    def memory(self) -> dict[str, Any]:
        """What lies in the memory of the busiest GPU, and how many sequences would fit.

        Bytes: ``capacity_bytes``; ``weight_bytes, kv_bytes, activation_bytes`` and their sum ``memory_bytes``; as the
        engine divides it ``usable_bytes, engine_activation_bytes, runtime_bytes, for_kv_bytes, block_bytes`` and
        ``engine_memory_bytes`` in use. Counts: ``block_size`` (tokens of a block), ``num_gpu_blocks, blocks_needed,
        ideal_sequences, engine_sequences``. Verdicts: ``fits_ideally, fits``.
        """
        return record(self._answer.memory)

    @cached_property
    def totals(self) -> dict[str, Any]:
        """Work and traffic under ``gpu`` (the busiest) and ``deployment`` (all of them).

        Each a dictionary of ``flops, vector_flops, bytes, weight_bytes, activation_bytes, kv_bytes, link_bytes,
        intensity``.
        """
        rows = frame(self._answer.totals).to_dicts()
        return {row.pop("scope"): row for row in rows}

    @property
    def ridge(self) -> tuple[float, str]:
        """FLOP/B at which multiplication turns from memory- to compute-bound, and the format it is in."""
        return self._answer.ridge

    @property
    def link_ridge(self) -> float | None:
        """FLOP/B of the same format over the slowest link that a technique uses; ``None`` without one."""
        return self._answer.link_ridge

    @property
    def compute_bound_tokens(self) -> float | None:
        """Tokens a step from which the dense multiplications are compute-bound; ``None``: never."""
        return self._answer.compute_bound_tokens

    @property
    def sensitivity(self) -> dict[str, float]:
        """Relative change of the time for 10 % more ``bandwidth``, ``compute`` and ``link``."""
        return dict(self._answer.sensitivity)

    @property
    def energy_j(self) -> float | None:
        """Energy of the deployment, J; ``None`` where the device's power is unknown."""
        return self._answer.energy_j

    @property
    def usd(self) -> float | None:
        """Indicative price, USD; ``None`` where unknown."""
        return self._answer.usd

    @property
    def source(self) -> str:
        """Where the prediction comes from (``datasheet``, ``fitted(h100-sxm)``)."""
        return self.deployment.source

    @property
    def notes(self) -> list[str]:
        """Sentences about what was assumed."""
        said = [self.hardware.note] if self.hardware.note else []
        return said + self._notes + self._answer.notes

    def to_dict(self) -> dict[str, Any]:
        """Return everything as plain numbers, texts, lists and dictionaries (``--format json``)."""
        plain = (
            "step_s",
            "ideal_s",
            "low_s",
            "high_s",
            "ttft_s",
            "ttft_low_s",
            "ttft_high_s",
            "tpot_s",
            "tpot_low_s",
            "tpot_high_s",
            "e2e_s",
            "bound",
            "bounds",
            "tokens",
        )
        rates = (
            "tokens_per_gpu_s",
            "tokens_per_user_s",
            "link_ridge",
            "compute_bound_tokens",
            "sensitivity",
            "energy_j",
            "usd",
        )
        intensity, number_format = self.ridge
        return {
            **self.inputs,
            **{name: getattr(self, name) for name in plain + rates},
            "ridge": {"intensity": intensity, "format": number_format},
            "memory": self.memory,
            "totals": self.totals,
            "source": self.source,
            "notes": self.notes,
            "ops": self.ops.to_dicts(),
        }

    def __reduce__(self) -> tuple[Callable[[], Analysis], tuple[()]]:
        """Return what is pickled: the question, which is answered again where it is read."""
        return functools.partial(analyze, **self._keywords), ()

    def __repr__(self) -> str:
        return f"Analysis({self.model.name} on {self.hardware.name}: {self.step_s:.6g} s, {self.bound})"
