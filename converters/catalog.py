"""The dataset specs that come with the project: the YAML files in `converters/specs`, and nothing else to edit."""

from collections.abc import Iterable
from functools import cache

from converters.spec import SPECS, DatasetSpec, load_spec
from rdt_data.errors import SpecError, unknown


def names() -> list[str]:
    """The names of all specs, sorted."""
    return sorted(file.stem for file in SPECS.glob("*.yaml"))


@cache
def get(name: str) -> DatasetSpec:
    """The spec called `name`. Raises SpecError with the near miss when there is none; a path is no name."""
    if name not in names():
        error = unknown("dataset spec", name, names())
        raise SpecError(error.problem, remedy=error.remedy)
    return load_spec(name)


def find(candidates: Iterable[str]) -> str | None:
    """The spec for a source that goes by these names, most certain first; None when no spec knows any.

    A spec is known by the name of its file and by its `names`.
    """
    known = names()
    for candidate in candidates:
        if candidate in known:
            return candidate
        if candidate in _aliases():
            return _aliases()[candidate]
    return None


@cache
def _aliases() -> dict[str, str]:
    """Other names by which specs are known; reads every spec, so only where a file name did not do."""
    return {other: name for name in names() for other in get(name).names}
