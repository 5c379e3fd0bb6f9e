"""The feed: producers fill a shared-memory arena, shuffled batches come out of it, the same ones every time.

In: a mixture, what a batch shall hold, which rank of how many this is. Out: batches of NumPy views. The order of the
samples is a function of the seed, the stores, the sizes and the rank, never of who fills which slot when: a slot is
given to one producer and comes back by its outcome, blocks are opened in the order of the plan, and only whole ones.
So there is nothing to lock, a lost block is made again, and where a feed stands is a small dict. Back-pressure is that
no slot is free. Nothing runs between calls but producers.
"""

from collections.abc import Mapping, Sequence
from dataclasses import KW_ONLY, dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self

from rdt_data.arena import Arena
from rdt_data.batch import Batch, Buffers, row_bytes
from rdt_data.engine import Engine, FeedStats
from rdt_data.errors import RdtError, unknown
from rdt_data.feed_actors import Actors
from rdt_data.feed_files import read_states, write_state
from rdt_data.feed_sources import OpenMixture, open_mixture
from rdt_data.feed_state import Lane, Standing, check, from_json, to_json
from rdt_data.filling import Filling, FillingHere
from rdt_data.layout import CAMERAS
from rdt_data.mixture import Plan
from rdt_data.mixture_file import Mixture
from rdt_data.producer import Producer
from rdt_data.shuffle import SHARE_OPEN, Pool
from rdt_data.slot import SlotShape
from rdt_data.split import Side
from rdt_data.window import WindowShape

RUN_STEPS = 32
"""Windows of a block. Each block decodes history - 1 frames that others decode too: 3 % with two frames of history."""

_BLOCKS_PER_ROW = 8
"""Blocks open at most, for each row of a batch: more do not mix better, but take time to fill at the start."""


