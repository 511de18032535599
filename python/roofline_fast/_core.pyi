"""The compiled half: what Rust hands to Python."""

from collections.abc import Iterable, Mapping, Sequence
from os import PathLike
from pathlib import Path
from typing import Any, Final, final

__all__ = [
    "Analysis",
    "Configurations",
    "Deployment",
    "Engine",
    "EngineMemory",
    "Hardware",
    "Layout",
    "Measurements",
    "Model",
    "Point",
    "Precision",
    "Progress",
    "Simulation",
    "Space",
    "Table",
    "Trace",
    "TraceOptions",
    "ViewerInputs",
    "__version__",
    "_probe",
    "analyze",
    "llm_viewer_analyze",
    "llm_viewer_generate",
]

__version__: Final[str]

def _probe(what: str, progress: Progress | None = None) -> None: ...

@final
class Progress:
    def __new__(cls) -> Progress: ...
    @property
    def done(self) -> int: ...
    @property
    def total(self) -> int: ...

@final
class Table:
    @property
    def num_rows(self) -> int: ...
    @property
    def columns(self) -> list[str]: ...
    @property
    def varying(self) -> Table: ...
    @property
    def constants(self) -> list[tuple[str, str, Any]]: ...
    def __len__(self) -> int: ...
    def __arrow_c_stream__(self, requested_schema: Any = None) -> Any: ...

@final
class Hardware:
    def __new__(cls, name: str) -> Hardware: ...
    @staticmethod
    def from_toml(path: str | PathLike[str]) -> Hardware: ...
    @staticmethod
    def catalog() -> Table: ...
    @staticmethod
    def names() -> list[str]: ...
    def facts(self) -> Table: ...
    @property
    def name(self) -> str: ...
    @property
    def title(self) -> str: ...
    @property
    def note(self) -> str | None: ...
    def __eq__(self, other: object, /) -> bool: ...
    def __ne__(self, other: object, /) -> bool: ...

@final
class Model:
    def __new__(cls, name: str) -> Model: ...
    @staticmethod
    def from_config(path: str | PathLike[str]) -> Model: ...
    @staticmethod
    def from_json(name: str, text: str) -> Model: ...
    @staticmethod
    def shipped_config(name: str) -> str: ...
    @staticmethod
    def shipped_source(name: str) -> str: ...
    @staticmethod
    def catalog() -> Table: ...
    @staticmethod
    def names() -> list[str]: ...
    @property
    def name(self) -> str: ...
    @property
    def title(self) -> str: ...
    @property
    def family(self) -> str: ...
    @property
    def parameters(self) -> int: ...
    @property
    def active_parameters(self) -> int: ...
    @property
    def vision_parameters(self) -> int: ...
    @property
    def layers(self) -> int: ...
    @property
    def max_context(self) -> int | None: ...
    @property
    def dtype(self) -> str: ...
    @property
    def quantization(self) -> str | None: ...
    @property
    def generates(self) -> bool: ...
    @property
    def notes(self) -> list[str]: ...
    def __eq__(self, other: object, /) -> bool: ...
    def __ne__(self, other: object, /) -> bool: ...

@final
class Layout:
    def __new__(cls, *, tp: int = 1, pp: int = 1, dp: int = 1, ep: int = 1) -> Layout: ...
    @property
    def tp(self) -> int: ...
    @property
    def pp(self) -> int: ...
    @property
    def dp(self) -> int: ...
    @property
    def ep(self) -> int: ...
    @property
    def gpus(self) -> int: ...
    def __getnewargs_ex__(self) -> tuple[tuple[()], dict[str, int]]: ...
    def __eq__(self, other: object, /) -> bool: ...
    def __ne__(self, other: object, /) -> bool: ...

@final
class Precision:
    def __new__(
        cls,
        *,
        quantization: str | None = None,
        kv_cache_dtype: str | None = None,
        w_bits: int | None = None,
        a_bits: int | None = None,
    ) -> Precision: ...

