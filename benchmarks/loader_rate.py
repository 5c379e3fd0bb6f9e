"""How fast a peer's DataLoader is: samples per second, after its workers have begun. Runs in the peers' environments.

In: a dataset, how to batch. Out: a rate. Indices are drawn without end, so that no epoch of a small dataset ends while
the clock runs.
"""

import time
from collections.abc import Callable
from typing import Any

import torch

BATCH = 32
WARM = 4  # batches: they were made before the clock runs


def loader_rate(
    dataset: Any, seconds: float, workers: int, check: Callable[[Any], None], collate: Callable[..., Any] | None = None
) -> float:
    """Samples per second over `seconds`. check: raises when a batch is not what it should be; the last one is shown."""
    endless = torch.utils.data.RandomSampler(dataset, replacement=True, num_samples=10**7)
    loader = torch.utils.data.DataLoader(
        dataset, batch_size=BATCH, sampler=endless, num_workers=workers, collate_fn=collate
    )
    count, start = -WARM, 0.0
    for batch in loader:
        count += 1
        if count == 0:
            start = time.perf_counter()
        elif count > 0 and time.perf_counter() - start > seconds:
            check(batch)
            break
    return BATCH * count / (time.perf_counter() - start)