@dataclass(eq=False)
class Feed:
    """Batches of a mixture: a context manager and an iterator. No producer begins before the first batch is asked for.

    batch_size: rows of each rank's batch; the last one of a finite feed may have fewer. rank, world_size: this trainer
    among those that read one run; samples of ranks are disjoint. history, horizon, image_size: see `Batch`. producers:
    Ray actors on this machine, 0 fills in this process; remote_producers: on other machines of the cluster; ray: its
    address, "local" begins one unless Ray runs. shuffle_gb: shared memory for the blocks that are shuffled, in 10**9
    bytes, two blocks for each producer come on top (`arena_bytes`); 0 reads all in order.
    split: the side of each store's rule, None both. epochs: walks over each dataset, None without end. cameras: the
    slots of a batch, None those that any store has. language: embeddings or ids, None embeddings where all stores have
    them; encoder: which (`language_of`). on_bad: a broken episode stops the feed with an EpisodeError when one comes to
    it, or ("quarantine") no rank gives any sample of it: each reads an episode whole before its first sample, once a
    run, which costs half as much as decoding it. run_steps: windows of a block. timeout_s: after so long with one
    block a producer is replaced.
    """

    mixture: Mixture
    _: KW_ONLY
    batch_size: int
    seed: int = 0
    rank: int = 0
    world_size: int = 1
    horizon: int = 64
    history: int = 2
    image_size: int = 384
    producers: int = 2
    remote_producers: int = 0
    ray: str = "local"
    shuffle_gb: float = 4.0
    split: Side | None = "train"
    epochs: int | None = None
    cameras: tuple[str, ...] | None = None
    language: bool | None = None
    encoder: str | None = None
    on_bad: Literal["stop", "quarantine"] = "stop"
    run_steps: int = RUN_STEPS
    timeout_s: float = 120.0

    def __post_init__(self) -> None:
        _check(self)
        self._open(open_mixture(self.mixture, self.split, self.run_steps))
        self._stats = FeedStats()
        self._standing = Standing(plan=self.plan.state)
        self._engine: Engine | None = None
        self._closed = False

    def _open(self, stores: OpenMixture) -> None:
        self._stores = stores
        cameras = stores.cameras if self.cameras is None else self.cameras
        self.shape = SlotShape(WindowShape(self.history, self.horizon), self.run_steps, tuple(cameras), self.image_size)
        self.plan = self._new_plan()
        self.slots, self._most = _sizes(self, self.shape.bytes)
        embedded = stores.embedded if self.language is None else self.language
        self._producer = Producer(stores.urls, self.shape, self.seed, embedded, self.encoder)

    def _new_plan(self) -> Plan:
        return Plan(self.seed, self._stores.sources, epochs=self.epochs, shuffled=self.shuffle_gb > 0)

    @property
    def arena_bytes(self) -> int:
        """Shared memory this feed takes."""
        return self.slots * self.shape.bytes

    @property
    def row_bytes(self) -> int:
        """Bytes that are copied for a row of a batch."""
        return row_bytes(self.shape)

    @property
    def pids(self) -> list[int]:
        """The producers on this machine, once they have begun."""
        return self._engine.filling.pids if self._engine else []

    @property
    def stats(self) -> FeedStats:
        """What happened since the feed began."""
        return self._engine.stats if self._engine else self._stats

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> Batch:
        """The next batch; the one before is no longer valid. Raises EpisodeError, StoreError, or RdtError."""
        if self._closed:
            raise RdtError("this feed is closed", remedy="make a new one; load_state_dict takes it to the same place")
        if self._engine is None:
            self._engine = self._begin()
        batch = self._engine.batch(self.batch_size)
        if batch is None:
            raise StopIteration
        return batch

    def _begin(self) -> Engine:
        arena = Arena(self.slots, self.shape.bytes)
        try:
            return self._engine_over(arena, self._filling(arena))
        except BaseException:  # an interruption too must not keep the memory; raised again
            arena.close()
            raise

    def _filling(self, arena: Arena) -> Filling:
        if not self.producers and not self.remote_producers:
            return FillingHere(self._producer, lambda slot: self.shape.over(arena.slot(slot)))
        return Actors(
            self._producer,
            arena,
            here=self.producers,
            elsewhere=self.remote_producers,
            timeout_s=self.timeout_s,
            ray=self.ray,
        )

    def _engine_over(self, arena: Arena, filling: Filling) -> Engine:
        shuffled, lane_name = self.shuffle_gb > 0, f"{self.rank}/{self.world_size}"
        rows = max(1, int(self._most * self.plan.mean_rows / SHARE_OPEN))
        pool = Pool(self.seed, lane_name, most=self._most, rows=rows, shuffled=shuffled)
        standing = self._standing
        lane = Lane([*standing.opened, *standing.backlog], self.plan, standing.origin, self.rank, self.world_size)
        buffers = Buffers(self.shape, self.batch_size)
        return Engine(arena, filling, pool, lane, buffers, self.shape, standing, self.on_bad == "quarantine")

    def state_dict(self) -> dict[str, Any]:
        """Where this rank stands after the last batch, as JSON. With several ranks, save that of each."""
        if self._engine is not None:
            self._standing = self._engine.now()
        return to_json(self._standing, self._about(with_rank=True))

    def load_state_dict(self, state: Mapping[str, Any] | Sequence[Mapping[str, Any]]) -> None:
        """Go on where a feed stood. state: of this rank, or a list of all ranks' where their number has changed.

        Raises RdtError when the feed has begun, when states are lacking or are of another feed; StoreError when a
        store is no longer what it was. A store that has grown is read as far as it went then.
        """
        if self._engine is not None:
            raise RdtError("this feed has begun", remedy="call load_state_dict before the first batch")
        states = [state] if isinstance(state, Mapping) else list(state)
        check(states, self._about(with_rank=False))
        parts = states[0]["parts"]
        if parts != self._stores.parts:
            self._open(open_mixture(self.mixture, self.split, self.run_steps, parts))
        self.plan = self._new_plan()
        self._standing = from_json(states, self.plan, self.rank, self.world_size)
        if len(self._standing.opened) > self._most:  # less memory than there was: they are opened again in their turn
            self._standing.backlog = self._standing.opened + self._standing.backlog
            self._standing.opened = []

    def save(self, folder: str | Path) -> Path:
        """Write the state of this rank into the folder of a checkpoint; returns the file. Every rank does."""
        return write_state(folder, self.state_dict())

    def load(self, folder: str | Path) -> None:
        """Go on from a folder into which all ranks saved, however many they were. Raises as `load_state_dict` does."""
        self.load_state_dict(read_states(folder))

    def _about(self, *, with_rank: bool) -> dict[str, Any]:
        about: dict[str, Any] = {name: getattr(self, name) for name in ("seed", "split", "epochs", "run_steps")}
        about |= {"in_order": self.shuffle_gb <= 0, "shares": self.mixture.shares}
        if with_rank:
            about |= {"rank": self.rank, "world_size": self.world_size, "parts": dict(self._stores.parts)}
        return about

    def close(self) -> None:
        """End the producers and give the memory back; batches stay valid."""
        self._closed = True
        if self._engine is not None:
            engine, self._engine = self._engine, None
            self._standing, self._stats = engine.now(), engine.stats
            engine.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _check(feed: Feed) -> None:
    """Raise RdtError for what cannot be meant."""
    for name, least in (("batch_size", 1), ("world_size", 1), ("rank", 0), ("producers", 0), ("remote_producers", 0)):
        if getattr(feed, name) < least:
            raise RdtError(f"{name}={getattr(feed, name)}", remedy=f"give {least} or more")
    if feed.rank >= feed.world_size:
        raise RdtError(
            f"rank={feed.rank} of world_size={feed.world_size}", remedy="ranks are counted from 0 to world_size - 1"
        )
    for camera in feed.cameras or ():
        if camera not in CAMERAS:
            raise unknown("camera slot", camera, CAMERAS)
    if feed.on_bad not in ("stop", "quarantine"):
        raise unknown("way to treat broken episodes", feed.on_bad, ("stop", "quarantine"))
    if feed.split not in ("train", "validation", None):
        raise unknown("side of a split", str(feed.split), ("train", "validation"))


def _sizes(feed: Feed, slot_bytes: int) -> tuple[int, int]:
    """Slots of the arena, and how many blocks are open at most, whoever fills them; the others are being filled."""
    ahead = max(2 * (feed.producers + feed.remote_producers), 2)
    if feed.shuffle_gb <= 0:
        return ahead + 1, 1
    have = int(feed.shuffle_gb * 1e9) // slot_bytes
    if not have:
        raise RdtError(
            f"shuffle_gb={feed.shuffle_gb:g} holds not one block of {slot_bytes / 1e6:.3g} MB",
            remedy=f"give shuffle_gb={2 * slot_bytes / 1e9:.2g} or more, or fewer cameras, a smaller image_size, "
            "fewer run_steps",
        )
    most = min(have, _BLOCKS_PER_ROW * max(feed.batch_size, 8))
    return ahead + most, most
