"""Which texts are encoded together, so that little work is spent on padding.

In: the length of each text in tokens, and a budget. Out: batches of positions. A batch costs its longest text times
its number of texts, since the others are padded to that length; this is what the budget limits. Knows nothing of
texts or encoders, and the same lengths always give the same batches.
"""

from collections.abc import Sequence
from typing import Final

from rdt_data.errors import RdtError

LEAST_FILL: Final = 0.75
"""A batch ends before a text that is shorter than this share of its longest: so at most a quarter is padding.

Without it one long text would have short ones padded to its length. It adds only as many batches as lengths differ by
factors of 4/3: 24 between 1 and 1024.
"""


def batches(lengths: Sequence[int], budget: int) -> list[list[int]]:
    """Positions of the texts of each batch, longest text first: what does not fit into memory fails at once.

    lengths: tokens of each text. budget: tokens of a batch with padding; a longer text is a batch of its own.
    """
    if budget < 1:
        raise RdtError(f"a budget of {budget} tokens", remedy="use --batch-tokens 1 or more")
    found: list[list[int]] = []
    for position in sorted(range(len(lengths)), key=lambda position: -lengths[position]):
        if found:
            longest = lengths[found[-1][0]]
            fits = longest * (len(found[-1]) + 1) <= budget
            if fits and lengths[position] >= LEAST_FILL * longest:
                found[-1].append(position)
                continue
        found.append([position])
    return found


def padded_tokens(lengths: Sequence[int], of: Sequence[Sequence[int]]) -> int:
    """Tokens that an encoder sees for these batches, padding included."""
    return sum(len(batch) * max(lengths[position] for position in batch) for batch in of)
