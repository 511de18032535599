"""The throughput–latency curve: the same traffic at several rates, one row a rate."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from roofline_fast import checks
from roofline_fast.errors import SpecError
from roofline_fast.simulation.run import simulate
from roofline_fast.traffic.trace import Trace
from roofline_fast.traffic.workload import ARRIVALS, Traffic, load, refuse_pairs, texts, words

if TYPE_CHECKING:
    import polars as pl

    from roofline_fast.simulation.result import Simulation


@checks.named
def simulate_rates(
    trace: Traffic | None = None, *, request_rate: str | Iterable[float | str], **settings: Any
) -> pl.DataFrame:
    """Replay the same traffic at several rates: the throughput–latency curve.

    Parameters
    ----------
    trace : path, sequence of paths or Trace, optional
        As for `simulate`; its arrivals are drawn anew at each rate.
    request_rate : iterable of float or str
        Requests a second, or ``"inf"``: ``[1, 10, 100]``, or ``"1,10,100"``.
    **settings
        As for `simulate`.

    Returns
    -------
    polars.DataFrame
        One row a rate: ``request_rate``, and the figures of `Simulation.summary`.

    Examples
    --------
    >>> import roofline_fast as rf
    >>> curve = rf.simulate_rates(
    ...     num_prompts=50, request_rate=[1, 100], input_len=500, output_len=20, hw="h100-sxm", model="llama-3.1-8b"
    ... )
    >>> curve["request_rate"].to_list(), curve["completed"].to_list()
    ([1.0, 100.0], [50, 50])
    """
    if settings.get("requests_file") is not None:
        message = "requests_file must be left out with several rates"
        hint = "each would write it: `simulate` one rate at a time"
        raise SpecError(message, field="requests_file", value=str(settings["requests_file"]), hint=hint)
    rates = parted(request_rate)
    known = words()
    options = {word: settings.pop(word) for word in list(settings) if word in known}
    stream = settings.pop("stream", None)
    traces = loaded(
        trace,
        options,
        rates,
        settings.get("seed", 0),
        arrivals_needed=settings.get("concurrency") is None,
        stream=False if stream is None and settings.get("record", "summary") != "summary" else stream,
    )
    return rows([simulate(requests, **settings) for requests in traces], rates)


def parted(rates: str | Iterable[float | str]) -> list[str]:
    """Return rates as texts: those of a list, or of ``"1,2,4"``."""
    if isinstance(rates, str):
        found = [part.strip() for part in rates.split(",") if part.strip()]
    elif isinstance(rates, Iterable) and not isinstance(rates, Mapping):
        found = [text for rate in rates for _, text in texts({"request_rate": rate})]
    else:
        found = []
    if not found:
        hint = "for example `[1, 2, 4]`"
        message = f"request_rate must be a list of rates: {rates!r}"
        raise SpecError(message, field="request_rate", value=repr(rates), hint=hint)
    return found


def loaded(
    trace: Traffic | None,
    options: Mapping[str, Any],
    rates: Sequence[str],
    seed: int,
    *,
    arrivals_needed: bool = True,
    stream: bool | None = False,
) -> list[Trace]:
    """Return the traffic of `load`, once for each rate; once as it is, without any."""
    each: list[dict[str, Any]] = [{**options, "request_rate": rate} for rate in rates] or [dict(options)]
    refuse_pairs(each[0], generated=trace is None, users=not arrivals_needed)
    if trace is None:
        return [load(None, words, seed, stream=stream) for words in each]
    if len(each) == 1:
        return [load(trace, each[0], seed, arrivals_needed=arrivals_needed, stream=stream)]
    drawn = {word: value for word, value in options.items() if word in ARRIVALS and value is not None}
    once = {word: value for word, value in options.items() if word not in ARRIVALS}
    requests = load(trace, once, seed, arrivals_needed=False, stream=stream)
    return [requests.arriving(**{**drawn, "request_rate": rate}, seed=seed) for rate in rates]


def rows(simulations: Sequence[Simulation], asked: Sequence[str]) -> pl.DataFrame:
    """Return one row a rate: what was asked, and the summary."""
    import polars as pl

    columns = {
        name: [simulation.summary[name] for simulation in simulations] for name in simulations[0].summary
    }
    return pl.DataFrame({"request_rate": [float(rate) for rate in asked], **columns})
