"""What a run has to know of each store beside its samples: statistics, real slots, whose robot it is, empty words.

In: the stores of a mixture. Out: a `StoreFacts` per store, by its name in the mixture, and one `PolicyConfig` of each,
so that a trained network can act on every robot it was trained on. Statistics come from STORE/stats/stats.json
(`rdt-data stats`). Knows nothing of networks and the loop.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from rdt_data import layout
from rdt_data.errors import RdtError, StoreError
from rdt_data.language import Embedding, language_of, pointers
from rdt_data.mixture_file import Mixture
from rdt_data.store import Dataset, open_dataset
from rdt_model.policy_files import Normalisation, PolicyConfig, slots_of
from rdt_model.run_config import KEYPOINTS, ModelPart

FloatArray = npt.NDArray[np.float32]
BoolArray = npt.NDArray[np.bool_]

LEAST_STD = 1e-3
"""Slots that move less (in their unit) are centred but not stretched: their z-scores would be the sensor's noise."""


@dataclass(frozen=True, slots=True)
class Moments:
    """Mean and standard deviation of each of 128 slots, in its own unit; 0 and 1 where a slot is not real."""

    mean: FloatArray
    std: FloatArray

    @property
    def norm(self) -> FloatArray:
        """Root mean square, which the published code calls state_norm."""
        return np.asarray(np.sqrt(self.mean**2 + self.std**2))

    def normalisation(self) -> Normalisation:
        """z-scores by these."""
        std = np.where(self.std < LEAST_STD, np.float32(1), self.std)
        return Normalisation(mean=tuple(map(float, self.mean)), std=tuple(map(float, std)))


@dataclass(frozen=True, slots=True)
class StoreFacts:
    """One store of a mixture. empty: the embedding of no instruction, (L, D), None where it has no embeddings."""

    name: str
    url: str
    dataset: str
    spec_text: str
    corrected: bool
    action: str
    control_hz: float
    cameras: tuple[str, ...]
    state: Moments
    actions: Moments
    state_slots: tuple[str, ...]
    action_slots: tuple[str, ...]
    empty: Embedding | None
    statistics: Mapping[str, Any]

    def policy(self, model: ModelPart, cameras: tuple[str, ...], *, normalised: bool) -> PolicyConfig:
        """What policy.json says of this robot."""
        return PolicyConfig(
            dataset=self.dataset,
            spec_text=self.spec_text,
            corrected=self.corrected,
            action=self.action,
            control_hz=self.control_hz,
            state_slots=self.state_slots,
            action_slots=self.action_slots,
            cameras=cameras,
            history=model.history,
            image_encoder=model.image_encoder,
            keypoints=model.keypoints if model.image_encoder == KEYPOINTS else None,
            language_encoder=model.language_encoder,
            state_normalisation=self.state.normalisation() if normalised else None,
            action_normalisation=self.actions.normalisation() if normalised else None,
        )


def facts_of(mixture: Mixture) -> dict[str, StoreFacts]:
    """Of every store of a mixture, by its name there. Raises StoreError that says which command is lacking."""
    return {name: _facts(name, open_dataset(mixture.url(name))) for name in mixture.datasets}


def _facts(name: str, store: Dataset) -> StoreFacts:
    document = _statistics(store)
    request = store.attributes["request"]
    state, action = (document["stats"][key] for key in ("state", "action"))
    return StoreFacts(
        name=name,
        url=store.url,
        dataset=store.name,
        spec_text=store.spec_text,
        corrected=bool(request.get("corrected", False)),
        action=str(request.get("action", "next_state")).replace("-", "_"),
        control_hz=store.control_hz,
        cameras=store.cameras,
        state=_moments(state),
        actions=_moments(action),
        state_slots=_slots(state),
        action_slots=_slots(action),
        empty=language_of(store).empty if pointers(store) else None,
        statistics=document,
    )


def _statistics(store: Dataset) -> dict[str, Any]:
    path = f"{store.path}/stats/stats.json"
    remedy = f"run `rdt-data stats {store.url}`"
    try:
        document = json.loads(store.fs.cat_file(path))
    except FileNotFoundError:
        raise StoreError(f"{store.url} has no statistics: {path} is not there", remedy=remedy) from None
    except ValueError as error:
        raise StoreError(f"{path} is damaged: {error}", remedy=remedy) from None
    counted = document.get("stats", {}).get("steps")
    if counted != store.steps:
        raise StoreError(f"{path} is of {counted} steps, the store has {store.steps}", remedy=remedy + " again")
    return dict(document)


def _moments(slots: Mapping[str, Any]) -> Moments:
    mean, std = np.zeros(layout.DIM, np.float32), np.ones(layout.DIM, np.float32)
    for about in slots.values():
        mean[about["index"]], std[about["index"]] = about["mean"], about["std"]
    return Moments(mean, std)


def _slots(slots: Mapping[str, Any]) -> tuple[str, ...]:
    mask = np.zeros(layout.DIM, np.bool_)
    mask[[about["index"] for about in slots.values()]] = True
    return slots_of(mask)


def cameras_of(model: ModelPart, facts: Mapping[str, StoreFacts]) -> tuple[str, ...]:
    """The camera slots of a run, in the order of the image tokens. Raises RdtError when no store has any frames."""
    there = {slot for store in facts.values() for slot in store.cameras}
    if model.cameras is None and not there:
        raise RdtError(
            "no store has frames of any camera", remedy="give model.cameras: [exterior] for background images"
        )
    return model.cameras or tuple(slot for slot in layout.CAMERAS if slot in there)


def one_language(facts: Mapping[str, StoreFacts]) -> int:
    """The width of the embeddings, the same in all stores. Raises RdtError when they are lacking or differ."""
    widths: dict[str, int] = {}
    for name, store in facts.items():
        if store.empty is None:
            raise RdtError(f"{store.url} has no language embeddings", remedy=f"run `rdt-data embed-lang {store.url}`")
        widths[name] = store.empty.shape[1]
    if len(set(widths.values())) > 1:
        raise RdtError(
            f"the stores' instructions are embeddings of different widths: {widths}",
            remedy="run `rdt-data embed-lang` on all of them with one encoder",
        )
    return next(iter(widths.values()))
