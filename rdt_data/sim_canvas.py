"""Cameras, and the pictures they take of shapes given in the world: polygons, rods, balls; OpenCV, anti-aliased.

In: points in metres of the world frame, radii in metres, colours. Out: RGB images. The points of many pictures are
projected together, because NumPy's price is per call; shapes are then painted one by one, each over the last. Knows
neither arms nor blocks. The same input gives the same pixels, whatever is projected with it.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final, Self

import cv2
import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]
Image = npt.NDArray[np.uint8]
Colour = tuple[int, int, int]  # RGB, 0..255
Fixed = npt.NDArray[np.int32]  # pixel coordinates times FIXED
Flags = npt.NDArray[np.bool_]

NEAR: Final = 0.03  # m, nothing closer to the camera is drawn
OVERSAMPLE: Final = 2  # drawn this much larger and averaged down
SUBPIXEL: Final = 4  # binary digits of a pixel that OpenCV's fixed-point coordinates keep
FIXED: Final = 2**SUBPIXEL
FAR_OUT: Final = 16000.0  # pixels; coordinates are clipped here so that fixed point cannot overflow
LEAST_RADIUS: Final = 0.5  # pixels


@dataclass(frozen=True, slots=True, eq=False)
class Camera:
    """A pinhole camera: where it is, how it is turned, how far it zooms. Two cameras are never equal."""

    position: FloatArray  # (3,) m
    axes: FloatArray  # (3, 3) rows: right, down, forward; unit vectors in the world
    focal: float  # focal length divided by the image width

    @classmethod
    def looking_at(cls, position: FloatArray, target: FloatArray, up: FloatArray, focal: float) -> Self:
        """A camera at `position` with `target` in its centre and `up` upwards in the image (each (3,))."""
        forward = (target - position) / math.dist(target, position)
        right = _cross(forward, up)
        right /= math.sqrt(right @ right)
        return cls(position, np.array([right, _cross(forward, right), forward]), focal)

    def see(self, points: FloatArray) -> FloatArray:
        """points: (..., 3) m in the world. returns: (..., 3) m to the right, down and forward of the camera."""
        seen: FloatArray = (points - self.position) @ self.axes.T
        return seen


@dataclass(frozen=True, slots=True)
class Rods:
    """Round-ended, tapered rods in one picture: M groups of N, in fixed-point pixels."""

    discs: list[list[list[list[int]]]]  # (M, N, 2, 3): x, y, radius of both ends
    sides: Fixed  # (M, N, 4, 2) corners of what lies between the ends
    in_front: list[list[bool]]  # (M, N) whether any of it is in front of the camera
    shown: list[list[bool]]  # (M, N) whether any of it can be in the picture
    long: list[list[bool]]  # (M, N) whether there is anything between the ends


class Views:
    """Where points are in B pictures, one by each of `cameras`, which have the same focal length. size: (H, W)."""

    def __init__(self, cameras: Sequence[Camera], size: tuple[int, int]) -> None:
        self.positions = np.array([camera.position for camera in cameras])  # (B, 3)
        self.size = size
        self._axes = np.array([camera.axes for camera in cameras]).swapaxes(1, 2)
        height, width = (OVERSAMPLE * side for side in size)
        self._edges = (width, height)
        self._scale = cameras[0].focal * width  # pixels for right / forward = 1
        self._middle = (width / 2 - 0.5, height / 2 - 0.5)

    def project(self, points: FloatArray) -> tuple[Fixed, Flags]:
        """points: (B, ..., 3) m. returns: (B, ..., 2) fixed-point pixels, (B, ...) which are in front of the camera."""
        seen = self._see(points)
        flat = seen[..., :2] / np.maximum(seen[..., 2:], NEAR) * self._scale + self._middle
        return np.rint(_clipped(flat) * FIXED).astype(np.int32), seen[..., 2] > NEAR

    def rods(self, points: FloatArray, ends: npt.NDArray[np.int64], radii: FloatArray) -> list[Rods]:
        """Rods in each picture. points: (B, M, P, 3) m; ends: (N, 2) of the P points; radii: (N, 2) m there."""
        seen = self._see(points)[:, :, ends]  # (B, M, N, 2, 3)
        near = seen[..., 2] > NEAR  # (B, M, N, 2)
        in_front = np.logical_or(near[..., 0], near[..., 1])
        if not near.all():
            seen = _cut(seen, near)
        zoom = self._scale / seen[..., 2:]  # (B, M, N, 2, 1)
        places = _clipped(seen[..., :2] * zoom + self._middle)  # (B, M, N, 2, 2)
        sizes = np.minimum(np.maximum(radii[..., np.newaxis] * zoom, LEAST_RADIUS), FAR_OUT)  # (B, M, N, 2, 1)
        inside = ((places + sizes).max(axis=-2) >= 0) & ((places - sizes).min(axis=-2) <= self._edges)
        along = places[..., 1, :] - places[..., 0, :]  # (B, M, N, 2)
        length = np.hypot(along[..., 0], along[..., 1])
        long = length > 0.1
        normal = along[..., ::-1] * (-1.0, 1.0) / np.where(long, length, 1.0)[..., np.newaxis]
        aside = sizes * normal[..., np.newaxis, :]  # (B, M, N, 2, 2)
        sides = np.concatenate([places + aside, (places - aside)[..., ::-1, :]], axis=-2)
        discs = np.rint(np.concatenate([places, sizes], axis=-1) * FIXED).astype(np.int64)
        flags = in_front, np.logical_and(in_front, inside.all(axis=-1)), long
        fixed = np.rint(sides * FIXED).astype(np.int32, order="C")
        return [Rods(*each) for each in zip(discs.tolist(), fixed, *(flag.tolist() for flag in flags), strict=True)]

    def _see(self, points: FloatArray) -> FloatArray:
        """`Camera.see` of each camera for its own points, (B, ..., 3)."""
        flat = points.reshape(len(points), -1, 3) - self.positions[:, np.newaxis]
        return np.asarray(flat @ self._axes).reshape(points.shape)


class Canvas:
    """The pixels of one picture, OVERSAMPLE times as many as it shall have, as they are painted."""

    def __init__(self, pixels: Image) -> None:
        self.pixels = pixels

    @classmethod
    def empty(cls, size: tuple[int, int]) -> Self:
        """To be filled. size: (H, W) of the finished picture."""
        return cls(np.empty((OVERSAMPLE * size[0], OVERSAMPLE * size[1], 3), np.uint8))

    def fill(self, colour: Colour) -> None:
        cv2.rectangle(self.pixels, (0, 0), self.pixels.shape[1::-1], colour, cv2.FILLED)

    def polygon(self, corners: Fixed, colour: Colour) -> None:
        """A convex polygon. corners: (N, 2) from `Views.project`."""
        cv2.fillConvexPoly(self.pixels, corners, colour, cv2.LINE_AA, SUBPIXEL)

    def hidden_by(self, corners: Fixed) -> bool:
        """Whether a convex polygon, given as to `polygon`, covers the whole picture, and its soft edges none of it."""
        margin, places = 2 * FIXED, corners.tolist()
        height, width = self.pixels.shape[:2]
        frame = [(x, y) for x in (-margin, width * FIXED + margin) for y in (-margin, height * FIXED + margin)]
        sides: list[int] = [
            (x1 - x0) * (y - y0) - (y1 - y0) * (x - x0)  # positive on one side of the edge, negative on the other
            for (x0, y0), (x1, y1) in zip(places, places[1:] + places[:1], strict=True)
            for x, y in frame
        ]
        return min(sides) > 0 or max(sides) < 0

    def paint_rods(self, rods: Rods, group: int, numbers: Iterable[int], colour: Colour) -> None:
        """Some rods of one group, in this order: the discs at both ends and what lies between them."""
        for n in numbers:
            if rods.shown[group][n]:
                start, end = rods.discs[group][n]
                self._disc(start, colour)
                self._disc(end, colour)
                if rods.long[group][n]:
                    self.polygon(rods.sides[group, n], colour)

    def paint_balls(self, rods: Rods, group: int, numbers: Iterable[int], colour: Colour) -> None:
        """Rods of no length."""
        for n in numbers:
            if rods.in_front[group][n]:
                self._disc(rods.discs[group][n][0], colour)

    def finished(self) -> Image:
        """The picture averaged down to the size asked for."""
        height, width = (side // OVERSAMPLE for side in self.pixels.shape[:2])
        return np.asarray(cv2.resize(self.pixels, (width, height), interpolation=cv2.INTER_AREA), np.uint8)

    def _disc(self, disc: list[int], colour: Colour) -> None:
        x, y, radius = disc
        cv2.circle(self.pixels, (x, y), radius, colour, cv2.FILLED, cv2.LINE_AA, SUBPIXEL)


def _cross(a: FloatArray, b: FloatArray) -> FloatArray:
    """The cross product of two (3,) vectors; NumPy's own takes ten times as long for one."""
    (ax, ay, az), (bx, by, bz) = a.tolist(), b.tolist()
    return np.array([ay * bz - az * by, az * bx - ax * bz, ax * by - ay * bx])


def _clipped(places: FloatArray) -> FloatArray:
    """Pixels within FAR_OUT; `np.clip` takes longer for few numbers."""
    return np.asarray(np.minimum(np.maximum(places, -FAR_OUT), FAR_OUT))


def _cut(seen: FloatArray, near: Flags) -> FloatArray:
    """Rods without what is not in front of the camera; those without anything in front become any that are.

    seen: (..., 2, 3) m as the camera sees both ends; near: (..., 2) which are in front.
    """
    start, end = seen[..., 0, :], seen[..., 1, :]  # (..., 3)
    crossing = near[..., 0] != near[..., 1]
    share = np.where(crossing, NEAR - start[..., 2], 0.0) / np.where(crossing, end[..., 2] - start[..., 2], 1.0)
    cut = start + share[..., np.newaxis] * (end - start)
    kept = np.where(near[..., np.newaxis], seen, cut[..., np.newaxis, :])
    kept[~near.any(axis=-1)] = 1.0
    return kept
