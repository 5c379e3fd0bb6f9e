"""A patch as a spec names it: found, checked against its signature, applied.

In YAML: `patch: NAME`, or `patch: {name: NAME, argument: value, …}`. NAME is one of `converters.patches.PATCHES`, or a
lab's own `module:function`. The latter is imported, and importing runs code; so it is allowed only for a spec that
its user gave as a file (`trusted`), never for the text of a spec that came with data. A function has to say itself
that it is a patch: annotated RawEpisode -> RawEpisode, its arguments str or float, a docstring with the reason.
"""

import importlib
import inspect
import keyword
import math
import typing
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import PlainSerializer, PlainValidator, ValidationInfo

from converters.patches import PATCHES, PatchedEpisode
from converters.raw import EpisodeFile, RawEpisode
from rdt_data.errors import RdtError, SourceError, SpecError, unknown
from rdt_data.yaml_model import problem

if TYPE_CHECKING:
    from converters.spec import DatasetSpec

Function = Callable[..., RawEpisode]

_SIGNATURE = "write def patch(raw: RawEpisode, some_key: str, some_number: float = 1.0) -> RawEpisode"


@dataclass(frozen=True, slots=True)
class Patch:
    """A patch with its arguments. It pickles as its name: the function is looked up where it is called."""

    name: str
    arguments: tuple[tuple[str, str | float], ...] = ()  # as YAML spells them

    def __str__(self) -> str:
        shown = ((key, f"{value:g}" if isinstance(value, float) else value) for key, value in self.arguments)
        return " ".join([self.name, *(f"{key}={value}" for key, value in shown)])

    @property
    def reason(self) -> str:
        """The first paragraph of the function's docstring."""
        return " ".join((inspect.getdoc(find(self.name)) or "").split("\n\n")[0].split())

    def __call__(self, raw: RawEpisode) -> RawEpisode:
        """The patched episode. Raises SourceError for an episode that does not suit the patch."""
        function = find(self.name)
        try:
            patched = function(raw, **{_python_name(key): value for key, value in self.arguments})
        except (LookupError, ValueError, ArithmeticError) as error:  # what data may cause; all else is a mistake in it
            raise SourceError(
                f"the patch {self.name} fails: {type(error).__name__}: {error}",
                remedy="repair the data, or let the patch raise a SourceError that says what is wrong",
            ) from error
        if not hasattr(patched, "frames"):
            raise SpecError(
                f"the patch {self.name} returns {type(patched).__name__}, not an episode",
                remedy="return PatchedEpisode(raw, {key: array}), or raw itself",
            )
        return patched


def open_episode(file: EpisodeFile, number: int, spec: "DatasetSpec") -> RawEpisode:
    """Episode `number` of an open file as the rest of the spec sees it: patched. Raises SourceError."""
    raw = file[number]
    return raw if spec.patch is None else spec.patch(raw)


def find(name: str) -> Function:
    """The function called `name`; imports the module of a `module:function`. Raises SpecError."""
    if name in PATCHES:
        return PATCHES[name]
    module_name, _, function_name = name.partition(":")
    if not all(part.isidentifier() for part in [*module_name.split("."), function_name]):
        raise SpecError(f"{name!r} is not module:function", remedy="write it as in my_lab.patches:open_gripper")
    try:
        module = importlib.import_module(module_name)
    except (ImportError, SyntaxError) as error:
        raise SpecError(
            f"{name}: {module_name} cannot be imported: {error}",
            remedy=f"install {module_name.split('.')[0]}, or put its folder on PYTHONPATH (of every worker)",
        ) from error
    functions = {key: value for key, value in vars(module).items() if inspect.isfunction(value)}
    if function_name not in functions:
        missing = unknown(f"function of {module_name}", function_name, functions)
        raise SpecError(missing.problem, remedy=missing.remedy if functions else "define it there")
    return functions[function_name]


