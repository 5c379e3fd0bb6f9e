"""Draw the built-in two-arm world from any camera, with OpenCV, anti-aliased.

In: a `Camera`, an image size, the blocks and the arms as points in the world. Out: an RGB image. It knows
points and colours, nothing of joints, tasks or time; the same input gives the same pixels. Places and sizes are
metres of the world frame (x right, y away from the exterior camera, z up; the table top is z = 0), so every
image size shows the same view: the field of view is fixed across the width.

Shapes are painted from far to near without a depth buffer, which is right for a few blocks under thin arms.
"""

import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import cv2
import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]
Image = npt.NDArray[np.uint8]
Colour = tuple[int, int, int]  # RGB, 0..255
Fixed = npt.NDArray[np.int32]  # pixel coordinates times FIXED
Disc = tuple[float, float, float]  # x, y, radius in pixels

TABLE: Final[Colour] = (226, 222, 213)
FLOOR: Final[Colour] = (150, 152, 156)
TABLE_CORNERS: Final = np.array([[-0.62, -0.35, 0.0], [0.62, -0.35, 0.0], [0.62, 0.45, 0.0], [-0.62, 0.45, 0.0]])
MAT: Final[Colour] = (217, 214, 207)
MAT_CORNERS: Final = np.array([[-0.25, -0.17, 0.0], [0.25, -0.17, 0.0], [0.25, 0.17, 0.0], [-0.25, 0.17, 0.0]])
CUBE: Final = np.array([[x, y, z] for x in (-0.5, 0.5) for y in (-0.5, 0.5) for z in (0.0, 1.0)])  # (8, 3) corners
FACES: Final = {"-x": (0, 1, 3, 2), "+x": (4, 5, 7, 6), "-y": (0, 1, 5, 4), "+y": (2, 3, 7, 6), "+z": (1, 3, 7, 5)}
FACE_LIGHT: Final = {"-x": 0.66, "+x": 0.66, "-y": 0.80, "+y": 0.80, "+z": 1.0}  # brightness of a block's faces
SHADOW: Final = np.array([[-0.3, -0.4, 0.0], [0.7, -0.4, 0.0], [0.7, 0.65, 0.0], [-0.3, 0.65, 0.0]])  # in edges
BLOCK_SHADE: Final = 0.86  # brightness of the table beside a block
ARM_SHADE: Final = 0.92  # brightness of the table below an arm
LINK_RADII: Final = (0.030, 0.022, 0.017, 0.012, 0.010)  # m, at each point of ArmShape.links
FINGER_RADII: Final = (0.0045, 0.0035)  # m, at the palm and at the tip
NEAR: Final = 0.03  # m, nothing closer to the camera is drawn
OVERSAMPLE: Final = 2  # drawn this much larger and averaged down
SUBPIXEL: Final = 4  # binary digits of a pixel that OpenCV's fixed-point coordinates keep
FIXED: Final = 2**SUBPIXEL
FAR_OUT: Final = 16000.0  # pixels; coordinates are clipped here so that fixed point cannot overflow


@dataclass(frozen=True, slots=True)
class Camera:
    """A pinhole camera: where it is, how it is turned, how far it zooms."""

    position: FloatArray  # (3,) m
    axes: FloatArray  # (3, 3) rows: right, down, forward; unit vectors in the world
    focal: float  # focal length divided by the image width

    @classmethod
    def looking_at(cls, position: FloatArray, target: FloatArray, up: FloatArray, focal: float) -> "Camera":
        """A camera at `position` with `target` in its centre and `up` upwards in the image (each (3,))."""
        forward = (target - position) / math.dist(target, position)
        right = np.cross(forward, up)
        right /= math.sqrt(right @ right)
        return cls(position, np.stack([right, np.cross(forward, right), forward]), focal)

    def see(self, points: FloatArray) -> FloatArray:
        """points: (..., 3) m in the world. returns: (..., 3) m to the right, down and forward of the camera."""
        seen: FloatArray = (points - self.position) @ self.axes.T
        return seen


@dataclass(frozen=True, slots=True)
class Block:
    """A cube that stands on the table, its faces along x and y."""

    x: float  # m, centre
    y: float  # m, centre
    edge: float  # m
    colour: Colour


@dataclass(frozen=True, slots=True)
class ArmShape:
    """One arm as it stands in the world."""

    links: FloatArray  # (5, 3) m: foot, shoulder, elbow, wrist, palm
    fingers: FloatArray  # (2, 2, 3) m: two fingers, each from the palm to its tip
    colour: Colour


