"""Statistics as the published RDT code computes and stores them: `dataset_stat.json`, for a model trained on it.

Its definitions, 128 numbers each, over every step of every episode, slots that are not real being 0:

    state_mean   sum / steps
    state_std    sqrt(max(squares / m - mean ** 2 * steps / m, 0)), m = steps with |x| > 1e-8, at least 1
    state_min, state_max

(published `data/compute_dataset_stat.py`; values of at most 1e-8 count as 0 in its std, which changes nothing here that
float32 could show.) It stops after 100,000 episodes of a dataset; these are over all of them.
"""

import math
from typing import Any

from rdt_data.layout import DIM
from stats.exact import PLACES, as_float
from stats.part_stats import PartStats
from stats.reducers import Extent, Moments, Zeros


def published_entry(name: str, stats: PartStats) -> dict[str, Any]:
    """The entry of one dataset."""
    steps, columns = stats.lengths.steps, stats.columns["state"]
    mean, std, low, high = ([0.0] * DIM for _ in range(4))
    for slot, kinds in columns.items():
        moments, extent, zeros = kinds["moments"], kinds["extent"], kinds["zeros"]
        assert isinstance(moments, Moments)
        assert isinstance(extent, Extent)
        assert isinstance(zeros, Zeros)
        large = max(moments.count - zeros.published, 1)
        mean[slot] = as_float(moments.total, steps)
        scaled = steps * (moments.squares << PLACES) - moments.total * moments.total  # see Moments.std
        std[slot] = math.sqrt(max(as_float(scaled, (large * steps) << PLACES), 0.0))
        absent = moments.count < steps  # some steps lack the slot: 0 there
        low[slot] = min(extent.low, 0.0) if absent else extent.low
        high[slot] = max(extent.high, 0.0) if absent else extent.high
    return {"dataset_name": name, "state_mean": mean, "state_std": std, "state_min": low, "state_max": high}
