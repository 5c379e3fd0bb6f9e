"""Draft a spec for a source that nobody has described yet: `rdt-data spec new`.

In: a source. Out: the text of a spec with the evidence of every guess as a comment and "?" where the data cannot tell.
What a few episodes look like is read by `sample`, judged by `guess`, written by `text`.
"""

from dataclasses import dataclass
from pathlib import Path

from converters.drafts.guess import guess
from converters.drafts.questions import Question, open_questions
from converters.drafts.sample import look
from converters.drafts.text import draft_text


@dataclass(frozen=True, slots=True)
class Draft:
    """The text of a spec, and what is still asked in it."""

    text: str
    questions: list[Question]


def draft_spec(source: Path, reader: str | None = None, episodes: int = 5) -> Draft:
    """Draft a spec from up to `episodes` episodes spread over the source.

    reader: the reader to use; None: the first that knows the source. Raises SourceError when nothing can be read.
    """
    sample = look(source, reader, episodes)
    text = draft_text(sample, guess(sample))
    return Draft(text, open_questions(text, "the draft"))
