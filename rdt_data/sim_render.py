"""Draw the built-in two-arm world from any camera, many pictures at a time.

In: cameras, an image size, the blocks and the arms as points in the world. Out: RGB images. It knows
points and colours, nothing of joints, tasks or time; the same input gives the same pixels. Places and sizes are
metres of the world frame (x right, y away from the exterior camera, z up; the table top is z = 0), so every
image size shows the same view: the field of view is fixed across the width.

Shapes are painted from far to near without a depth buffer, which is right for a few blocks under thin arms.
"""

import functools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from rdt_data.sim_canvas import Camera, Canvas, Colour, Fixed, Flags, FloatArray, Image, Rods, Views

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


def render(
    cameras: Sequence[Camera],
    size: tuple[int, int],
    blocks: Sequence[Sequence[Block]],
    arms: Sequence[Sequence[ArmShape]],
    *,
    mounted_on: int | None = None,
) -> list[Image]:
    """What B cameras of one focal length see, each of its own world. size: (H, W). returns: B times (H, W, 3) RGB.

    blocks, arms: those of each world, as many in each. `mounted_on` is the number of the arm that carries the camera:
    only that arm's fingers are in view.
    """
    views = Views(cameras, size)
    rods = views.rods(_points(arms), ROD_ENDS, ROD_RADII)
    cubes = _see_blocks(views, [_farthest_first(*each) for each in zip(blocks, cameras, strict=True)])
    # A camera that stands sees the same table in every picture.
    tables = _tables(views) if mounted_on is not None else (Canvas(_table(each, size).copy()) for each in cameras)
    images = []
    for canvas, cube, bars, shapes, camera in zip(tables, cubes, rods, arms, cameras, strict=True):
        _paint(canvas, cube, bars, shapes, camera, mounted_on)
        images.append(canvas.finished())  # at once: the next canvas takes the same memory
    return images


def _paint(
    canvas: Canvas,
    cubes: Sequence[tuple[Fixed, Colour]],
    rods: Rods,
    arms: Sequence[ArmShape],
    camera: Camera,
    mounted_on: int | None,
) -> None:
    """What stands on the table, from far to near."""
    others = [number for number in range(len(arms)) if number != mounted_on]
    for number in others:  # its shade straight below an arm shows over which spot of the table the fingers are
        canvas.paint_rods(rods, number, SHADOW_RODS, _dimmed(TABLE, ARM_SHADE))
    for corners, colour in cubes:
        canvas.polygon(corners, colour)
    for number in sorted(others, key=lambda n: -math.dist(arms[n].links[-1], camera.position)):
        colour = arms[number].colour
        canvas.paint_rods(rods, number, LINK_RODS, colour)
        canvas.paint_balls(rods, number, SPOTS, _dimmed(colour, 1.45))
        _draw_hand(canvas, rods, number, colour)
    if mounted_on is not None:
        _draw_hand(canvas, rods, mounted_on, arms[mounted_on].colour)


def _points(arms: Sequence[Sequence[ArmShape]]) -> FloatArray:
    """What ROD_ENDS counts, of M arms in B worlds: (B, M, 14, 3) m."""
    links = np.array([[arm.links for arm in world] for world in arms])
    fingers = np.array([[arm.fingers for arm in world] for world in arms])
    palms, tips = fingers[..., 0, :], fingers[..., 1, :]
    between = (tips[..., :1, :] + tips[..., 1:, :]) / 2
    points = np.concatenate([links[..., 1:, :], between, links, palms, tips], axis=-2)
    points[..., :5, 2] = 0.0
    return points


@functools.cache
def _dimmed(colour: Colour, light: float) -> Colour:
    red, green, blue = (min(round(channel * light), 255) for channel in colour)
    return red, green, blue


@functools.lru_cache(maxsize=8)
def _table(camera: Camera, size: tuple[int, int]) -> Image:
    """The pixels of an empty table; not to be written to."""
    return next(_tables(Views([camera], size))).pixels


def _tables(views: Views) -> Iterator[Canvas]:
    """The floor, the table top, and the mat below the blocks: what a wrist camera away from the blocks can go by."""
    corners, in_front = views.project(np.broadcast_to(GROUND, (len(views.positions), *GROUND.shape)))
    for places, near in zip(corners, in_front.tolist(), strict=True):
        canvas = Canvas.empty(views.size)
        if all(near[:4]) and not canvas.hidden_by(places[:4]):
            canvas.fill(FLOOR)
            canvas.polygon(places[:4], TABLE)
        else:  # what most wrist cameras see, and those so tilted that part of the table is behind them
            canvas.fill(TABLE)
        if all(near[4:]):
            canvas.polygon(places[4:], MAT)
        yield canvas


def _farthest_first(blocks: Sequence[Block], camera: Camera) -> list[Block]:
    return sorted(blocks, key=lambda block: -math.dist((block.x, block.y, 0.0), camera.position))


def _see_blocks(views: Views, blocks: Sequence[Sequence[Block]]) -> Iterator[list[tuple[Fixed, Colour]]]:
    """What to paint of the blocks in each picture: the shades beside them, then the faces that point to the camera."""
    known = np.array([[(block.x, block.y, 0.0, block.edge) for block in world] for world in blocks])  # (B, N, 4)
    places, edges = known[..., np.newaxis, :3], known[..., np.newaxis, 3:]
    corners, in_front = views.project(BLOCK_POINTS * edges + places)  # (B, N, 12, 2), (B, N, 12)
    faces, towards = corners.take(FACE_POINTS, axis=2), _towards(views.positions, known).tolist()
    for b, (world, whole) in enumerate(zip(blocks, np.logical_and.reduce(in_front, axis=-1).tolist(), strict=True)):
        shown = [n for n in range(len(world)) if whole[n]]
        shades = [(corners[b, n, : len(SHADOW)], _dimmed(TABLE, BLOCK_SHADE)) for n in shown]
        yield shades + [
            (faces[b, n, face], _dimmed(world[n].colour, light))
            for n in shown
            for face, light in enumerate(FACE_LIGHT)
            if towards[b][n][face]
        ]


def _towards(eyes: FloatArray, blocks: FloatArray) -> Flags:
    """Which FACES of blocks can be seen. eyes: (B, 3) m; blocks: (B, N, 4) m, x, y, 0, edge. returns: (B, N, 5)."""
    x, y, z = np.moveaxis(eyes[:, np.newaxis], -1, 0)  # (B, 1)
    at_x, at_y, _, edge = np.moveaxis(blocks, -1, 0)  # (B, N)
    half = edge / 2
    out = [at_x - half - x, x - at_x - half, at_y - half - y, y - at_y - half, z - edge]
    return np.stack(out, axis=-1) > 0


def _draw_hand(canvas: Canvas, rods: Rods, number: int, colour: Colour) -> None:
    """Two fingers and the bar that holds them."""
    canvas.paint_rods(rods, number, PALM_ROD, _dimmed(colour, 0.75))
    canvas.paint_rods(rods, number, FINGER_RODS, _dimmed(colour, 0.6))
