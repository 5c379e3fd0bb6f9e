"""A video of the first episodes of an evaluation: side by side, each with what it was told and how it stands.

In: worlds, step by step, as `evaluate` shows them to a `Watch`. Out: an MP4 file. A frame's border is grey while the
task is not done, green when it is; the last picture stays for a second, red where the task was never done. Only the
newest pictures are in memory.
"""

import math
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Final, Self

import cv2
import numpy as np

from rdt_data.video_write import VideoFile
from rdt_model.policy import Pixels
from rdt_model.worlds import World

UNDONE: Final = (150, 150, 150)
DONE: Final = (40, 180, 75)
FAILED: Final = (214, 48, 49)
BORDER: Final = 6  # pixels
CAPTION: Final = 28  # pixels, height of the line with the instruction
LETTERING: Final = 0.42  # OpenCV's scale of its simplest font


class EpisodeVideo:
    """A `Watch` that writes a video; a context manager. episodes: how many of the first to show, at least 1."""

    def __init__(self, path: Path, episodes: int = 4) -> None:
        self.path, self.episodes = path, episodes
        self._file: VideoFile | None = None

    def __call__(self, worlds: Sequence[World], *, over: bool) -> None:
        """Add one frame, and when it is over another second of it."""
        shown = worlds[: self.episodes]
        picture = tiled([_framed(world, over) for world in shown])
        fps = max(1, round(shown[0].control_hz))
        if self._file is None:
            self._file = VideoFile(self.path, fps=fps, height=picture.shape[0], width=picture.shape[1])
        for _ in range(fps if over else 1):
            self._file.add(picture)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._file is not None:
            self._file.close()


def tiled(pictures: Sequence[Pixels]) -> Pixels:
    """Pictures (H, W, 3) of one size as a nearly square grid, black where there is none; sides even, as H.264 wants."""
    columns = math.ceil(math.sqrt(len(pictures)))
    rows = math.ceil(len(pictures) / columns)
    height, width, _ = pictures[0].shape
    sheet = np.zeros((rows * height + rows * height % 2, columns * width + columns * width % 2, 3), np.uint8)
    for number, picture in enumerate(pictures):
        top, left = number // columns * height, number % columns * width
        sheet[top : top + height, left : left + width] = picture
    return sheet


def caption(text: str, width: int, colour: tuple[int, int, int]) -> Pixels:
    """A line of text, (CAPTION, width, 3), black on a colour; more than fits is made smaller."""
    strip = np.full((CAPTION, width + 40 * len(text), 3), colour, np.uint8)
    place = (BORDER, CAPTION * 2 // 3)
    cv2.putText(strip, text, place, cv2.FONT_HERSHEY_SIMPLEX, LETTERING, (0, 0, 0), 1, cv2.LINE_AA)
    # Measured, because what getTextSize says of a font differs from what is drawn between versions of OpenCV.
    written = int(np.flatnonzero((strip != colour).any(axis=(0, 2))).max(initial=0)) + BORDER
    strip = strip[:, : max(width, written)]
    return np.asarray(cv2.resize(strip, (width, CAPTION), interpolation=cv2.INTER_AREA), np.uint8)


def _framed(world: World, over: bool) -> Pixels:
    """A world's picture in a border of its state, the instruction below."""
    colour = DONE if world.success else FAILED if over else UNDONE
    picture = world.picture()
    height, width, _ = picture.shape
    framed = np.full((BORDER + height, width + 2 * BORDER, 3), colour, np.uint8)
    framed[BORDER:, BORDER:-BORDER] = picture
    return np.vstack([framed, caption(world.instruction, framed.shape[1], colour)])