@final
class Deployment:
    def __new__(
        cls,
        model: Model,
        hardware: Hardware,
        layout: Layout,
        precision: Precision,
        *,
        fusion: str | None = None,
        flash_attention: bool = True,
        overlap: float = 0.0,
        techniques: Sequence[str] = ...,
        spec_method: str | None = None,
        speculation: tuple[str | None, int | None, float | Sequence[float] | str | None, Model | None]
        | None = None,
        engine: str = "vllm",
        mode: str = "predicted",
        efficiency: str | PathLike[str] | None = None,
        act_quant: str | None = None,
        launch: str | None = None,
        p2p: bool | None = None,
        host: tuple[float, float, float | None] | None = None,
    ) -> Deployment: ...
    def scaled(self, factor: float) -> Deployment: ...
    @property
    def gpus(self) -> int: ...
    @property
    def techniques(self) -> list[str]: ...
    @staticmethod
    def expand(
        quantization: str | None = None,
        kv_cache_dtype: str | None = None,
        speculation: tuple[str, int, str] | None = None,
    ) -> list[str]: ...
    @staticmethod
    def drafts(
        method: str | None = None,
        tokens: int | None = None,
        acceptance: float | Sequence[float] | str | None = None,
        model: str | None = None,
        *,
        priced: bool = True,
    ) -> str | None: ...
    @staticmethod
    def mistakes(techniques: Sequence[str]) -> list[tuple[int, int, str, str, str]]: ...
    @staticmethod
    def canonical(techniques: Sequence[str]) -> str: ...
    @staticmethod
    def technique_catalog(name: str | None = None) -> Table: ...
    @property
    def weights_format(self) -> str: ...
    @property
    def kv_format(self) -> str: ...
    @property
    def source(self) -> str: ...

@final
class Point:
    def __new__(
        cls,
        phase: str,
        *,
        batch_size: int,
        input_len: int,
        output_len: int = 0,
        prefix_len: int = 0,
        chunk: int = 0,
    ) -> Point: ...

@final
class EngineMemory:
    @property
    def gpu_memory_utilization(self) -> float: ...
    @property
    def max_num_batched_tokens(self) -> int: ...
    @property
    def max_num_seqs(self) -> int: ...

def analyze(deployment: Deployment, point: Point, engine: EngineMemory) -> Analysis: ...

@final
class Analysis:
    @property
    def step_s(self) -> float: ...
    @property
    def ideal_s(self) -> float: ...
    @property
    def low_s(self) -> float | None: ...
    @property
    def high_s(self) -> float | None: ...
    @property
    def ttft_s(self) -> float | None: ...
    @property
    def ttft_band_s(self) -> tuple[float, float] | None: ...
    @property
    def tpot_band_s(self) -> tuple[float, float] | None: ...
    @property
    def tpot_s(self) -> float | None: ...
    @property
    def e2e_s(self) -> float | None: ...
    @property
    def tokens(self) -> float: ...
    @property
    def tokens_per_gpu_s(self) -> float: ...
    @property
    def tokens_per_user_s(self) -> float | None: ...
    @property
    def bound(self) -> str: ...
    @property
    def bounds(self) -> list[tuple[str, float]]: ...
    @property
    def ops(self) -> Table: ...
    @property
    def memory(self) -> Table: ...
    @property
    def totals(self) -> Table: ...
    @property
    def ridge(self) -> tuple[float, str]: ...
    @property
    def link_ridge(self) -> float | None: ...
    @property
    def compute_bound_tokens(self) -> float | None: ...
    @property
    def sensitivity(self) -> list[tuple[str, float]]: ...
    def compare(self, other: Analysis, by: str = "piece") -> Table: ...
    @staticmethod
    def break_even(
        deployment: Deployment, stem: Deployment, base: Deployment, point: Point, engine: EngineMemory
    ) -> Table: ...
    @staticmethod
    def bound_map(
        deployment: Deployment, engine: EngineMemory, batches: Sequence[int], contexts: Sequence[int]
    ) -> Table: ...
    @property
    def energy_j(self) -> float | None: ...
    @property
    def usd(self) -> float | None: ...
    @property
    def notes(self) -> list[str]: ...

@final
class Configurations:
    def __new__(
        cls,
        rows: int,
        columns: Mapping[str, Any],
        *,
        models: Sequence[Model],
        devices: Sequence[Hardware],
        engines: Sequence[EngineMemory],
        engine: str = "vllm",
        efficiency: str | PathLike[str] | None = None,
        act_quant: str | None = None,
        launch: str | None = None,
        p2p: bool | None = None,
        host: tuple[float, float, float | None] | None = None,
    ) -> Configurations: ...
    def evaluate(self, results: Sequence[str], progress: Progress | None = None) -> Table: ...

@final
class Space:
    def __new__(
        cls,
        axes: Mapping[str, Any],
        *,
        models: Sequence[Model],
        devices: Sequence[Hardware],
        engines: Sequence[EngineMemory],
        efficiency: str | PathLike[str] | None = None,
        act_quant: str | None = None,
        launch: str | None = None,
        p2p: bool | None = None,
        host: tuple[float, float, float | None] | None = None,
    ) -> Space: ...
    @staticmethod
    def settings() -> list[str]: ...
    @staticmethod
    def check(axis: str, name: str) -> None: ...
    @staticmethod
    def results() -> list[str]: ...
    @staticmethod
    def pick(columns: Mapping[str, Any], keep: str, objectives: Sequence[str], top: int) -> list[int]: ...
    @property
    def points(self) -> int: ...
    @property
    def columns(self) -> list[str]: ...
    def values(self, axis: str) -> Table: ...
    def narrowed(self, axis: str, places: Sequence[int]) -> Space: ...
    def next_possible(self, start: int, *, limits: Mapping[str, Any] | None = None) -> int: ...
    def read(
        self,
        start: int,
        stop: int,
        *,
        axes: Sequence[str] | None = None,
        results: Sequence[str],
        keep: str = "feasible",
        objectives: Sequence[str] = ...,
        top: int = 10,
        limits: Mapping[str, Any] | None = None,
        threads: int | None = None,
        progress: Progress | None = None,
    ) -> tuple[Table, list[tuple[str, int, str]]]: ...

