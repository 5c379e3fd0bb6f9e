"""Read a few episodes of a source as a draft needs them: every number, camera and text, by key.

In: a source, perhaps the reader to use. Out: a `Sample`. Knows containers only through `converters.raw.Reader`; a
reader may also have `feature_names(root) -> {key: [name of each column]}`. An episode that cannot be read is listed.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from converters.drafts.options import options_for
from converters.drafts.signs import Array
from converters.plan import find_root
from converters.raw import RawEpisode, Reader, SourceFile
from converters.readers import detect
from converters.readers import reader as reader_named
from rdt_data.errors import SourceError
from rdt_data.images import ImageError, Pixels, decode

WIDEST = 64
"""Columns; what is wider is an embedding, a depth image or a point cloud."""

LEAST_TRIES = 4
"""Episodes tried for each that cannot be read."""

_BESIDE = ("attr:instruction", "attr:language_instruction", "attr:task", "attr:lang", "file:instruction.txt")
"""Where recorders put words that are no key of an episode."""


@dataclass(slots=True)
class Values:
    """A number of every step. arrays: (T, columns) of each episode; shape: of one step in the source."""

    key: str
    dtype: str
    shape: tuple[int, ...]
    arrays: list[Array]
    names: tuple[str, ...] = ()
    gaps: bool = False  # some step is NaN; it is the step before here

    @property
    def width(self) -> int:
        return int(self.arrays[0].shape[1])

    def cols(self, start: int, stop: int) -> list[Array]:
        """Some columns of each episode."""
        return [array[:, start:stop] for array in self.arrays]

    def __str__(self) -> str:
        """ "float32, 7 columns in [-0.69, 1]"."""
        low, high = (
            min(array.min(initial=np.inf) for array in self.arrays),
            max(array.max(initial=-np.inf) for array in self.arrays),
        )
        counted = "1 column" if self.width == 1 else f"{self.width} columns"
        return f"{self.dtype}, {counted} in [{low:.4g}, {high:.4g}]"


@dataclass(slots=True)
class Sample:
    """What was seen of a source. texts: key -> one text an episode; unused: key -> what it holds."""

    source: Path
    reader: str
    root: Path
    options: dict[str, str]
    others: list[str]  # readers that also know the source
    names: list[str]
    total: int
    looked_at: int = 0
    steps: int = 0
    values: dict[str, Values] = field(default_factory=dict)
    frames: dict[str, list[Pixels]] = field(default_factory=dict)
    encoded: set[str] = field(default_factory=set)
    texts: dict[str, list[str]] = field(default_factory=dict)
    codes: set[str] = field(default_factory=set)  # keys of text as code points
    unused: dict[str, str] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)


def look(source: Path, reader: str | None = None, episodes: int = 5) -> Sample:
    """Read up to `episodes` episodes spread over the source. Raises SourceError when none can be read."""
    if not source.exists():
        raise SourceError(f"{source} does not exist", remedy="give the folder or file that holds the recordings")
    kinds = list(dict.fromkeys(kind for kind, _ in detect(source)))
    if reader is None and not kinds:
        raise SourceError(f"{source} holds nothing that a reader knows", remedy="name the reader with --reader NAME")
    kind = reader if reader is not None else kinds[0]
    read = reader_named(kind)
    root = find_root(read, source, kind)
    options = options_for(kind, read, root)
    files = read.files(root, None, options)
    total = sum(file.episodes for file in files)
    others = [other for other in kinds if other != kind]
    sample = Sample(source, kind, root, options, others, read.names(root), total)
    spread = [round(i) for i in np.linspace(0, total - 1, min(episodes, total))] if total else []
    _read(sample, read, files, spread)
    if sample.looked_at < len(spread):
        others_first = [number for number in range(total) if number not in spread]
        _read(sample, read, files, others_first[: LEAST_TRIES * len(spread)], until=len(spread))
    if not sample.looked_at:
        said = sample.problems[0] if sample.problems else "it holds no episode"
        raise SourceError(f"{source}: no episode can be read: {said}", remedy="repair the source, or try --reader NAME")
    _name_columns(sample, read)
    return sample


def _read(sample: Sample, read: Reader, files: Sequence[SourceFile], numbers: Sequence[int], until: int = -1) -> None:
    """Read episodes by their number over all files, until `until` are read; what is wrong with one is noted."""
    first = 0
    for file in files:
        wanted = [number - first for number in numbers if first <= number < first + file.episodes]
        first += file.episodes
        if not wanted or sample.looked_at == until:
            continue
        try:
            with read.open_file(sample.root, file, sample.options) as opened:
                for number in wanted:
                    _add(sample, opened[number])
        except SourceError as error:
            sample.problems.append(str(error.within(file=file.path)).split("\n", 1)[0])


def _add(sample: Sample, raw: RawEpisode) -> None:
    """Add what one episode holds; a key that is not alike in all of them counts where it is."""
    if len(raw) == 0:
        sample.problems.append(f"{raw.name} has no steps")
        return
    sample.looked_at += 1
    sample.steps += len(raw)
    keys, cameras = raw.keys(), raw.cameras()
    for key in keys:
        if key in cameras:
            _add_frames(sample, raw, key)
        elif not _add_values(sample, raw, key):
            _add_text(sample, raw, key)
    for key in _BESIDE:
        _add_text(sample, raw, key)


def _add_values(sample: Sample, raw: RawEpisode, key: str) -> bool:
    """Whether the key holds numbers of steps."""
    try:
        array = np.asarray(raw.array(key))
    except SourceError:
        return False
    if array.dtype.kind not in "biuf" or array.ndim == 0 or not array.size:
        return False
    width = math.prod(array.shape[1:])
    if array.dtype.kind in "iu" and array.ndim == 2 and width > 16 and (text := _decoded(array)) is not None:
        sample.codes.add(key)
        sample.texts.setdefault(key, []).append(text)
    elif width > WIDEST:
        sample.unused[key] = f"{array.dtype} of shape {array.shape[1:]} a step"
    else:
        rows, whole = _filled(array.reshape(len(array), width).astype(np.float64))
        known = sample.values.setdefault(key, Values(key, str(array.dtype), array.shape[1:], []))
        known.gaps |= not whole
        if not known.arrays or known.width == width:
            known.arrays.append(rows)
        else:
            sample.problems.append(f"{raw.name}: {key} has {width} columns, elsewhere {known.width}")
    return True


def _filled(rows: Array) -> tuple[Array, bool]:
    """Rows with those that are not finite replaced by the one before; whether there were none."""
    good = np.isfinite(rows).all(axis=1)
    last = np.maximum.accumulate(np.where(good, np.arange(len(rows)), -1))
    return np.where((last >= 0)[:, None], rows[last], 0.0), bool(good.all())


def _add_text(sample: Sample, raw: RawEpisode, key: str) -> None:
    with suppress(SourceError):
        text = raw.text(key)
        if text is not None:
            sample.texts.setdefault(key, []).append(text)


def _decoded(array: np.ndarray) -> str | None:
    """Code points of the first step as text; None when they are no readable text."""
    numbers = [int(n) for n in array[0] if n]
    if not numbers or not all(9 <= n < 0x110000 for n in numbers):
        return None
    text = "".join(map(chr, numbers))
    return text if text.isprintable() and " " in text else None


def _add_frames(sample: Sample, raw: RawEpisode, key: str) -> None:
    """The first, the middle and the last frame."""
    wanted = {0, len(raw) // 2, len(raw) - 1}
    seen = sample.frames.setdefault(key, [])
    try:
        for step, frame in enumerate(raw.frames(key)):
            if step not in wanted:
                continue
            if not isinstance(frame, np.ndarray):
                sample.encoded.add(key)
            seen.append(frame.copy() if isinstance(frame, np.ndarray) else decode(frame))
    except (SourceError, ImageError) as error:
        sample.problems.append(f"{raw.name}: {key}: {str(error).splitlines()[0]}")


def _name_columns(sample: Sample, read: Reader) -> None:
    """Give the values the names of their columns, where the reader offers them."""
    offered = getattr(read, "feature_names", None)
    names: Mapping[str, list[str]] = offered(sample.root) if offered is not None else {}
    for key, values in _known(sample, names):
        values.names = tuple(names[key])


def _known(sample: Sample, names: Mapping[str, list[str]]) -> Iterator[tuple[str, Values]]:
    for key, values in sample.values.items():
        if len(names.get(key, ())) == values.width:
            yield key, values
