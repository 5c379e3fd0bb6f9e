"""Some rows of a feed's batch, as a batch of their own."""

from collections.abc import Sequence
from dataclasses import fields, replace

from rdt_data.batch import Batch, Tokens


def rows_of(batch: Batch, rows: Sequence[int]) -> Batch:
    """A batch of these rows of another, which must have embeddings."""
    assert isinstance(batch.language, Tokens)
    tokens = Tokens(batch.language.tokens[rows], batch.language.mask[rows])
    names = [one.name for one in fields(batch) if one.name not in ("language", "instruction")]
    texts = tuple(batch.instruction[number] for number in rows)
    return replace(batch, language=tokens, instruction=texts, **{name: getattr(batch, name)[rows] for name in names})
