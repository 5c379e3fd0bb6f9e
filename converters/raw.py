"""What a reader hands over: source files, and the raw episodes inside them.

A reader turns a container (RLDS, HDF5, …) into `RawEpisode`s and knows nothing of robots. It is a module
with four functions (the `Reader` protocol below); `converters.readers.READERS` lists them by name.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol, Self

import numpy as np
import numpy.typing as npt

Frame = bytes | memoryview | npt.NDArray[np.uint8]
"""One camera frame: encoded JPEG or PNG bytes as they lie in the source, or raw (H, W, 3) uint8 pixels."""

Options = Mapping[str, Any]
"""What a spec's `options:` says to its reader; each reader documents and checks its own keys."""


@dataclass(frozen=True, slots=True)
class SourceFile:
    """One file of a source and how many episodes it holds (counted without reading them)."""

    path: str  # relative to the source root, with "/"
    bytes: int
    mtime_ns: int
    episodes: int


class RawEpisode(Protocol):
    """One episode as its container holds it; nothing is read before it is asked for.

    Keys are slash paths. For RLDS, step features lose the leading `steps/` ("observation/state") and
    episode features keep their path ("episode_metadata/file_path", "success"). For HDF5 they are the
    paths of the datasets in the file ("observations/qpos"), for robomimic relative to the demo group.
    """

    @property
    def number(self) -> int:
        """Position of this episode in its file, from 0."""

    @property
    def name(self) -> str:
        """Short stable name within the source: "bridge-train.tfrecord-00000-of-00004#12", "task/episode_3"."""

    def __len__(self) -> int:
        """Number of steps T; 0 for an empty episode (an error only for whoever needs steps)."""

    def keys(self) -> list[str]:
        """Every key there is, sorted."""

    def cameras(self) -> list[str]:
        """The keys that `frames` can read, sorted."""

    def array(self, key: str) -> npt.NDArray[Any]:
        """A numeric step value: (T, ...) in its stored dtype; scalars per step are (T,).

        Raises SourceError (with `field`) when the key is missing, its length is not T, or it cannot be read.
        """

    def scalar(self, key: str) -> Any:
        """An episode-level number, bool or string; for a step feature, its first step."""

    def text(self, key: str) -> str | None:
        """A string: episode-level, or the first step's; None when the key is absent. Bytes are UTF-8.

        HDF5 also: "attr:NAME" an attribute, "file:NAME" a text file beside the episode's file.
        """

    def frames(self, key: str) -> Iterator[Frame]:
        """The T frames of a camera in order, a few in memory at a time, encoded bytes unchanged.

        A memoryview is valid until the next episode is opened. Raises SourceError (with `field`) when the
        key is missing, there are not T frames, or the end of a padded JPEG cannot be found.
        """


class EpisodeFile(Protocol):
    """An open source file: a sequence of episodes, each of which may be broken on its own."""

    def __len__(self) -> int: ...

    def __getitem__(self, number: int) -> RawEpisode:
        """Episode `number`. Raises SourceError for a broken one; the others stay readable where possible."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


class Reader(Protocol):
    """The functions of a reader module."""

    KEYS_VARY: bool
    """Whether one episode of a source may have keys that another lacks (RLDS: no, features.json declares them)."""

    TIMESTAMPS: tuple[str, str] | None
    """Key and unit (of `rdt_data.clock.TICKS`) of the time of each step, where the container has one by itself."""

    def find(self, source: Path) -> list[Path]:
        """The roots of this container at or below `source` (a version directory, a folder of HDF5 …)."""

    def names(self, root: Path) -> list[str]:
        """Names by which a catalog may know this dataset, most certain first."""

    def splits(self, root: Path) -> list[str]:
        """The splits there are; [] when the container has no such notion."""

    def files(self, root: Path, split: str | None, options: Options) -> list[SourceFile]:
        """The source files in a fixed order (natural: episode_2 before episode_10)."""

    def open_file(self, root: Path, file: SourceFile, options: Options) -> EpisodeFile:
        """Open one file of `files`."""
