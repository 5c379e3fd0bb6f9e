"""Fill a slot with a block: read its rows and frames, decode each frame once, write everything in place.

In: the stores of a mixture by name, a block, a slot. Out: the slot filled, and what there is to say of the block. A
fill depends on the block and the stores alone, so that a block that was lost can be made again, by anyone. Errors name
the store, the episode, the camera and the step. Knows nothing of processes; `feed_actors` runs it elsewhere.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from rdt_data.episode import BoolArray, FloatArray
from rdt_data.errors import RdtError, RemoteError, SourceError, StoreError
from rdt_data.images import ImageError, decode
from rdt_data.index import IntArray
from rdt_data.language import Embedding, Language, language_of, wordings
from rdt_data.letterbox import BACKGROUND, write_letterboxed
from rdt_data.mixture import Block, random_of
from rdt_data.slot import Slot, SlotShape
from rdt_data.store import Dataset, open_dataset
from rdt_data.stored import StoredEpisode

TABLES_KEPT = 1024
"""Parts of a store whose episode tables (some hundred bytes an episode) a producer keeps in memory."""


@dataclass(frozen=True, slots=True)
class Facts:
    """What is true of a whole block. frames: how many were decoded.

    embedding: (L, D) of `instruction`, None where the feed reads no embeddings.
    """

    frames: int
    control_hz: float
    instruction: str
    embedding: Embedding | None


class EpisodeError(SourceError):
    """An episode that cannot be read: `file` is the store, `episode` the number in it."""


@dataclass
class Producer:
    """seed: of the feed, chooses among wordings of an instruction. embedded: read embeddings; encoder: which."""

    urls: Mapping[str, str]
    shape: SlotShape
    seed: int
    embedded: bool = False
    encoder: str | None = None
    _stores: dict[str, Dataset] = field(default_factory=dict)
    _languages: dict[str, Language] = field(default_factory=dict)

    def fill(self, block: Block, slot: Slot, *, whole: bool = False) -> Facts:
        """Write every array of the slot that belongs to the block. whole: read its whole episode first.

        Raises EpisodeError when the episode is broken, StoreError or RemoteError when its store cannot be read.
        """
        store = self._store(block.dataset)
        try:
            episode = store[block.episode]
            if whole:
                self._read_whole(block, episode)
            self._fill_rows(block, episode, slot)
            frames = self._fill_images(block, episode, slot)
            return Facts(frames, episode.control_hz, *self._words(block, episode))
        except (EpisodeError, RemoteError):
            raise
        except OSError as error:
            raise StoreError(
                f"{store.url} cannot be read: {error}", remedy="see that it is there, then go on from the last state"
            ) from error
        except (RdtError, ValueError, KeyError) as error:
            # ValueError, KeyError: what zarr says of bytes that are not what it expects, and of arrays that are gone
            open_dataset(store.url)  # raises when it is the store that is gone, not the episode that is broken
            problem = error.problem if isinstance(error, RdtError) else str(error)
            raise _broken(store, block, problem) from error

    def _store(self, name: str) -> Dataset:
        if name not in self._stores:
            self._stores[name] = open_dataset(self.urls[name])
            self._stores[name].tables_kept = TABLES_KEPT
        return self._stores[name]

    def _read_whole(self, block: Block, episode: StoredEpisode) -> None:
        """Read all that any block of this episode holds, and fail where one of them would.

        JPEGs are decoded at 1/8: every bit of them is read, which is where a broken one fails, but few pixels are made.
        """
        cameras = [name for name in self.shape.cameras if name in episode.cameras]
        for start in range(0, len(episode), self.shape.rows):
            stop = min(start + self.shape.rows, len(episode))
            for vectors in ("state", "action"):
                episode.rows(vectors, start, stop)
            for name in cameras:
                for step, data in enumerate(episode.images(name).encoded_run(start, stop), start):
                    try:
                        decode(data, least=1)
                    except ImageError as error:
                        raise self._broken_frame(block, name, step, error) from error
        if self.embedded:
            language = self._language(block.dataset)
            for text in language.wordings(episode):
                language.embedding(text)

    def _broken_frame(self, block: Block, camera: str, step: int, error: ImageError) -> EpisodeError:
        return _broken(self._store(block.dataset), block, error.problem, f"{camera}, step {step}")

    def _fill_rows(self, block: Block, episode: StoredEpisode, slot: Slot) -> None:
        rows = len(block)
        slot.state[:rows], slot.state_mask[:rows] = episode.rows("state", block.start, block.stop)
        steps, real = self.shape.window.actions(block.start, block.stop, len(episode))
        action, mask = _taken(episode.rows("action", int(steps[0]), int(steps[-1]) + 1), steps - steps[0])
        slot.action[: len(steps)], slot.action_mask[: len(steps)], slot.valid[: len(steps)] = action, mask, real

    def _fill_images(self, block: Block, episode: StoredEpisode, slot: Slot) -> int:
        """Every frame once; how many were decoded."""
        steps, real = self.shape.window.frames(block.start, block.stop, len(episode))
        for camera, name in enumerate(self.shape.cameras):
            there = name in episode.cameras
            slot.image_mask[: len(steps), camera] = real & there
            images = slot.images[: len(steps), camera]
            if not there:
                images[...] = BACKGROUND
                continue
            frames, first = episode.images(name), int(steps[0])
            shape = (frames.shape[1], frames.shape[2])
            encoded = frames.encoded_run(first, int(steps[-1]) + 1)
            for at, step in enumerate(steps):
                if at and step == steps[at - 1]:  # before the first step: the same frame again
                    images[at] = images[at - 1]
                    continue
                try:
                    write_letterboxed(encoded[step - first], shape, images[at], swapped=frames.swapped)
                except ImageError as error:
                    raise self._broken_frame(block, name, int(step), error) from error
        return int(real.sum()) * sum(name in episode.cameras for name in self.shape.cameras)

    def _words(self, block: Block, episode: StoredEpisode) -> tuple[str, Embedding | None]:
        if not self.embedded:
            return _one_of(wordings(episode) or ("",), self.seed, block), None
        language = self._language(block.dataset)
        text = _one_of(language.wordings(episode), self.seed, block)
        return text, language.embedding(text)

    def _language(self, name: str) -> Language:
        if name not in self._languages:
            self._languages[name] = language_of(self._store(name), self.encoder)
        return self._languages[name]


def _one_of(texts: tuple[str, ...], seed: int, block: Block) -> str:
    return texts[int(random_of(seed, "wording", block.number).integers(len(texts)))]


def _taken(rows: tuple[FloatArray, BoolArray], steps: IntArray) -> tuple[FloatArray, BoolArray]:
    values, mask = rows
    return values[steps], mask[steps] if mask.ndim == 2 else np.broadcast_to(mask, (len(steps), len(mask)))


def _broken(store: Dataset, block: Block, problem: str, field: str | None = None) -> EpisodeError:
    return EpisodeError(
        problem,
        remedy='run `rdt-data verify` on the store; on_bad="quarantine" leaves such episodes out',
        file=store.url,
        episode=block.episode,
        field=field,
    )