def declared(function: Function) -> dict[str, tuple[type, bool]]:
    """The arguments of a patch: name in YAML -> (str or float, whether it has a default).

    Raises SpecError when the function does not declare itself a patch.
    """
    name = f"{function.__module__}:{function.__name__}"
    if not (inspect.getdoc(function) or "").strip():
        raise SpecError(f"{name} has no docstring", remedy="say in it why the table of a spec cannot do what it does")
    try:
        types = typing.get_type_hints(function)
    except NameError as error:
        raise SpecError(f"{name}: an annotation is not defined: {error}", remedy="import it in that module") from error
    parameters = [*inspect.signature(function).parameters.values()]
    if not parameters or types.get(parameters[0].name) is not RawEpisode:
        raise SpecError(f"{name} does not take a RawEpisode first", remedy=_SIGNATURE)
    if types.get("return") not in (RawEpisode, PatchedEpisode):
        raise SpecError(f"{name} does not return a RawEpisode", remedy=_SIGNATURE)
    arguments = {}
    for parameter in parameters[1:]:
        kind, type_ = parameter.kind, types.get(parameter.name)
        named = kind in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY) and parameter.name != "name"
        if not named or type_ not in (str, float):
            raise SpecError(f"{name}: {parameter} is no argument that a spec can give", remedy=_SIGNATURE)
        arguments[_yaml_name(parameter.name)] = (type_, parameter.default is not parameter.empty)
    return arguments


def _python_name(key: str) -> str:
    """`from` cannot be the name of a parameter; `from_` can."""
    return f"{key}_" if keyword.iskeyword(key) else key


def _yaml_name(parameter: str) -> str:
    bare = parameter.removesuffix("_")
    return bare if keyword.iskeyword(bare) else parameter


def _patch(value: Any, info: ValidationInfo) -> Patch:
    """A patch as YAML holds it, checked. Whether it may be imported is in the validation's context."""
    if isinstance(value, Patch):
        return value
    given: dict[str, Any] = {"name": value} if isinstance(value, str) else value
    if not isinstance(given, dict) or not isinstance(name := given.get("name"), str):
        raise problem(
            f"{value!r} is not a patch", remedy="write its name, or {name: …} and its arguments: {name: x, from: y}"
        )
    try:
        function = _allowed(name, trusted=bool((info.context or {}).get("trusted")))
        arguments = declared(function)
    except RdtError as error:
        raise problem(error.problem, remedy=error.remedy, key="" if given is not value else "name") from error
    return Patch(name, _bound(name, arguments, {key: given[key] for key in given if key != "name"}))


def _allowed(name: str, *, trusted: bool) -> Function:
    if ":" in name and not trusted:
        raise SpecError(
            f"{name!r} is a function of somebody's own; it is imported only for a spec that you give as a file",
            remedy="give the file: --spec FILE.yaml, as in `rdt-data verify STORE --source SRC --spec my_robot.yaml`",
        )
    if ":" not in name and name not in PATCHES:
        error = unknown("patch", name, PATCHES)
        raise SpecError(error.problem, remedy=f"{error.remedy.rstrip()}, or name your own as module:function")
    return find(name)


def _bound(
    name: str, declared: Mapping[str, tuple[type, bool]], given: Mapping[str, Any]
) -> tuple[tuple[str, str | float], ...]:
    """The arguments in the order of the signature."""
    for key in given:
        if key not in declared:
            error = unknown(f"argument of {name}", key, declared)
            raise problem(error.problem, remedy=error.remedy if declared else "it takes none", key=key)
    bound = []
    for key, (type_, optional) in declared.items():
        if key in given:
            bound.append((key, _argument(given[key], type_, key)))
        elif not optional:
            shown = "…" if type_ is str else "a number"
            raise problem(f"{name} needs it", remedy=f"write patch: {{name: {name}, {key}: {shown}}}", key=key)
    return tuple(bound)


def _argument(value: Any, type_: type, key: str) -> str | float:
    if type_ is str:
        if isinstance(value, str) and value:
            return value
        raise problem(
            f"{value!r} is not text", remedy="write a text; quote what YAML takes for something else", key=key
        )
    if isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value):
        return float(value)
    raise problem(f"{value!r} is not a number", remedy="write a number, as in 0.5", key=key)


AnyPatch = Annotated[Patch, PlainValidator(_patch), PlainSerializer(str)]
