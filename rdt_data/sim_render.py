"""Draw the built-in two-arm world from any camera.

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

import numpy as np

from rdt_data.sim_canvas import Camera, Canvas, Colour, FloatArray, Image, Rods

TABLE: Final[Colour] = (226, 222, 213)
FLOOR: Final[Colour] = (150, 152, 156)
TABLE_CORNERS: Final = np.array([[-0.62, -0.35, 0.0], [0.62, -0.35, 0.0], [0.62, 0.45, 0.0], [-0.62, 0.45, 0.0]])
MAT: Final[Colour] = (217, 214, 207)
MAT_CORNERS: Final = np.array([[-0.25, -0.17, 0.0], [0.25, -0.17, 0.0], [0.25, 0.17, 0.0], [-0.25, 0.17, 0.0]])
GROUND: Final = np.vstack([TABLE_CORNERS, MAT_CORNERS])
CUBE: Final = np.array([[x, y, z] for x in (-0.5, 0.5) for y in (-0.5, 0.5) for z in (0.0, 1.0)])  # (8, 3) corners
FACES: Final = {"-x": (0, 1, 3, 2), "+x": (4, 5, 7, 6), "-y": (0, 1, 5, 4), "+y": (2, 3, 7, 6), "+z": (1, 3, 7, 5)}
FACE_LIGHT: Final = (0.66, 0.66, 0.80, 0.80, 1.0)  # brightness of a block's FACES
SHADOW: Final = np.array([[-0.3, -0.4, 0.0], [0.7, -0.4, 0.0], [0.7, 0.65, 0.0], [-0.3, 0.65, 0.0]])  # in edges
BLOCK_POINTS: Final = np.vstack([SHADOW, CUBE])  # (12, 3)
FACE_POINTS: Final = len(SHADOW) + np.array(list(FACES.values()))  # (5, 4) rows of BLOCK_POINTS
BLOCK_SHADE: Final = 0.86  # brightness of the table beside a block
ARM_SHADE: Final = 0.92  # brightness of the table below an arm
LINK_RADII: Final = (0.030, 0.022, 0.017, 0.012, 0.010)  # m, at each point of ArmShape.links
FINGER_RADII: Final = (0.0045, 0.0035)  # m, at the palm and at the tip
SPOT: Final = 0.55  # radius of the spot on a joint, of the joint's

# An arm is 14 points: 0-4 on the ground below shoulder, elbow, wrist, palm and tips; 5-9 its links; 10-11 the fingers
# at the palm, 12-13 their tips. Between them lie 14 rods, the last three of no length.
ROD_ENDS: Final = np.array(
    [
        (0, 1),
        (1, 2),
        (2, 3),
        (3, 4),
        (5, 6),
        (6, 7),
        (7, 8),
        (8, 9),
        (10, 11),
        (10, 12),
        (11, 13),
        (6, 6),
        (7, 7),
        (8, 8),
    ]
)
SHADOW_RODS: Final = range(4)
LINK_RODS: Final = range(4, 8)
PALM_ROD: Final = range(8, 9)
FINGER_RODS: Final = range(9, 11)
SPOTS: Final = range(11, 14)
POINT_RADII: Final = np.array([LINK_RADII[-1]] * 5 + [*LINK_RADII] + [FINGER_RADII[0]] * 2 + [FINGER_RADII[1]] * 2)
ROD_RADII: Final = POINT_RADII[ROD_ENDS] * np.array([[1.0]] * SPOTS.start + [[SPOT]] * len(SPOTS))  # (14, 2) m


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

    def points(self) -> FloatArray:
        """What ROD_ENDS counts, (14, 3) m."""
        palms, tips = self.fingers[:, 0], self.fingers[:, 1]
        points = np.concatenate([self.links[1:], [(tips[0] + tips[1]) / 2], self.links, palms, tips])
        points[:5, 2] = 0.0
        return points


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
    if mounted_on is None:  # a camera that stands sees the same table in every picture
        canvas = Canvas(camera, size, _table(camera, size).copy())
    else:
        canvas = Canvas(camera, size)
        _draw_table(canvas)
    rods = canvas.see_rods(np.array([arm.points() for arm in arms]), ROD_ENDS, ROD_RADII)
    others = [number for number in range(len(arms)) if number != mounted_on]
    for number in others:  # its shade straight below an arm shows over which spot of the table the fingers are
        canvas.paint_rods(rods, number, SHADOW_RODS, _dimmed(TABLE, ARM_SHADE))
    _draw_blocks(canvas, sorted(blocks, key=lambda b: -math.dist((b.x, b.y, 0.0), camera.position)))
    for number in sorted(others, key=lambda n: -math.dist(arms[n].links[-1], camera.position)):
        colour = arms[number].colour
        canvas.paint_rods(rods, number, LINK_RODS, colour)
        canvas.paint_balls(rods, number, SPOTS, _dimmed(colour, 1.45))
        _draw_hand(canvas, rods, number, colour)
    if mounted_on is not None:
        _draw_hand(canvas, rods, mounted_on, arms[mounted_on].colour)
    return canvas.finished()


@functools.cache
def _dimmed(colour: Colour, light: float) -> Colour:
    red, green, blue = (min(round(channel * light), 255) for channel in colour)
    return red, green, blue


@functools.lru_cache(maxsize=8)
def _table(camera: Camera, size: tuple[int, int]) -> Image:
    """The pixels of `_draw_table`; not to be written to."""
    canvas = Canvas(camera, size)
    _draw_table(canvas)
    return canvas.pixels


def _draw_table(canvas: Canvas) -> None:
    """The floor, the table top, and the mat below the blocks: what a wrist camera away from the blocks can go by."""
    corners, in_front = canvas.project(GROUND)
    if in_front[:4].all() and not canvas.hidden_by(corners[:4]):
        canvas.fill(FLOOR)
        canvas.polygon(corners[:4], TABLE)
    else:  # what most wrist cameras see, and those so tilted that part of the table is behind them
        canvas.fill(TABLE)
    if in_front[4:].all():
        canvas.polygon(corners[4:], MAT)


def _draw_blocks(canvas: Canvas, blocks: Sequence[Block]) -> None:
    """All shades beside the blocks, then the faces that point to the camera; the sides before the top."""
    places = np.array([(block.x, block.y, 0.0) for block in blocks]).reshape(-1, 1, 3)
    edges = np.array([block.edge for block in blocks]).reshape(-1, 1, 1)
    corners, in_front = canvas.project(BLOCK_POINTS * edges + places)  # (N, 12, 2), (N, 12)
    shown = np.flatnonzero(in_front.all(axis=1)).tolist()
    faces = corners.take(FACE_POINTS, axis=1)  # (N, 5, 4, 2)
    for n in shown:
        canvas.polygon(corners[n, : len(SHADOW)], _dimmed(TABLE, BLOCK_SHADE))
    for n in shown:
        for face in _faces_towards(canvas.camera, blocks[n]):
            canvas.polygon(faces[n, face], _dimmed(blocks[n].colour, FACE_LIGHT[face]))


def _faces_towards(camera: Camera, block: Block) -> list[int]:
    """Which of FACES the camera can see of a block."""
    x, y, z = camera.position.tolist()
    half = block.edge / 2
    out = block.x - half - x, x - block.x - half, block.y - half - y, y - block.y - half, z - block.edge
    return [face for face, distance in enumerate(out) if distance > 0]


def _draw_hand(canvas: Canvas, rods: Rods, number: int, colour: Colour) -> None:
    """Two fingers and the bar that holds them."""
    canvas.paint_rods(rods, number, PALM_ROD, _dimmed(colour, 0.75))
    canvas.paint_rods(rods, number, FINGER_RODS, _dimmed(colour, 0.6))