@final
class Measurements:
    def __new__(
        cls, rows: int, columns: Mapping[str, Any], *, hw: Hardware | None = None, engine: str = ...
    ) -> Measurements: ...
    @property
    def refused(self) -> Table: ...
    @staticmethod
    def api_latency_s(efficiency: str | PathLike[str]) -> float | None: ...
    @staticmethod
    def price_steps(
        rows: int,
        columns: Mapping[str, Any],
        *,
        hw: Hardware | None = None,
        engine: str = "",
        model: str = "",
        efficiency: str | PathLike[str] | None = None,
    ) -> Table: ...
    @staticmethod
    def steps(
        rows: int,
        columns: Mapping[str, Any],
        *,
        source: str,
        date: str,
        remark: str = "",
        hw: Hardware | None = None,
        engine: str = "",
        model: str = "",
        efficiency: str | PathLike[str] | None = None,
        present: Sequence[tuple[str, str]] = ...,
    ) -> tuple[Table, Table, list[tuple[str, str]], Table]: ...
    def calibrate(
        self,
        *,
        source: str,
        date: str,
        remark: str = ...,
        prior: bool = True,
        extrapolate: bool = False,
        present: Sequence[tuple[str, str]] = ...,
    ) -> tuple[Table, list[tuple[str, str]]]: ...
    def validate(
        self, efficiency: str | PathLike[str] | None = None, beside: Sequence[Measurements] = ...
    ) -> tuple[Table, Table]: ...
    @staticmethod
    def line(
        sequences: Any, measured: Any, groups: Sequence[str]
    ) -> tuple[list[float], list[float], list[float]]: ...
    @staticmethod
    def points(
        rows: int,
        columns: Mapping[str, Any],
        *,
        hw: Hardware | None = None,
        engine: str = "",
        efficiency: str | PathLike[str] | None = None,
    ) -> tuple[Table, Table]: ...
    @staticmethod
    def compare(
        metric: str,
        predicted: Any,
        measured: Any,
        *,
        band: tuple[Any, Any] | None = None,
        ideal: Any | None = None,
        groups: Sequence[tuple[str, Sequence[str]]] = ...,
    ) -> tuple[Table, Table]: ...

@final
class TraceOptions:
    def __new__(
        cls,
        *,
        format: str | None = None,
        time_unit: str | None = None,
        on_error: str = "stop",
        zero_output: str | None = None,
        trace_block_size: int | None = None,
        require_sorted: bool = False,
        priority_order: str = "lower-first",
        csv_delimiter: str | None = None,
        csv_decimal: str = ".",
        window_s: tuple[float, float] | None = None,
        speedup: float | None = None,
        limit: int | None = None,
        default_output_tokens: int | None = None,
        turn_lengths: str | None = None,
        strict: bool = False,
        map: Sequence[str] | None = None,
        columns: str | None = None,
        time_format: str | None = None,
        arrivals_elsewhere: bool = False,
    ) -> TraceOptions: ...

