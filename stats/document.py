"""Statistics as a document people and programs read: plain numbers, keyed by the names of slots.

In: `PartStats`. Out: JSON-able data in a fixed order:

    episodes, steps, lengths {min, mean, max, quantiles}
    state, action, action_minus_state: {slot name: {index, unit, count, mean, std, min, max, zero_fraction,
        quantiles {"0.1" … "99.9", in per cent}, quantile_error (the most any of them can be off), exact (it is 0),
        histogram {low, high, counts}, step {count, mean, std, max}}}

std is that of the population. `step` is the change to the next step; its max is of the absolute value.
"""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from rdt_data.layout import preferred_name, unit
from stats.part_stats import Columns, PartStats
from stats.reducers import Extent, Lengths, Moments, Reducer, Shape, Zeros

SCHEMA = "rdt-data-stats-1"

PER_CENT = (0.1, 1, 2, 10, 50, 90, 98, 99, 99.9)
BINS = 40

_SHARES = np.array(PER_CENT) / 100


def summary(stats: PartStats) -> dict[str, Any]:
    """The document of some parts together."""
    steps_of = {"state": "state_step", "action": "action_step"}
    return {
        "episodes": stats.lengths.episodes,
        "steps": stats.lengths.steps,
        "lengths": _lengths(stats.lengths),
        **{
            name: _slots(stats.columns[name], stats.columns[steps_of[name]] if name in steps_of else {})
            for name in ("state", "action", "action_minus_state")
        },
    }


def _lengths(lengths: Lengths) -> dict[str, Any]:
    if not lengths.counts:
        return {}
    return {
        "min": min(lengths.counts),
        "mean": lengths.steps / lengths.episodes,
        "max": max(lengths.counts),
        "quantiles": _quantiles(lengths.quantiles(_SHARES)),
    }


def _slots(columns: Columns, steps: Columns) -> dict[str, Any]:
    return {preferred_name(slot): _slot(slot, columns[slot], steps.get(slot)) for slot in sorted(columns)}


def _slot(slot: int, kinds: Mapping[str, Reducer], step: Mapping[str, Reducer] | None) -> dict[str, Any]:
    moments, extent, zeros, shape = (kinds[kind] for kind in ("moments", "extent", "zeros", "shape"))
    assert isinstance(moments, Moments)
    assert isinstance(extent, Extent)
    assert isinstance(zeros, Zeros)
    assert isinstance(shape, Shape)
    values, errors = shape.buckets.quantiles(_SHARES)
    error = float(errors.max())
    return {
        "index": slot,
        "unit": unit(slot),
        "count": moments.count,
        "mean": moments.mean,
        "std": moments.std,
        "min": extent.low,
        "max": extent.high,
        "zero_fraction": zeros.exact / moments.count,
        "quantiles": _quantiles(np.clip(values, extent.low, extent.high)),
        "quantile_error": error,
        "exact": error == 0,
        "histogram": _histogram(shape, extent),
        **({"step": _step(step)} if step is not None else {}),
    }


def _quantiles(values: Any) -> dict[str, float]:
    return {f"{share:g}": float(value) for share, value in zip(PER_CENT, values, strict=True)}


def _histogram(shape: Shape, extent: Extent) -> dict[str, Any]:
    """Counts in BINS equal bins from the smallest to the largest value; one bin where there is one value."""
    if extent.low == extent.high:
        return {"low": extent.low, "high": extent.high, "counts": [shape.buckets.count]}
    edges = np.linspace(extent.low, extent.high, BINS + 1)
    edges[0], edges[-1] = -math.inf, math.inf  # the middle of an outer bucket may lie outside of the extent
    return {"low": extent.low, "high": extent.high, "counts": shape.buckets.histogram(edges).tolist()}


def _step(kinds: Mapping[str, Reducer]) -> dict[str, Any]:
    moments, extent = kinds["moments"], kinds["extent"]
    assert isinstance(moments, Moments)
    assert isinstance(extent, Extent)
    if not moments.count:
        return {"count": 0}
    largest = max(abs(extent.low), abs(extent.high))
    return {"count": moments.count, "mean": moments.mean, "std": moments.std, "max": largest}