def render(
    camera: Camera,
    size: tuple[int, int],
    blocks: Sequence[Block],
    arms: Sequence[ArmShape],
    *,
    mounted_on: int | None = None,
) -> Image:
    """What the camera sees. size: (H, W) pixels. returns: (H, W, 3) uint8 RGB.

    `mounted_on` is the number of the arm that carries the camera: only that arm's fingers are in view.
    """
    canvas = _Canvas(camera, size)
    others = [arm for number, arm in enumerate(arms) if number != mounted_on]
    _draw_table(canvas)
    for arm in others:
        _draw_shadow(canvas, arm)
    _draw_blocks(canvas, sorted(blocks, key=lambda b: -math.dist((b.x, b.y, 0.0), camera.position)))
    for arm in sorted(others, key=lambda a: -math.dist(a.links[-1], camera.position)):
        _draw_links(canvas, arm)
        _draw_hand(canvas, arm)
    if mounted_on is not None:
        _draw_hand(canvas, arms[mounted_on])
    return canvas.finished()


class _Canvas:
    """Pixels that take shapes given in the world."""

    def __init__(self, camera: Camera, size: tuple[int, int]) -> None:
        self.camera = camera
        self.size = size
        height, width = (OVERSAMPLE * side for side in size)
        self.scale = camera.focal * width  # pixels for right / forward = 1
        self.middle = (width / 2 - 0.5, height / 2 - 0.5)
        self.pixels: Image = np.empty((height, width, 3), np.uint8)

    def fill(self, colour: Colour) -> None:
        cv2.rectangle(self.pixels, (0, 0), self.pixels.shape[1::-1], colour, cv2.FILLED)

    def project(self, points: FloatArray) -> tuple[Fixed, npt.NDArray[np.bool_]]:
        """points: (..., 3) m. returns: (..., 2) fixed-point pixels, and (...) which are in front of the camera."""
        seen = self.camera.see(points)
        depth = np.maximum(seen[..., 2:], NEAR)
        flat = np.clip(seen[..., :2] / depth * self.scale + self.middle, -FAR_OUT, FAR_OUT)
        return np.rint(flat * FIXED).astype(np.int32), seen[..., 2] > NEAR

    def polygon(self, corners: Fixed, colour: Colour) -> None:
        """A convex polygon. corners: (N, 2) from `project`."""
        cv2.fillConvexPoly(self.pixels, corners, colour, cv2.LINE_AA, SUBPIXEL)

    def chain(self, points: FloatArray, radii: Sequence[float], colour: Colour) -> None:
        """Round-ended, tapered rods from point to point, as far as they are in front. points: (N, 3) m; radii: N, m."""
        seen = self.camera.see(points).tolist()
        for n in range(len(seen) - 1):
            ends = _in_front(seen[n], seen[n + 1])
            if ends is not None:
                self._rod(self._disc(ends[0], radii[n]), self._disc(ends[1], radii[n + 1]), colour)

    def balls(self, points: FloatArray, radii: Sequence[float], colour: Colour) -> None:
        """Balls, without those behind the camera. points: (N, 3) m; radii: N, m."""
        for seen, radius in zip(self.camera.see(points).tolist(), radii, strict=True):
            if seen[2] > NEAR:
                self._circle(self._disc(seen, radius), colour)

    def finished(self) -> Image:
        """The picture averaged down to the size asked for."""
        return np.asarray(cv2.resize(self.pixels, self.size[::-1], interpolation=cv2.INTER_AREA), np.uint8)

    def _disc(self, seen: Sequence[float], radius: float) -> Disc:
        """How a ball that the camera sees at `seen` (right, down, forward) looks: x, y and radius in pixels."""
        zoom = self.scale / seen[2]
        x, y = seen[0] * zoom + self.middle[0], seen[1] * zoom + self.middle[1]
        x, y = min(max(x, -FAR_OUT), FAR_OUT), min(max(y, -FAR_OUT), FAR_OUT)
        return x, y, min(max(radius * zoom, 0.5), FAR_OUT)

    def _rod(self, a: Disc, b: Disc, colour: Colour) -> None:
        """Two discs and what lies between them, if any of it can be in the picture."""
        (x0, y0, r0), (x1, y1, r1) = a, b
        height, width = self.pixels.shape[:2]
        if max(x0 + r0, x1 + r1) < 0 or min(x0 - r0, x1 - r1) > width:
            return
        if max(y0 + r0, y1 + r1) < 0 or min(y0 - r0, y1 - r1) > height:
            return
        self._circle(a, colour)
        self._circle(b, colour)
        length = math.hypot(x1 - x0, y1 - y0)
        if length > 0.1:
            across, down = (y0 - y1) / length, (x1 - x0) / length
            left = [(x0 + r0 * across, y0 + r0 * down), (x1 + r1 * across, y1 + r1 * down)]
            right = [(x1 - r1 * across, y1 - r1 * down), (x0 - r0 * across, y0 - r0 * down)]
            self.polygon(np.array([(round(x * FIXED), round(y * FIXED)) for x, y in left + right], np.int32), colour)

    def _circle(self, disc: Disc, colour: Colour) -> None:
        x, y, radius = (round(value * FIXED) for value in disc)
        cv2.circle(self.pixels, (x, y), radius, colour, cv2.FILLED, cv2.LINE_AA, SUBPIXEL)


