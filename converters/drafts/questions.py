"""The questions that a drafted spec leaves open: every value that is "?", and what would be an answer.

In: the text of a spec. Out: a `Question` for each "?". Knows nothing of sources; `converters.drafts.text` writes the
comment `# ? …` behind a line, which is repeated here.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import yaml

from converters.ops import UNITS
from converters.spec import DatasetSpec, load_spec
from rdt_data.errors import SpecError
from rdt_data.layout import CAMERAS, GROUPS
from rdt_data.yaml_model import parse_yaml, read_text

_ANSWERS = {
    "control_hz": "the steps a second, a number",
    "from": "the key of a value; `rdt-data inspect SOURCE` lists them",
    "unit": f"one of {', '.join(UNITS)}",
    "ops": "an op of converters/ops.py; where the values are right as they are, write ops: []",
    "to": f"a group of slots ({', '.join(name for name in GROUPS if name.startswith('right_'))}, … or left_…)",
    "channels": "rgb or bgr",
}
_ANSWERS |= dict.fromkeys(CAMERAS, "the key of the camera; take the line out when there is none")


@dataclass(frozen=True, slots=True)
class Question:
    """One "?": where it is ("state[2].unit", line 31), what the draft asks there, what may be written."""

    path: str
    line: int
    asked: str
    answers: str

    def __str__(self) -> str:
        return f"{self.path} is '?': answer it in line {self.line}: {self.asked or self.answers}"


def open_questions(text: str, file: str) -> list[Question]:
    """Every "?" in the text of a spec, from top to bottom. Raises SpecError when it is not plain YAML."""
    parse_yaml(text, file, example="docs/my_robot.yaml")  # refuses aliases, of which a walk might never come to an end
    lines, root = text.splitlines(), yaml.compose(text, Loader=yaml.SafeLoader)
    found = [] if root is None else list(_marks(root, ()))
    numbers = [line for _, line in found]
    return [
        _question(path, line, lines[line], numbers[:n].count(line), numbers.count(line))
        for n, (path, line) in enumerate(found)
    ]


def load_answered(path_or_name: str) -> DatasetSpec:
    """The spec as `load_spec` gives it. Raises SpecError that lists the open questions, when there are any."""
    path = Path(path_or_name)
    text = read_text(path) if path.suffix in (".yaml", ".yml") or len(path.parts) > 1 else ""
    if text.strip() and (asked := open_questions(text, path_or_name)):
        counted = "1 question is" if len(asked) == 1 else f"{len(asked)} questions are"
        listed = "\n".join(f"  {question}" for question in asked)
        raise SpecError(f"{path_or_name}: {counted} open:\n{listed}", remedy='write the answer in place of each "?"')
    return load_spec(path_or_name)


def _marks(node: yaml.Node, path: tuple[str | int, ...]) -> Iterator[tuple[tuple[str | int, ...], int]]:
    """(path, line from 0) of every "?"."""
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            yield from _marks(value, (*path, str(key.value)))
    elif isinstance(node, yaml.SequenceNode):
        for number, value in enumerate(node.value):
            yield from _marks(value, (*path, number))
    elif node.value == "?":
        yield path, node.start_mark.line


def _question(path: tuple[str | int, ...], line: int, written: str, which: int, of: int) -> Question:
    """The question at `path`, the `which`-th of `of` in its line; the comment asks them in order, with ";" between."""
    comment = re.search(r"# \? (.+)$", written)
    parts = comment[1].strip().split("; ") if comment else [""]
    asked = parts[which] if len(parts) == of else "; ".join(parts)
    shown = "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in path).removeprefix(".")
    last = next(step for step in reversed(path) if isinstance(step, str))
    return Question(shown, line + 1, asked, _ANSWERS.get(last, "what is meant there"))
