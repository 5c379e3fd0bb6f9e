"""The words of an episode: which text is the instruction, and how it is cleaned.

In: a spec and a raw episode. Out: the cleaned instruction and the text as it was recorded.
"""

from converters.raw import RawEpisode
from converters.spec import DatasetSpec
from rdt_data.errors import SourceError

REPLACEMENTS = tuple((old, " ") for old in ("_", "1f", "4f", "-", "50", "55", "56"))
"""What the published pipeline takes out, in this order and anywhere: marks of one dataset's task names.

So "150" loses its last two digits. Blanks that a replacement leaves inside the text stay, two of them too.
"""


def clean_rdt(text: str) -> str:
    """The published cleaning: replacements, no blanks around, first letter a capital, a full stop at the end.

    The other letters keep their case. No words stay no words: "" for a text of blanks.
    """
    for old, new in REPLACEMENTS:
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
    found = [(key, raw.text(key)) for key in words.from_]
    candidates = [*(text for _, text in found if text is not None), words.text, default]
    text = next((text for text in candidates if text and text.strip()), None)
    if text is not None:
        return (clean_rdt(text) if words.clean == "rdt" else text.strip()), text
    if words.missing == "empty":
        return "", ""
    there = [key for key, text in found if text is not None]
    raise SourceError(
        "the instruction is empty" if there else "there is no instruction",
        remedy="name where the words are in `instruction: from`, or allow none with `missing: empty`",
        field=there[0] if there else " or ".join(words.from_),
    )
