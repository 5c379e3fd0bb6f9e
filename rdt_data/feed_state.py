"""Where a feed stands, as plain data: saved by each rank, taken up by as many ranks as there are then.

In: the open blocks and how many rows of each are gone, the blocks that were not opened yet, where the plan stands. Out:
the same for one rank of the next run. With the same number of ranks each goes on exactly where it was. With another
number, what is left of all ranks is dealt anew: every row that nobody had comes once, in another order. Pure.
"""

from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from rdt_data.errors import RdtError
from rdt_data.mixture import Block, Plan

VERSION = 1

Rest = tuple[Block, int]
"""A block and how many of its rows are gone."""


@dataclass
class Standing:
    """One rank's place. batches: drawn. origin: fresh blocks from this number on are dealt by number.

    opened: blocks rows are taken of, in their order; backlog: blocks that come before fresh ones;
    left_out: broken episodes. plan: `Plan.state`.
    """

    batches: int = 0
    origin: int = 0
    opened: list[Rest] = field(default_factory=list)
    backlog: list[Rest] = field(default_factory=list)
    left_out: list[tuple[str, int]] = field(default_factory=list)
    plan: Mapping[str, Any] = field(default_factory=dict)


class Lane:
    """The blocks of one rank: those that wait, then every fresh block whose turn is its own."""

    def __init__(self, waiting: Iterable[Rest], plan: Plan, origin: int, rank: int, world_size: int) -> None:
        self.waiting = deque(waiting)
        self.plan, self.origin, self.rank, self.world_size = plan, origin, rank, world_size

    def __iter__(self) -> "Lane":
        return self

    def __next__(self) -> Rest:
        if self.waiting:
            return self.waiting.popleft()
        return next((block, 0) for block in self.plan if _owner(block, self.origin, self.world_size) == self.rank)


def to_json(standing: Standing, about: Mapping[str, Any]) -> dict[str, Any]:
    """A state. about: what must be equal in the feed that takes it up, and its rank and world_size."""
    return {
        "version": VERSION,
        **about,
        "batches": standing.batches,
        "origin": standing.origin,
        "plan": dict(standing.plan),
        "opened": [[block.as_json(), taken] for block, taken in standing.opened],
        "backlog": [[block.as_json(), taken] for block, taken in standing.backlog],
        "left_out": [list(episode) for episode in standing.left_out],
    }


def from_json(states: Sequence[Mapping[str, Any]], plan: Plan, rank: int, world_size: int) -> Standing:
    """The place of one of `world_size` ranks, and `plan` moved to it.

    states: of all ranks, or of this one where their number is the same. Raises RdtError when some are lacking.
    """
    of_rank = {int(state["rank"]): state for state in states}
    before = int(states[0]["world_size"])
    if before == world_size and rank in of_rank:
        state = of_rank[rank]
        plan.state = state["plan"]
        return _standing(state)
    if sorted(of_rank) != list(range(before)):
        raise RdtError(
            f"the states of ranks {sorted(of_rank)} of {before} cannot be taken up by {world_size} ranks",
            remedy=f"give load_state_dict a list with the states of all {before} ranks",
        )
    return _dealt([of_rank[n] for n in range(before)], plan, rank, world_size)


def check(states: Sequence[Mapping[str, Any]], about: Mapping[str, Any]) -> None:
    """Raise RdtError when a state is from a feed that differs in what decides which samples there are."""
    if not states:
        raise RdtError("no state to take up", remedy="give what state_dict returned")
    for state in states:
        if state.get("version") != VERSION:
            raise RdtError(
                f"the state has version {state.get('version')}, this program reads {VERSION}",
                remedy="go on with the version of rdt-data that saved it",
            )
        if state["parts"] != states[0]["parts"]:
            raise RdtError(
                f"ranks {states[0]['rank']} and {state['rank']} did not read the same parts of their stores",
                remedy="begin a new run: they began while a store was growing, and drew from different orders",
            )
        for name, here in about.items():
            if state[name] != here:
                raise RdtError(
                    f"the state was saved with {name}={state[name]!r}, this feed has {here!r}",
                    remedy="make the feed as it was; only ranks, batch_size, producers and shuffle_gb may differ",
                )


def _standing(state: Mapping[str, Any]) -> Standing:
    opened, backlog = ([(Block(*block), taken) for block, taken in state[name]] for name in ("opened", "backlog"))
    left_out = [(str(name), int(episode)) for name, episode in state["left_out"]]
    return Standing(state["batches"], state["origin"], opened, backlog, left_out, state["plan"])


def _dealt(states: Sequence[Mapping[str, Any]], plan: Plan, rank: int, world_size: int) -> Standing:
    rests: list[Rest] = []
    for state in states:
        standing = _standing(state)
        rests += standing.opened + standing.backlog
    seen = [int(state["plan"]["number"]) for state in states]
    plan.state = min((state["plan"] for state in states), key=lambda place: int(place["number"]))
    while plan.number < max(seen):  # some ranks were further: what the others had not come to yet
        block = next(plan)
        if block.number >= seen[_owner(block, states[0]["origin"], len(states))]:
            rests.append((block, 0))
    rests.sort(key=lambda rest: rest[0].number)
    left_out = {(str(name), int(episode)) for state in states for name, episode in state["left_out"]}
    return Standing(
        batches=max(int(state["batches"]) for state in states),
        origin=plan.number,
        backlog=rests[rank::world_size],
        left_out=sorted(left_out),
        plan=plan.state,
    )


def _owner(block: Block, origin: int, world_size: int) -> int:
    return (block.number - origin) % world_size
