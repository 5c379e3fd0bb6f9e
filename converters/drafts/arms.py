"""Whose arm the columns of a bimanual robot are: from names, from the words of episodes, from custom.

In: runs and their sample. Out: the runs with their side; where nothing tells, the side stays "" and the run asks.
A robot with one arm has the right one.
"""

from dataclasses import replace
from typing import Literal

import numpy as np

from converters.drafts.runs import ALOHA, STEMS, Run, is_bimanual
from converters.drafts.sample import Sample, Values
from converters.drafts.signs import Sign
from converters.drafts.words import Side, words, words_rank

CLEARLY = 1.2
"""How many times farther one arm has to move than the other to count as the one that the words name."""

LEAST_VOTES = 3
"""Episodes that have to agree, some of them about the left arm and some about the right: one may always rest."""


def with_sides(runs: list[Run], sample: Sample) -> list[Run]:
    """Give each run its arm: as named, else the right one; of two halves what words or custom say, else none."""
    both = {run.key for run in runs if is_bimanual(sample.values[run.key])}
    first = {key: _first_half(sample.values[key], sample) for key in both}
    return [
        _of_half(run, sample.values[run.key], *first[run.key])
        if not run.side and run.key in both
        else replace(run, side=run.side or "right")
        for run in runs
    ]


def _of_half(run: Run, values: Values, first: Side, why: str) -> Run:
    """A run of one half. first: which arm the first half is, "" when nothing says so."""
    half: Literal["first", "second"] = "first" if run.start < values.width // 2 else "second"
    if first == "":
        stem = STEMS.get(run.role, "")
        asked = f"which arm has the {half} half" + (f", left_{stem} or right_{stem}" if stem else "")
        question = f"{run.sign.question}; {asked}" if run.sign.question else asked
        return replace(run, sign=replace(run.sign, question=question))
    other: Side = "right" if first == "left" else "left"
    side = first if half == "first" else other
    known = f"the {side} arm, as above" if run.role == "gripper" else f"the {side} arm: {why}"
    sign = replace(run.sign, why=f"{run.sign.why}; {known}")
    if values.key == ALOHA and run.sign.question.startswith("is high open (ops: [])"):
        sign = Sign("1", (), f"{sign.why}; 1 is open, as in ALOHA")
    return replace(run, side=side, sign=sign)


def _first_half(values: Values, sample: Sample) -> tuple[Side, str]:
    """Which arm the first half of the columns is, and what says so."""
    votes = _votes(values, sample)
    sides = {side for _, side in votes}
    if len(votes) >= LEAST_VOTES and len(sides) == 1 and len({named for named, _ in votes}) == 2:
        return (
            sides.pop(),
            f"in {len(votes)} of {len(votes)} episodes whose words name one arm, it is the one that moves",
        )
    if values.key == ALOHA and values.width == 14:
        return "left", "the custom of ALOHA recordings; nothing in the numbers says so"
    return "", ""


def _votes(values: Values, sample: Sample) -> list[tuple[str, Side]]:
    """For each episode whose words name one arm: that arm, and which the first half is if the named one moved."""
    keys = sorted(sample.texts, key=lambda key: (words_rank(key), key))
    votes: list[tuple[str, Side]] = []
    for key in keys[:1]:
        texts = sample.texts[key] if len(sample.texts[key]) == len(values.arrays) else []
        for text, array in zip(texts, values.arrays, strict=False):
            named = {"left", "right"} & set(words(text))
            moved = np.abs(np.diff(array, axis=0)).sum(axis=0)
            first, second = moved[: values.width // 2].sum(), moved[values.width // 2 :].sum()
            if len(named) == 1 and max(first, second) > CLEARLY * min(first, second):
                is_left = (named == {"left"}) == bool(first > second)
                votes.append((named.pop(), "left" if is_left else "right"))
    return votes
