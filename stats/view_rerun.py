"""Log episodes into rerun, where `rerun-sdk` is installed: a recording each, on one clock.

In: a store, which episodes. Out: a running viewer, or a file it opens. Frames are logged as they are stored; those that
hold red and blue exchanged are decoded first, because rerun cannot be told. Slots that are not real are left out.
"""

import re
from pathlib import Path
from typing import Any

import numpy as np

from rdt_data.errors import RdtError
from rdt_data.images import media_type
from rdt_data.layout import preferred_name
from rdt_data.store import Dataset, open_dataset
from rdt_data.stored import StoredEpisode
from stats.view_episode import VECTORS, real_slots, slot_group

_RUN = 64
"""Frames that are in memory at once."""


def show_in_rerun(url: str, episodes: str, save: Path | None = None) -> int:
    """Log episodes "0,4:8" (8 excluded) to a viewer that is started, or into the file `save`; returns how many.

    Raises RdtError without rerun, for episodes that are not there, and for several episodes into one file.
    """
    rerun = _rerun()
    dataset = open_dataset(url)
    numbers = chosen(episodes, len(dataset))
    if save is not None and not save.absolute().parent.is_dir():
        raise RdtError(f"{save.parent} is not a folder", remedy="make it, or give another --save")
    if save is not None and len(numbers) > 1:
        raise RdtError(f"{len(numbers)} episodes into {save}", remedy="give one --episodes for each --save")
    for number in numbers:
        recording = rerun.RecordingStream(f"rdt-data {dataset.name}", recording_id=f"{dataset.url}#{number}")
        if save is None:
            recording.spawn()
        else:
            recording.save(save)
        _log(rerun, recording, dataset, number)
        recording.flush()
        recording.disconnect()
    return len(numbers)


def chosen(text: str, count: int) -> list[int]:
    """ "0,4:6" -> [0, 4, 5], each once, as they are written. Raises RdtError for what is not among `count` episodes."""
    numbers: dict[int, None] = {}
    for piece in text.split(","):
        found = re.fullmatch(r"\s*([0-9]{1,12})(?::([0-9]{1,12}))?\s*", piece)
        first, stop = (0, 0) if found is None else (int(found[1]), int(found[2] or int(found[1]) + 1))
        if not first < stop <= count:
            raise RdtError(
                f"episodes {piece.strip()[:80]!r} of a store of {count}",
                remedy=f"give numbers below {count}, or A:B with B excluded, separated by commas",
            )
        numbers.update(dict.fromkeys(range(first, stop)))
    return list(numbers)


def _rerun() -> Any:
    try:
        import rerun
    except ImportError:
        raise RdtError("rerun is not installed", remedy="pip install 'rerun-sdk>=0.41'") from None
    if not hasattr(rerun, "Scalars"):
        raise RdtError("this rerun is too old", remedy="pip install --upgrade 'rerun-sdk>=0.41'")
    return rerun


def _log(rerun: Any, recording: Any, dataset: Dataset, number: int) -> None:
    episode = dataset[number]
    recording.send_recording_name(f"{number}: {episode.id}")
    recording.log("instruction", rerun.TextDocument(episode.instruction or "no instruction"), static=True)
    recording.log("source", rerun.TextDocument(f"{episode.id}\n{episode.source}"), static=True)
    _log_vectors(rerun, recording, episode)
    for camera in episode.cameras:
        _log_camera(rerun, recording, episode, camera)


def _log_vectors(rerun: Any, recording: Any, episode: StoredEpisode) -> None:
    for name in VECTORS:
        values, mask = episode.rows(name, 0, len(episode))
        real = np.broadcast_to(mask, values.shape)
        for slot in real_slots(episode):
            steps = np.flatnonzero(real[:, slot])
            if len(steps):
                path = f"{slot_group(slot).replace(' ', '_').lower()}/{preferred_name(slot)}/{name}"
                recording.send_columns(
                    path,
                    indexes=_times(rerun, steps, episode.control_hz),
                    columns=rerun.Scalars.columns(scalars=values[steps, slot].astype(np.float64)),
                )


def _log_camera(rerun: Any, recording: Any, episode: StoredEpisode, camera: str) -> None:
    frames = episode.images(camera)
    for start in range(0, len(frames), _RUN):
        steps = np.arange(start, min(start + _RUN, len(frames)))
        if frames.swapped:
            for step in steps.tolist():
                recording.set_time("step", sequence=step)
                if episode.control_hz > 0:
                    recording.set_time("time", duration=step / episode.control_hz)
                recording.log(f"cameras/{camera}", rerun.Image(frames[step]))
            continue
        stored = [bytes(frame) for frame in frames.encoded_run(start, int(steps[-1]) + 1)]
        kinds = [media_type(data) for data in stored]
        recording.send_columns(
            f"cameras/{camera}",
            indexes=_times(rerun, steps, episode.control_hz),
            columns=rerun.EncodedImage.columns(blob=stored, media_type=kinds),
        )


def _times(rerun: Any, steps: Any, control_hz: float) -> list[Any]:
    """Two timelines: steps, and seconds where the control rate gives them."""
    seconds = [rerun.TimeColumn("time", duration=steps / control_hz)] if control_hz > 0 else []
    return [rerun.TimeColumn("step", sequence=steps), *seconds]
