"""The words of an episode: which text is the instruction, and how it is cleaned.

In: a spec and a raw episode. Out: the cleaned instruction and the text as it was recorded.
"""

from collections.abc import Iterator, Sequence
from itertools import count

import numpy as np

from converters.raw import RawEpisode
from converters.spec import DatasetSpec
from rdt_data.errors import SourceError

REPLACEMENTS = tuple((old, " ") for old in ("_", "1f", "4f", "-", "50", "55", "56"))
"""What the published pipeline takes out, in this order and anywhere: marks of one dataset's task names.

So "150" loses its last two digits. Blanks that a replacement leaves inside the text stay, two of them too.
"""


def clean_rdt(text: str, replace: Sequence[tuple[str, str]] = ()) -> str:
    """The published cleaning: replacements, no blanks around, first letter a capital, a full stop at the end.

    replace: further replacements of one dataset, made after those of all. The other letters keep their case. No words
    stay no words: "" for a text of blanks.
    """
    for old, new in (*REPLACEMENTS, *replace):
        text = text.replace(old, new)
    text = text.strip()
    if not text:
        return ""
    text = text[0].upper() + text[1:]
    return text if text.endswith(".") else text + "."


def instruction_of(spec: DatasetSpec, raw: RawEpisode, *, default: str | None = None) -> tuple[str, str]:
    """The instruction of an episode: cleaned as the spec says, and as it was recorded.

    Taken from the first source that is there and not blank, else the spec's constant text, else `default`.
    Without any: ("", "") when the spec allows an episode without words, else SourceError.
    """
    words = spec.instruction
    found = [(key, _from_code_points(raw, key) if words.code_points else raw.text(key)) for key in words.from_]
    candidates = [*(text for _, text in found if text is not None), words.text, default]
    text = next((text for text in candidates if text and text.strip()), None)
    if text is not None:
        return (clean_rdt(text, words.replace) if words.clean == "rdt" else _replaced(text, words.replace)), text
    if words.missing == "empty":
        return "", ""
    there = [key for key, text in found if text is not None]
    raise SourceError(
        "the instruction is empty" if there else "there is no instruction",
        remedy="name where the words are in `instruction: from`, or allow none with `missing: empty`",
        field=there[0] if there else " or ".join(words.from_),
    )


def phrasings_of(spec: DatasetSpec, raw: RawEpisode, instruction: str) -> tuple[str, ...]:
    """Other words for the same instruction, cleaned like it, each once, in the order of the spec's `also`.

    A value that is a list is read as KEY, KEY/1, KEY/2 … until there is none.
    """
    words = spec.instruction
    texts = [text for key in words.also for text in _listed(raw, key)]
    cleaned = (
        clean_rdt(text, words.replace) if words.clean == "rdt" else _replaced(text, words.replace) for text in texts
    )
    return tuple(dict.fromkeys(text for text in cleaned if text and text != instruction))


def _listed(raw: RawEpisode, key: str) -> Iterator[str]:
    for number in count():
        text = raw.text(key if number == 0 else f"{key}/{number}")
        if text is None:
            return
        yield text


def _replaced(text: str, replace: Sequence[tuple[str, str]]) -> str:
    for old, new in replace:
        text = text.replace(old, new)
    return text.strip()


def _from_code_points(raw: RawEpisode, key: str) -> str | None:
    """The text of the first step's code points, (T, L) integers, without the zeros behind it; None without the key."""
    if key not in set(raw.keys()):
        return None
    numbers = np.asarray(raw.array(key))
    if numbers.dtype.kind not in "iu" or numbers.ndim != 2:
        raise SourceError(
            f"holds {numbers.dtype} of shape {numbers.shape}, not code points",
            remedy="name integers, one row a step, or leave `code_points` out of `instruction`",
            field=key,
        )
    first = numbers[0] if len(numbers) else numbers.reshape(-1)
    try:
        return "".join(map(chr, first.tolist())).strip("\0")
    except (ValueError, OverflowError) as error:
        raise SourceError(f"a number is no character: {error}", remedy="repair the data", field=key) from error