def _in_front(start: list[float], end: list[float]) -> tuple[list[float], list[float]] | None:
    """The part of a segment, seen by the camera, that lies in front of it, or None."""
    if start[2] > NEAR and end[2] > NEAR:
        return start, end
    if start[2] <= NEAR and end[2] <= NEAR:
        return None
    share = (NEAR - start[2]) / (end[2] - start[2])
    cut = [a + share * (b - a) for a, b in zip(start, end, strict=True)]
    return (start, cut) if start[2] > NEAR else (cut, end)


@functools.cache
def _dimmed(colour: Colour, light: float) -> Colour:
    red, green, blue = (min(round(channel * light), 255) for channel in colour)
    return red, green, blue


def _draw_table(canvas: _Canvas) -> None:
    """The floor, the table top, and the mat below the blocks: what a wrist camera away from the blocks can go by."""
    corners, in_front = canvas.project(np.vstack([TABLE_CORNERS, MAT_CORNERS]))
    if in_front[:4].all():
        canvas.fill(FLOOR)
        canvas.polygon(corners[:4], TABLE)
    else:  # a camera so tilted sees little but the table
        canvas.fill(TABLE)
    if in_front[4:].all():
        canvas.polygon(corners[4:], MAT)


def _draw_shadow(canvas: _Canvas, arm: ArmShape) -> None:
    """The arm's shade straight below it: it shows over which spot of the table the fingers are."""
    ground = np.stack([*arm.links[1:], arm.fingers[:, 1].mean(axis=0)]) * (1.0, 1.0, 0.0)
    canvas.chain(ground, [LINK_RADII[-1]] * len(ground), _dimmed(TABLE, ARM_SHADE))


def _draw_blocks(canvas: _Canvas, blocks: Sequence[Block]) -> None:
    """All shades beside the blocks, then the faces that point to the camera; the sides before the top."""
    shapes = [np.vstack([SHADOW, CUBE]) * block.edge + (block.x, block.y, 0.0) for block in blocks]
    corners, in_front = canvas.project(np.array(shapes).reshape(-1, len(SHADOW) + len(CUBE), 3))
    shown = [n for n in range(len(blocks)) if in_front[n].all()]
    for n in shown:
        canvas.polygon(corners[n, : len(SHADOW)], _dimmed(TABLE, BLOCK_SHADE))
    for n in shown:
        for face in _faces_towards(canvas.camera, blocks[n]):
            colour = _dimmed(blocks[n].colour, FACE_LIGHT[face])
            canvas.polygon(corners[n, len(SHADOW) :].take(FACES[face], axis=0), colour)


def _faces_towards(camera: Camera, block: Block) -> list[str]:
    """Which FACES of a block the camera can see."""
    x, y, z = camera.position.tolist()
    half = block.edge / 2
    out = {"-x": block.x - half - x, "+x": x - block.x - half, "-y": block.y - half - y, "+y": y - block.y - half}
    return [face for face, distance in {**out, "+z": z - block.edge}.items() if distance > 0]


def _draw_links(canvas: _Canvas, arm: ArmShape) -> None:
    """The rods of an arm from its foot to its palm, and a lighter spot on each joint."""
    canvas.chain(arm.links, LINK_RADII, arm.colour)
    canvas.balls(arm.links[1:4], [0.55 * radius for radius in LINK_RADII[1:4]], _dimmed(arm.colour, 1.45))


def _draw_hand(canvas: _Canvas, arm: ArmShape) -> None:
    """Two fingers and the bar that holds them."""
    canvas.chain(arm.fingers[:, 0], (FINGER_RADII[0], FINGER_RADII[0]), _dimmed(arm.colour, 0.75))
    for finger in arm.fingers:
        canvas.chain(finger, FINGER_RADII, _dimmed(arm.colour, 0.6))
