"""The files and episodes of another reader, their values under other names.

In: an open file of another reader and what to make of each of its episodes. Out: a file and episodes as in
`converters.raw`. What is not renamed keeps its name, and nothing is read here.
"""

from collections.abc import Callable, Iterator, Mapping
from types import TracebackType
from typing import Any, Self

import numpy.typing as npt

from converters.raw import EpisodeFile, Frame, RawEpisode


class RenamedFile:
    """An open file whose episodes are those of `file`, each changed by `changed`."""

    def __init__(self, file: EpisodeFile, changed: Callable[[RawEpisode], RawEpisode]) -> None:
        self._file, self._changed = file, changed

    def __len__(self) -> int:
        return len(self._file)

    def __getitem__(self, number: int) -> RawEpisode:
        return self._changed(self._file[number])

    def __enter__(self) -> Self:
        self._file.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.__exit__(kind, error, trace)


class RenamedEpisode:
    """An episode with other names for its values; errors name the values as they are called in the file."""

    def __init__(self, raw: RawEpisode, names: Mapping[str, str]) -> None:
        """names: the new name of a value -> its name in `raw`, for those that change."""
        self._raw = raw
        self._names = names
        self._new = {old: new for new, old in names.items()}

    @property
    def number(self) -> int:
        return self._raw.number

    @property
    def name(self) -> str:
        return self._raw.name

    def __len__(self) -> int:
        return len(self._raw)

    def keys(self) -> list[str]:
        own = self._raw.keys()
        return sorted(self._new.get(key, key) for key in own)

    def cameras(self) -> list[str]:
        return sorted(self._new.get(key, key) for key in self._raw.cameras())

    def array(self, key: str) -> npt.NDArray[Any]:
        return self._raw.array(self._names.get(key, key))

    def scalar(self, key: str) -> Any:
        return self._raw.scalar(self._names.get(key, key))

    def text(self, key: str) -> str | None:
        return self._raw.text(self._names.get(key, key))

    def frames(self, key: str) -> Iterator[Frame]:
        return self._raw.frames(self._names.get(key, key))


def without_groups(raw: RawEpisode, groups: tuple[str, ...]) -> dict[str, str]:
    """New name -> name in `raw` for the values in `groups` of an HDF5 episode: `data/qp_arm` is called `qp_arm`."""
    found, keys = {}, raw.keys()
    for key in keys:
        group, _, name = key.partition("/")
        if group in groups and name:
            found[name] = key
    return found