@final
class Trace:
    def __new__(
        cls,
        arrival_s: Any,
        prompt_tokens: Any,
        output_tokens: Any,
        *,
        ids: Any = None,
        priority: Any = None,
        block_hashes: Any = None,
        block_size: int | None = None,
        segments: Any = None,
        segment_lengths: Any = None,
        output_segment: Any = None,
        session: Any = None,
        after: Any = None,
        delay_s: Any = None,
    ) -> Trace: ...
    @staticmethod
    def read(
        names: Sequence[str], options: TraceOptions | None = None, progress: Progress | None = None
    ) -> Trace: ...
    @staticmethod
    def files(name: str) -> list[Path]: ...
    @staticmethod
    def read_parts(
        parts: Iterable[tuple[str, bytes, int]], origin: str, options: TraceOptions | None = None
    ) -> Trace: ...
    @staticmethod
    def generate(
        words: Sequence[tuple[str, str]], like: Trace | None = None, progress: Progress | None = None
    ) -> tuple[Trace, list[str]]: ...
    @staticmethod
    def check(words: Sequence[tuple[str, str]]) -> None: ...
    @staticmethod
    def draw(words: Sequence[tuple[str, str]]) -> tuple[Trace, list[str]]: ...
    @staticmethod
    def generate_to(
        words: Sequence[tuple[str, str]],
        path: str | PathLike[str],
        format: str = "native",
        progress: Progress | None = None,
    ) -> tuple[int, list[str]]: ...
    def scaled(
        self,
        *,
        sample: float | None = None,
        upsample: int | None = None,
        target_rps: float | None = None,
        seed: int = 0,
        isl_scale: float | None = None,
        osl_scale: float | None = None,
        prefix_scale: float | None = None,
        max_isl: int | None = None,
        max_osl: int | None = None,
        idle_gap_cap: float | None = None,
        turn_delay_cap: float | None = None,
    ) -> Trace: ...
    def arriving(self, words: Sequence[tuple[str, str]]) -> Trace: ...
    def write(
        self, path: str | PathLike[str], format: str = "native", progress: Progress | None = None
    ) -> list[str]: ...
    def __len__(self) -> int: ...
    @property
    def model(self) -> str | None: ...
    @property
    def requests(self) -> Table: ...
    def inspect(self) -> Table: ...
    @property
    def metrics(self) -> list[tuple[str, float | None]]: ...
    @property
    def outline(self) -> list[tuple[str, float | None]]: ...
    def windows(self, window_s: float | None = None) -> Table: ...
    @property
    def origin(self) -> str | None: ...
    @property
    def format(self) -> str | None: ...
    @property
    def why(self) -> str | None: ...
    @property
    def time_unit(self) -> str | None: ...
    @property
    def block_size(self) -> int | None: ...
    @property
    def warnings(self) -> list[tuple[str, int, int, str]]: ...
    @property
    def information(self) -> list[str]: ...

@final
class Engine:
    def __new__(
        cls,
        name: str = "vllm",
        *,
        spec_method: str | None = None,
        spec_model: Model | None = None,
        num_speculative_tokens: int | None = None,
        spec_acceptance: float | Sequence[float] | str | None = None,
        seed: int = 0,
        **settings: float | str | None,
    ) -> Engine: ...
    def memory(self, hardware: Hardware) -> EngineMemory: ...
    def calibrate(
        self,
        deployment: Deployment,
        trace: Trace,
        tpot_s: Any,
        ttft_s: Any,
        *,
        source: str,
        date: str,
        remark: str = "",
        present: str | None = None,
        api_latency_s: float = 0.0,
        load: tuple[int, int] = (32, 1024),
        concurrency: int | None = None,
        max_concurrency: int | None = None,
    ) -> tuple[Table, Table, list[tuple[str, str]], Table]: ...
    @staticmethod
    def check(word: str, text: str) -> None: ...
    def simulate(
        self,
        deployment: Deployment,
        trace: Trace,
        *,
        record: str = "summary",
        step_cost: str | None = None,
        api_latency_s: float = 0.0,
        progress: Progress | None = None,
        session_mode: str = "closed",
        concurrency: int | None = None,
        think_time_ms: float = 0.0,
        max_concurrency: int | None = None,
        warmup: str | None = None,
        measure: str | None = None,
        over_context: str = "reject",
        use_recorded_cache: bool = False,
        slo: str | None = None,
        requests_file: str | PathLike[str] | None = None,
    ) -> Simulation: ...

@final
class Simulation:
    def summary(
        self, slo: str | None = None, percentiles: Sequence[float] = ...
    ) -> dict[str, int | float | bool | str | None]: ...
    @property
    def requests(self) -> Table: ...
    @property
    def steps(self) -> Table: ...
    @property
    def stretches(self) -> Table: ...
    def timeline(self, interval_s: float) -> Table: ...
    @property
    def times(self) -> Table: ...
    def explain(self, count: int, by: str) -> Table: ...
    def write_parquet(self, table: str, path: str | PathLike[str], interval_s: float) -> int: ...
    def write_perfetto(self, path: str | PathLike[str]) -> None: ...
    @property
    def settings(self) -> dict[str, int | float | bool | str | None]: ...
    @property
    def bounds(self) -> list[tuple[str, float]]: ...
    @property
    def operators(self) -> list[tuple[str, float]]: ...
    @property
    def band(self) -> tuple[float, float] | None: ...
    @property
    def notes(self) -> list[str]: ...

@final
class ViewerInputs:
    def __new__(
        cls,
        *,
        batchsize: int = 1,
        seqlen: int = 1,
        w_bit: int = 16,
        a_bit: int = 16,
        kv_bit: int = 16,
        use_flashattention: bool = False,
        tp_size: int = 1,
    ) -> ViewerInputs: ...

def llm_viewer_analyze(
    config: str, hardware: str, inputs: ViewerInputs, version: str
) -> tuple[Table, Table]: ...
def llm_viewer_generate(
    config: str, hardware: str, inputs: ViewerInputs, gen_len: int, version: str
) -> Table: ...
