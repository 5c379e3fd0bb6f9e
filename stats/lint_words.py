"""Checks of instructions: missing, a template that was never filled in, a file name, no words, all the same.

In: `Rows`. Out: hits. Nothing here judges whether a text describes its episode.
"""

import re
from collections import Counter
from collections.abc import Iterator, Sequence

from stats.lint_check import Check, Hit, Need
from stats.lint_rows import Rows

UNFILLED = re.compile(r"\{[^{}]*\}|<[A-Za-z][\w -]*>|%\(\w+\)s|%s|\$[A-Za-z_]\w*|\b[Ll]orem ipsum\b|\bTODO\b")
"""{object}, <object>, %s, %(object)s, $object, lorem ipsum, TODO (todo is a word in Spanish)."""

FILE = re.compile(r"\S+\.(pt|pth|npy|npz|pkl|h5|hdf5|json|jsonl|txt|bin|safetensors|parquet|mp4)\.?|(/|[A-Za-z]:\\)\S+")
"""One word that ends as files do (a cleaned text may have got a full stop), or starts at a root."""

EMPTY_WORDS = frozenset(
    ("none", "null", "nan", "n/a", "na", "unknown", "undefined", "empty", "test", "instruction", "placeholder", "task")
)
SAME_EPISODES = 20


def _each(rows: Rows, bad: Sequence[bool], expected: str) -> Iterator[Hit]:
    for number, text, wrong in zip(rows.numbers, rows.instructions, bad, strict=True):
        if wrong:
            yield Hit(repr(text[:80]), expected, episode=number)


def instruction_missing(rows: Rows) -> Iterator[Hit]:
    """Episodes without a text."""
    yield from _each(rows, [not text.strip() for text in rows.instructions], "a sentence that says what to do")


def instruction_template(rows: Rows) -> Iterator[Hit]:
    """Texts with a place that nothing was put in."""
    yield from _each(
        rows, [bool(UNFILLED.search(text)) for text in rows.instructions], "words in place of the template's"
    )


def instruction_path(rows: Rows) -> Iterator[Hit]:
    """Texts that are the name of a file."""
    yield from _each(
        rows, [bool(FILE.fullmatch(text.strip())) for text in rows.instructions], "words, not the name of a file"
    )


def instruction_empty_word(rows: Rows) -> Iterator[Hit]:
    """Texts that say nothing: "none", "nan", digits."""
    bad = [
        bool(text.strip()) and (text.strip(" .!\t\n").lower() in EMPTY_WORDS or not any(map(str.isalpha, text)))
        for text in rows.instructions
    ]
    yield from _each(rows, bad, "a sentence that says what to do")


def texts(rows: Rows) -> Counter[str]:
    """How often each instruction occurs."""
    return Counter(rows.instructions)


def instruction_same(found: Sequence[Counter[str]]) -> Iterator[Hit]:
    """Stores with one text for all."""
    total: Counter[str] = Counter()
    for one in found:
        total.update(one)
    if len(total) == 1 and total.total() >= SAME_EPISODES:
        (text,) = total
        if text:
            yield Hit(repr(text[:80]), "more than one text, if there is more than one task", count=total.total())


_MANY = Need(f"at least {SAME_EPISODES} episodes", lambda seen: seen.episodes >= SAME_EPISODES)
_AGAIN = "convert with the right `instruction` key in the spec"

WORDS = (
    Check(
        name="instruction_missing",
        severity="warning",
        subject="rows",
        about="an episode without an instruction",
        threshold="the text is empty",
        source="a policy that is told what to do cannot learn from it what it is told",
        remedy="give one with `convert --instruction`, or leave such episodes out",
        find=instruction_missing,
    ),
    Check(
        name="instruction_template",
        severity="error",
        subject="rows",
        about="an instruction with a place that was never filled in",
        threshold="{…}, <word>, %s, $word, lorem ipsum, TODO",
        source="no sentence said to a robot holds them",
        remedy="fill the template where the recordings are made, and convert again",
        find=instruction_template,
    ),
    Check(
        name="instruction_path",
        severity="error",
        subject="rows",
        about="an instruction that is the name of a file",
        threshold="one word that starts at the root (/, C:\\), or ends in .pt, .npy, .json, .txt …",
        source="recordings of AgileX name the file of an embedding where others have the text",
        remedy=_AGAIN,
        find=instruction_path,
    ),
    Check(
        name="instruction_empty_word",
        severity="warning",
        subject="rows",
        about="an instruction that says nothing",
        threshold=f"no letter, or just one of: {', '.join(sorted(EMPTY_WORDS))}",
        source="what programs write for nothing",
        remedy=_AGAIN,
        find=instruction_empty_word,
    ),
    Check(
        name="instruction_same",
        severity="info",
        subject="rows",
        about="one instruction for the whole store",
        threshold=f"all texts equal, at least {SAME_EPISODES} episodes",
        source="fine for a single task; then language teaches nothing",
        remedy="nothing, if it is one task; else convert with the right `instruction` key",
        find=instruction_same,
        gather=texts,
        need=_MANY,
    ),
)
