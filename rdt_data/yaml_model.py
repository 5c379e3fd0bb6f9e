"""A YAML file that people write -> plain data, and what is wrong with it -> one SpecError that they can act on.

Specs and mixtures are read with it: the data is validated by a pydantic model, whose problems `spec_error` explains.

Only plain YAML is read: no tags that make objects, no aliases (a few lines of them can stand for gigabytes), and a
key that is written twice is an error, which PyYAML alone would let pass.
"""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, get_args

import yaml
from pydantic import BaseModel, ConfigDict, PlainValidator, ValidationError
from pydantic_core import PydanticCustomError

from rdt_data.errors import RdtError, SpecError, unknown


class Part(BaseModel):
    """What every part shares: nothing can change, unknown keys are errors, types are not guessed."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


def problem(text: str, *, remedy: str, key: str = "") -> PydanticCustomError:
    """A problem found while validating; `key` is where below the validated value it lies."""
    return PydanticCustomError("spec", "{problem}", {"problem": text, "remedy": remedy, "key": key})


def problem_of(error: RdtError, key: str = "") -> PydanticCustomError:
    return problem(error.problem, remedy=error.remedy, key=key)


def one_of(kind: str, allowed: Sequence[str]) -> PlainValidator:
    """One of the names `allowed`, or a problem naming the near miss."""

    def check(value: Any) -> str:
        if str(value) not in allowed or isinstance(value, bool | float):
            raise problem_of(unknown(kind, str(value), allowed))
        return str(value)

    return PlainValidator(check)


def listed(value: Any) -> Any:
    """A list -> a tuple, as the models hold it."""
    if not isinstance(value, list | tuple):
        raise problem(f"{value!r} is not a list", remedy="write a list: lines that start with `- `, or [ … ]")
    return tuple(value)


def read_text(path: Path) -> str:
    """The text of a YAML file."""
    try:
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise SpecError(
            f"{path}: cannot be read: {error.strerror}",
            remedy="check the path, or give the name of one that comes with the project",
        ) from error
    except UnicodeDecodeError as error:
        raise SpecError(f"{path}: is not UTF-8 text (byte {error.start})", remedy="give a YAML text file") from error


def parse_yaml(text: str, file: str, *, example: str) -> dict[str, Any]:
    """The mapping that a file holds. example: what to start from, for the error when it holds none."""
    try:
        data = yaml.load(text, Loader=_Loader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        where = f"line {mark.line + 1}, column {mark.column + 1}: " if mark else ""
        raise SpecError(f"{file}: {where}{error.problem or error.context}", remedy="correct the YAML there") from error
    except (yaml.YAMLError, RecursionError) as error:
        raise SpecError(f"{file}: not YAML: {error}", remedy="give a YAML text file") from error
    if not isinstance(data, dict):
        said = "it is empty" if data is None else f"it holds a {type(data).__name__}"
        raise SpecError(
            f"{file}: a mapping of names to values is needed, {said}",
            remedy=f"start from {example}",
        )
    return data


class _Loader(yaml.SafeLoader):
    """Plain YAML without aliases, strict about keys: strings only, none twice."""

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        if self.check_event(yaml.AliasEvent):
            mark = self.peek_event().start_mark  # type: ignore[no-untyped-call]  # its stub is untyped
            raise yaml.composer.ComposerError(None, None, "an alias; write the value out again", mark)
        return super().compose_node(parent, index)

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: dict[str, int] = {}
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode):
                raise yaml.constructor.ConstructorError(None, None, "a key is not a name", key.start_mark)
            if key.value in seen:
                text = f"the key {key.value!r} is there twice (first in line {seen[key.value]})"
                raise yaml.constructor.ConstructorError(None, None, text, key.start_mark)
            seen[key.value] = key.start_mark.line + 1
        return {str(key): value for key, value in super().construct_mapping(node, deep=deep).items()}


def spec_error(error: ValidationError, file: str, model: type[BaseModel]) -> SpecError:
    """Every problem pydantic found, one a line, with what to do about each."""
    problems, remedies = [], []
    for found in error.errors(include_url=False):
        text, remedy, key = _explained(found, model)
        path = _path([*found["loc"], *([key] if key else [])])
        problems.append(f"{file}: {path}: {text}" if path else f"{file}: {text}")
        remedies.append((path, remedy))
    if len(remedies) == 1:
        return SpecError(problems[0], remedy=remedies[0][1])
    return SpecError("\n".join(problems), remedy="; ".join(f"{path}: {remedy}" for path, remedy in remedies))


def _path(location: list[int | str]) -> str:
    """("state", 2, "to") -> "state[2].to"."""
    text = ""
    for step in location:
        if step != "[key]":  # pydantic's word for "the key itself"
            text += f"[{step}]" if isinstance(step, int) else f".{step}"
    return text.removeprefix(".")


def _explained(found: Mapping[str, Any], model: type[BaseModel]) -> tuple[str, str, str]:
    """Problem, remedy, and the key below the location, for one of pydantic's findings."""
    value, kind, context = found["input"], found["type"], found.get("ctx", {})
    if kind == "spec":
        return context["problem"], context["remedy"], context["key"]
    if kind == "extra_forbidden":
        known = _keys_at(model, list(found["loc"][:-1]))
        return "there is no such key", unknown("key", str(found["loc"][-1]), known).remedy, ""
    if kind == "missing":
        return "is missing", f"add `{found['loc'][-1]}:`", ""
    return f"{_shown(value)}: {found['msg'][0].lower()}{found['msg'][1:]}", "correct the value", ""


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "…"


def _keys_at(model: type[BaseModel], location: list[int | str]) -> list[str]:
    """The keys that the model at `location` below `model` knows, as YAML spells them."""
    for step in location:
        if isinstance(step, str):
            field = next((f for name, f in model.model_fields.items() if step in (name, f.alias)), None)
            model = next(_models_in(field.annotation), model) if field else model
    return [field.alias or name for name, field in model.model_fields.items()]


def _models_in(annotation: Any) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for inner in get_args(annotation):
        yield from _models_in(inner)
