"""A mixture: which stores are trained on together, how often each is drawn from, which episodes are too short or long.

In: a YAML file (docs/formats.md), one of `rdt_data/mixtures` or a user's own. Out: a frozen `Mixture`, checked, with
paths resolved and weights as shares; `survey` looks at the stores and tells what a mixture will really draw from.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from pydantic import BeforeValidator, Field, PrivateAttr, ValidationError, model_validator

from rdt_data.errors import SpecError, StoreError, unknown
from rdt_data.store import open_dataset
from rdt_data.yaml_model import Part, parse_yaml, problem, read_text, spec_error

MIXTURES = Path(__file__).parent / "mixtures"

LEAST_STEPS, MOST_STEPS = 32, 2048
"""Published: shorter episodes are left out; of longer ones a random run of this many steps is drawn at a time."""


def _member(value: Any) -> Any:
    """The short form: only the weight."""
    return {"weight": value} if isinstance(value, int | float) and not isinstance(value, bool) else value


class Member(Part):
    """One store of a mixture.

    weight: how often it is drawn from, relative to the others, whatever its size. path: path or URL, relative to the
    root; None: NAME.zarr. least_steps, most_steps: in place of those of the mixture.
    """

    weight: float = Field(gt=0)
    path: str | None = Field(default=None, min_length=1)
    least_steps: int | None = Field(default=None, ge=1)
    most_steps: int | None = Field(default=None, ge=1)


class Mixture(Part):
    """Stores by name, and how they are drawn from."""

    title: str = Field(min_length=1)
    least_steps: int = Field(default=LEAST_STEPS, ge=1)
    most_steps: int = Field(default=MOST_STEPS, ge=1)
    datasets: dict[str, Annotated[Member, BeforeValidator(_member)]] = Field(min_length=1)
    notes: str | None = None
    source: str | None = None

    _root: str = PrivateAttr("")

    @classmethod
    def load(cls, path_or_name: str | Path, root: str | None = None) -> "Mixture":
        """The same as `load_mixture`."""
        return load_mixture(path_or_name, root)

    @classmethod
    def of(cls, weights: Mapping[str | Path, float], *, least_steps: int = LEAST_STEPS) -> "Mixture":
        """A mixture by the paths or URLs of its stores; each is called by the last word of its path."""
        members = {url: Path(str(url)).name.removesuffix(".zarr") for url in map(str, weights)}
        doubled = [url for url, name in members.items() if list(members.values()).count(name) > 1]
        if doubled:
            raise SpecError(
                f"stores of one name: {' and '.join(doubled)}", remedy="write a mixture file: it gives each its name"
            )
        datasets = {members[str(url)]: {"weight": weight, "path": str(url)} for url, weight in weights.items()}
        try:
            return cls.model_validate({"title": " + ".join(datasets), "least_steps": least_steps, "datasets": datasets})
        except ValidationError as error:
            raise spec_error(error, "Mixture.of", cls) from error

    @property
    def root(self) -> str:
        """Where relative paths begin."""
        return self._root

    @property
    def shares(self) -> dict[str, float]:
        """Name -> the share of draws it gets; they sum to 1."""
        total = sum(member.weight for member in self.datasets.values())
        return {name: member.weight / total for name, member in self.datasets.items()}

    def url(self, name: str) -> str:
        """Where the store called `name` is."""
        path = self.datasets[name].path or f"{name}.zarr"
        absolute = "://" in path or Path(path).is_absolute() or not self._root
        return path if absolute else f"{self._root.rstrip('/')}/{path}"

    def steps_of(self, name: str) -> tuple[int, int]:
        """(least, most) steps that an episode of a store gives."""
        member = self.datasets[name]
        return member.least_steps or self.least_steps, member.most_steps or self.most_steps

    @model_validator(mode="after")
    def _consistent(self) -> "Mixture":
        for name in self.datasets:
            least, most = self.steps_of(name)
            if least > most:
                raise problem(
                    f"least_steps {least} is more than most_steps {most}",
                    remedy="let least_steps be at most most_steps",
                    key=f"datasets.{name}",
                )
        seen: dict[str, str] = {}
        for name in self.datasets:
            if (url := self.url(name)) in seen:
                raise problem(
                    f"{url} is drawn from as {seen[url]} already",
                    remedy="name each store once; add up its weights",
                    key=f"datasets.{name}.path",
                )
            seen[url] = name
        return self


def names() -> list[str]:
    """The mixtures that come with the project."""
    return sorted(file.stem for file in MIXTURES.glob("*.yaml"))


def load_mixture(path_or_name: str | Path, root: str | None = None) -> Mixture:
    """A mixture by the path of its YAML file, or by the name of one that comes with the project.

    root: where relative paths begin; None: the folder of the file, for a name the working directory.
    """
    path = Path(path_or_name)
    own = path.suffix in (".yaml", ".yml") or len(path.parts) > 1
    if not own and path.name not in names():
        error = unknown("mixture", path.name, names())
        raise SpecError(error.problem, remedy=f"{error.remedy.rstrip()} or give the path of a YAML file")
    file = path if own else MIXTURES / f"{path.name}.yaml"
    shown = str(path) if own else f"{MIXTURES.parent.name}/{MIXTURES.name}/{file.name}"
    data = parse_yaml(read_text(file), shown, example=f"a file in {MIXTURES.parent.name}/{MIXTURES.name}")
    try:
        mixture = Mixture.model_validate(data)
    except ValidationError as error:
        raise spec_error(error, shown, Mixture) from error
    mixture._root = root if root is not None else (str(path.parent) if own else "")
    return mixture


@dataclass(frozen=True, slots=True)
class MemberSurvey:
    """What one store gives to a mixture. problem: why it gives nothing; None when it does.

    usable_episodes have at least `least_steps`; usable_steps are all of theirs. share: of draws.
    """

    name: str
    url: str
    weight: float
    share: float
    problem: str | None = None
    control_hz: float = 0.0
    cameras: tuple[str, ...] = ()
    episodes: int = 0
    steps: int = 0
    usable_episodes: int = 0
    usable_steps: int = 0

    def repeats(self, draws: int) -> float:
        """How often each usable step is drawn, on average, in so many draws."""
        return self.share * draws / self.usable_steps if self.usable_steps else 0.0


def survey(mixture: Mixture) -> list[MemberSurvey]:
    """Look at every store of a mixture: one row a store, in the order of the file; absent ones say so."""
    return [_surveyed(mixture, name, share) for name, share in mixture.shares.items()]


def _surveyed(mixture: Mixture, name: str, share: float) -> MemberSurvey:
    member, url = mixture.datasets[name], mixture.url(name)
    least, _ = mixture.steps_of(name)
    try:
        store = open_dataset(url)
        lengths = np.array([len(episode) for episode in store], np.int64)
    except StoreError as error:
        return MemberSurvey(name, url, member.weight, share, problem=error.problem)
    usable = lengths[lengths >= least]
    nothing = None if len(usable) else f"none of {len(lengths)} episodes has {least} steps"
    unfinished = None if store.complete else "its conversion has not finished"
    return MemberSurvey(
        name,
        url,
        member.weight,
        share,
        problem=nothing or unfinished,
        control_hz=store.control_hz,
        cameras=store.cameras,
        episodes=len(lengths),
        steps=int(lengths.sum()),
        usable_episodes=len(usable),
        usable_steps=int(usable.sum()),
    )


def check(rows: Mapping[str, MemberSurvey] | list[MemberSurvey]) -> None:
    """Raise StoreError when any store of a surveyed mixture gives nothing."""
    bad = [row for row in (rows.values() if isinstance(rows, Mapping) else rows) if row.problem is not None]
    if bad:
        raise StoreError(
            f"{len(bad)} of {len(rows)} datasets cannot be drawn from; {bad[0].name} ({bad[0].url}): {bad[0].problem}",
            remedy="convert them, correct `path`, or take them out of the mixture",
        )
