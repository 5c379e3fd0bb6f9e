"""The spec with which `rdt-data convert` reads a LeRobot export back into the same slots.

In: the features of the export. Out: YAML text. Runs of neighbouring slots of one unit become one field; a slot that is
not real everywhere becomes a field of its own with `gaps: true`, and `exports.patch` puts the gaps in.
"""

from collections.abc import Sequence
from typing import Any

import yaml

from converters.exports.features import VALUES, Features
from converters.exports.survey import VECTORS, Vector, slot_names
from rdt_data.layout import unit
from rdt_data.store import Dataset

PATCH = "converters.exports.patch:exported_masks"


def spec_text(dataset: Dataset, features: Features) -> str:
    """The spec file, UTF-8 YAML."""
    state, action = (_fields(features, name) for name in VECTORS)
    masked = any(key.startswith("mask.") for key in features.vectors())
    spec: dict[str, Any] = {
        "title": f"{dataset.name}, exported to LeRobot by rdt-data",
        "reader": "lerobot",
        "control_hz": features.fps,
        **({"patch": PATCH} if masked else {}),
        "cameras": {slot: _camera(key, slot in features.lacking) for slot, key in features.camera_keys().items()},
        "instruction": {"from": ["task"], "clean": "none", "missing": "empty"},
        **({"state": state} if state else {}),
        **({"action": "recorded", "recorded_action": action} if action else {}),
        "source": "the slots of the store that was exported",
    }
    return yaml.safe_dump(spec, sort_keys=False, allow_unicode=True, default_flow_style=None, width=110)


def _camera(key: str, optional: bool) -> Any:
    return {"from": key, "optional": True} if optional else key


def _fields(features: Features, name: Vector) -> list[dict[str, Any]]:
    exported, real = features.exported(name), features.real[name]
    whole = _runs([slot for slot in real.indices if slot not in real.varying])
    gappy = [[slot] for slot in real.varying]
    return [
        {**_field(VALUES[name], exported.index(run[0]), run), **more}
        for runs, more in ((whole, {}), (gappy, {"gaps": True}))
        for run in runs
    ]


def _field(key: str, column: int, slots: Sequence[int]) -> dict[str, Any]:
    names = slot_names(tuple(slots))
    to = names if len(names) > 1 else names[0]
    return {"from": key, "cols": [column, column + len(slots)], "unit": unit(slots[0]), "to": to}


def _runs(slots: Sequence[int]) -> list[list[int]]:
    """Ascending slots cut where a slot is left out or the unit changes."""
    runs: list[list[int]] = []
    for slot in slots:
        if runs and runs[-1][-1] == slot - 1 and unit(runs[-1][-1]) == unit(slot):
            runs[-1].append(slot)
        else:
            runs.append([slot])
    return runs
