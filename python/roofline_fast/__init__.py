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
    from roofline_fast.comparison import Comparison, bound_map, break_even, compare
    from roofline_fast.evaluation import evaluate
    from roofline_fast.hardware import Hardware
    from roofline_fast.listing import catalog
    from roofline_fast.measurements.calibration import Calibration, calibrate
    from roofline_fast.measurements.validation import Validation, validate
    from roofline_fast.model import Model
    from roofline_fast.simulation.rates import simulate_rates
    from roofline_fast.simulation.result import Simulation
    from roofline_fast.simulation.run import simulate
    from roofline_fast.sweeps.space import sweep
    from roofline_fast.traffic.trace import Trace

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
    "Calibration": "roofline_fast.measurements.calibration",
    "Comparison": "roofline_fast.comparison",
    "Hardware": "roofline_fast.hardware",
    "Layout": "roofline_fast._core",
    "Model": "roofline_fast.model",
    "Simulation": "roofline_fast.simulation.result",
    "Trace": "roofline_fast.traffic.trace",
    "Validation": "roofline_fast.measurements.validation",
    "__version__": "roofline_fast._core",
    "analyze": "roofline_fast.analysis",
    "bound_map": "roofline_fast.comparison",
    "break_even": "roofline_fast.comparison",
    "calibrate": "roofline_fast.measurements.calibration",
    "catalog": "roofline_fast.listing",
    "compare": "roofline_fast.comparison",
    "evaluate": "roofline_fast.evaluation",
    "simulate": "roofline_fast.simulation.run",
    "simulate_rates": "roofline_fast.simulation.rates",
    "sweep": "roofline_fast.sweeps.space",
    "validate": "roofline_fast.measurements.validation",
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
