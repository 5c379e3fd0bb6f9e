"""One episode as plain data for a page: its words, cameras, real slots by part of the robot, masks, findings.

In: a `StoredEpisode`. Out: what `json.dumps` takes, vectors as the bytes of little-endian float32. Nothing is written
about how it looks.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from rdt_data.episode import BoolArray, CameraFormat
from rdt_data.layout import NAMES, SLOTS, describe, preferred_name, unit
from rdt_data.stored import StoredEpisode
from stats.lint_check import Finding
from stats.lint_table import CHECKS

VECTORS: tuple[Literal["state", "action"], ...] = ("state", "action")
"""The vectors of an episode."""

_PARTS = {"arm": "arm", "gripper": "gripper", "eef": "end-effector"}


def describe_episode(
    episode: StoredEpisode, number: int, formats: Mapping[str, CameraFormat], findings: Iterable[Finding] | None
) -> dict[str, Any]:
    """What a page needs to draw an episode, but for frames and vectors. findings: None while they are not known."""
    masks = {name: _any_step(episode, name) for name in VECTORS}
    slots = real_slots(episode)
    return {
        "number": number,
        "id": episode.id,
        "source": episode.source,
        "instruction": episode.instruction,
        "recorded": episode.instruction_raw,
        "phrasings": [text for text in episode.phrasings if text != episode.instruction],
        "steps": len(episode),
        "control_hz": episode.control_hz,
        "cameras": [_camera(slot, formats[slot]) for slot in episode.cameras],
        "slots": slots,
        "groups": _groups(slots),
        "masks": {name: {"slots": describe(mask), "varies": varies} for name, (mask, varies) in masks.items()},
        "findings": None if findings is None else [_finding(finding) for finding in findings],
    }


def real_slots(episode: StoredEpisode) -> list[int]:
    """The slots that are real in any step of state or action, ascending: the columns of `vector_bytes`."""
    found: list[int] = np.flatnonzero(_any_step(episode, "state")[0] | _any_step(episode, "action")[0]).tolist()
    return found


def vector_bytes(episode: StoredEpisode, name: Literal["state", "action"]) -> bytes:
    """(T, K) little-endian float32, step after step: the real slots; NaN where a step has no value."""
    values, mask = episode.rows(name, 0, len(episode))
    real = np.where(mask, values, np.float32(np.nan))[:, real_slots(episode)]
    return np.ascontiguousarray(real, "<f4").tobytes()


def packed_frames(frames: Sequence[memoryview]) -> bytes:
    """Encoded frames in one message: their number, then the length of each (little-endian uint32), then their bytes."""
    lengths: npt.NDArray[np.uint32] = np.array([len(frames), *map(len, frames)], "<u4")
    return b"".join((lengths.tobytes(), *frames))


def _any_step(episode: StoredEpisode, name: Literal["state", "action"]) -> tuple[BoolArray, bool]:
    """The slots real in any step, and whether that differs from step to step."""
    mask = episode.state_mask if name == "state" else episode.action_mask
    return (mask, False) if mask.ndim == 1 else (np.asarray(mask.any(axis=0), np.bool_), True)


def _camera(slot: str, form: CameraFormat) -> dict[str, Any]:
    return {"slot": slot, "height": form.height, "width": form.width, "codec": form.codec, "swapped": form.swapped}


def _groups(slots: Sequence[int]) -> list[dict[str, Any]]:
    """Slots by part of the robot, in the order of the layout. column: the position in `slots`."""
    groups: dict[str, list[dict[str, Any]]] = {}
    for column, slot in enumerate(slots):
        measure = unit(slot)
        entry = {
            "column": column,
            "slot": slot,
            "name": preferred_name(slot),
            "unit": "" if measure == "1" else measure,
        }
        groups.setdefault(slot_group(slot), []).append(entry)
    return [{"title": title, "slots": entries} for title, entries in groups.items()]


def slot_group(slot: int) -> str:
    """ "Right arm", "Left end-effector", "Base", "Reserved"."""
    side, part = SLOTS[slot].name.split("_")[:2]
    return f"{side.capitalize()} {_PARTS[part]}" if side in ("right", "left") else side.capitalize()


def _finding(finding: Finding) -> dict[str, Any]:
    vector, slots = _where(finding.slot)
    return {
        "check": finding.check,
        "severity": finding.severity,
        "about": CHECKS[finding.check].about,
        "step": finding.step,
        "count": finding.count,
        "slot": finding.slot,
        "vector": vector,
        "slots": slots,
        "camera": finding.camera,
        "found": finding.value if isinstance(finding.value, str) else f"{finding.value:.4g}",
        "expected": finding.expected,
        "remedy": finding.remedy,
    }


def _where(slot: str | None) -> tuple[str | None, list[int]]:
    """The vector and the slots that a finding's "action right_gripper_open" or "right_eef_ortho6d" speaks of."""
    if slot is None:
        return None, []
    vector, _, name = slot.rpartition(" ")
    return (vector or "state", list(NAMES[name])) if name in NAMES else (None, [])


def describe_findings(findings: Iterable[Finding]) -> list[dict[str, Any]]:
    """Findings as plain data; a value that is no number stays words ("nan"), which JSON has no number for."""
    return [_finding(finding) for finding in findings]
