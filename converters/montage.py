"""A contact sheet of camera frames with captions, as one PNG."""

import math
from collections.abc import Sequence

import numpy as np

from rdt_data.images import Pixels, encode_png

CELL = 240
CAPTION = 20
GAP = 6
PAPER = 245


def montage(pictures: Sequence[tuple[str, Pixels]], columns: int) -> bytes:
    """PNG bytes of captioned frames in rows of `columns`; every frame is scaled to the width of its cell."""
    scaled = [(caption, _scaled(frame)) for caption, frame in pictures]
    cell = max(frame.shape[0] for _, frame in scaled) + CAPTION + GAP
    rows = math.ceil(len(pictures) / columns)
    sheet = np.full((rows * cell + GAP, columns * (CELL + GAP) + GAP, 3), PAPER, np.uint8)
    for number, (caption, frame) in enumerate(scaled):
        top, left = GAP + (number // columns) * cell, GAP + (number % columns) * (CELL + GAP)
        sheet[top : top + frame.shape[0], left : left + CELL] = frame
        _write(sheet, caption, top + cell - GAP - 6, left)
    return encode_png(sheet)


def _scaled(frame: Pixels) -> Pixels:
    import cv2

    height = max(1, round(frame.shape[0] * CELL / frame.shape[1]))
    how = cv2.INTER_AREA if frame.shape[1] > CELL else cv2.INTER_NEAREST
    return np.asarray(cv2.resize(np.ascontiguousarray(frame), (CELL, height), interpolation=how), dtype=np.uint8)


def _write(sheet: Pixels, caption: str, baseline: int, left: int) -> None:
    import cv2

    scale = 0.38
    (width, _), _ = cv2.getTextSize(caption, cv2.FONT_HERSHEY_SIMPLEX, scale, 1)
    if width > CELL:
        caption = caption[: max(3, int(len(caption) * CELL / width) - 2)] + ".."
    cv2.putText(sheet, caption, (left, baseline), cv2.FONT_HERSHEY_SIMPLEX, scale, (40, 40, 40), 1, cv2.LINE_AA)
