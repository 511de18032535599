"""What a language model costs to serve, what bounds it, and what to buy.

Everything heavy is imported when it is first used: importing this package costs milliseconds.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from roofline_fast.errors import (
    DoesNotFitError,
    InternalError,
    RooflineError,
    SpecError,
    TraceError,
    UnknownNameError,
)

if TYPE_CHECKING:
    from roofline_fast._core import Layout, __version__
    from roofline_fast.analysis import Analysis, analyze
    from roofline_fast.calibration import Calibration, calibrate
    from roofline_fast.comparison import Comparison, bound_map, break_even, compare
    from roofline_fast.evaluation import evaluate
    from roofline_fast.hardware import Hardware
    from roofline_fast.listing import catalog
    from roofline_fast.model import Model
    from roofline_fast.rates import simulate_rates
    from roofline_fast.simulated import Simulation
    from roofline_fast.simulation import simulate
    from roofline_fast.sweeps import sweep
    from roofline_fast.trace import Trace
    from roofline_fast.validation import Validation, validate

__all__ = [
    "Analysis",
    "Calibration",
    "Comparison",
    "DoesNotFitError",
    "Hardware",
    "InternalError",
    "Layout",
    "Model",
    "RooflineError",
    "Simulation",
    "SpecError",
    "Trace",
    "TraceError",
    "UnknownNameError",
    "Validation",
    "__version__",
    "analyze",
    "bound_map",
    "break_even",
    "calibrate",
    "catalog",
    "compare",
    "evaluate",
    "simulate",
    "simulate_rates",
    "sweep",
    "validate",
]

# Where each public name lives that is not imported above.
_HOME = {
    "Analysis": "roofline_fast.analysis",
    "Calibration": "roofline_fast.calibration",
    "Comparison": "roofline_fast.comparison",
    "Hardware": "roofline_fast.hardware",
    "Layout": "roofline_fast._core",
    "Model": "roofline_fast.model",
    "Simulation": "roofline_fast.simulated",
    "Trace": "roofline_fast.trace",
    "Validation": "roofline_fast.validation",
    "__version__": "roofline_fast._core",
    "analyze": "roofline_fast.analysis",
    "bound_map": "roofline_fast.comparison",
    "break_even": "roofline_fast.comparison",
    "calibrate": "roofline_fast.calibration",
    "catalog": "roofline_fast.listing",
    "compare": "roofline_fast.comparison",
    "evaluate": "roofline_fast.evaluation",
    "simulate": "roofline_fast.simulation",
    "simulate_rates": "roofline_fast.rates",
    "sweep": "roofline_fast.sweeps",
    "validate": "roofline_fast.validation",
}


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(_HOME[name]), name)
    if name != "__version__":
        globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
