"""Weights made to fit a network: which do not, and what of them can be resized.

In: weights, the configuration they were made for, and the one wanted. Out: weights that fit, and a line for each
change. Only positional embeddings can change their length; what stays is what keeps its meaning: the actions nearest in
time, the newest frames, the first cameras. Knows nothing of files.
"""

from collections.abc import Callable, Mapping
from typing import Final

import torch
from torch import Tensor
from torch.nn.functional import interpolate

from rdt_data.errors import RdtError
from rdt_model.config import ModelConfig
from rdt_model.transformer import initial_positions

RESIZABLE: Final = {
    "model.x_pos_embed": "the horizon",
    "model.lang_cond_pos_embed": "the longest instruction",
    "model.img_cond_pos_embed": "the image tokens",
}
"""Weight -> what its length stands for."""

_IMAGES = "model.img_cond_pos_embed"
_LISTED = 60  # lines of an error


def refuse_misfits(weights: Mapping[str, Tensor], shapes: Mapping[str, torch.Size], source: str) -> None:
    """Raise RdtError that lists every weight that is missing, not expected, or of another shape."""
    lines = [f"missing: {name} {tuple(shapes[name])}" for name in shapes if name not in weights]
    lines += [f"unexpected: {name} {tuple(weights[name].shape)}" for name in weights if name not in shapes]
    wrong = [name for name in shapes if name in weights and weights[name].shape != shapes[name]]
    lines += [f"shape: {name} is {tuple(weights[name].shape)}, needed {tuple(shapes[name])}" for name in wrong]
    if not lines:
        return
    shown = lines[:_LISTED] + ([f"and {len(lines) - _LISTED} more"] if len(lines) > _LISTED else [])
    fits = len(wrong) == len(lines) and set(wrong) <= set(RESIZABLE)
    raise RdtError(
        f"{source}: {len(lines)} weights do not fit the network:\n    " + "\n    ".join(shown),
        remedy="load it with adapt=True (--adapt), which resizes these"
        if fits
        else "give the config.json these weights were saved with",
    )


def resize(
    weights: dict[str, Tensor], old: ModelConfig, new: ModelConfig, tell: Callable[[str], None]
) -> dict[str, Tensor]:
    """The weights with positional embeddings of the lengths that `new` wants; `tell` hears of each change.

    A longer embedding goes on with the initial sine-cosine positions. Other misfits stay as they are.
    """
    fresh = {f"model.{name}": torch.from_numpy(table) for name, table in initial_positions(new).items()}
    for name in RESIZABLE.keys() & weights.keys():
        table, wanted = weights[name], fresh[name].to(weights[name].dtype)
        same_place = name != _IMAGES or old.image_grid == new.image_grid or None in (old.image_grid, new.image_grid)
        if table.shape[0::2] != wanted.shape[0::2] or (table.shape == wanted.shape and same_place):
            continue
        if name == _IMAGES and old.image_grid and new.image_grid:
            weights[name], how = _resize_images(table, wanted, old.image_grid, new.image_grid)
        else:
            weights[name], how = _resize_row(table, wanted)
        tell(f"{name}, {RESIZABLE[name]}: {table.shape[1]} -> {wanted.shape[1]}, {how}")
    return weights


def _resize_row(table: Tensor, wanted: Tensor) -> tuple[Tensor, str]:
    """(1, n, W) -> (1, m, W): the first stay."""
    kept = min(table.shape[1], wanted.shape[1])
    how = f"the first {kept} kept"
    if wanted.shape[1] > kept:
        how += f", {wanted.shape[1] - kept} new ones initialised"
    return torch.cat([table[:, :kept], wanted[:, kept:]], dim=1), how


def _resize_images(
    table: Tensor, wanted: Tensor, old: tuple[int, int, int], new: tuple[int, int, int]
) -> tuple[Tensor, str]:
    """Both (1, frames x cameras x patches, W), on their grids (frames, cameras, patches)."""
    cells, result = table.view(*old, -1), wanted.view(*new, -1).clone()  # (frames, cameras, patches, W)
    if old[2] != new[2]:
        cells = _resample_patches(cells, new[2])
    frames, cameras = min(old[0], new[0]), min(old[1], new[1])
    result[new[0] - frames :, :cameras] = cells[old[0] - frames :, :cameras]
    how = f"(frames, cameras, patches) {old} -> {new}: the newest {frames} frames of the first {cameras} cameras kept"
    if old[2] != new[2]:
        how += ", patches interpolated"
    if new[0] > frames or new[1] > cameras:
        how += ", the others initialised"
    return result.flatten(0, 2)[None], how


def _resample_patches(cells: Tensor, patches: int) -> Tensor:
    """(frames, cameras, P, W) -> (frames, cameras, patches, W): over the square they form, else along the row."""
    frames, cameras, count, width = cells.shape
    images = cells.flatten(0, 1).transpose(1, 2).float()  # (frames x cameras, W, P)
    side, wanted = int(count**0.5), int(patches**0.5)
    if side**2 == count and wanted**2 == patches:
        square = images.view(-1, width, side, side)
        images = interpolate(square, size=(wanted, wanted), mode="bicubic", align_corners=False).flatten(2)
    else:
        images = interpolate(images, size=patches, mode="linear", align_corners=False)
    return images.transpose(1, 2).reshape(frames, cameras, patches, width).to(cells.dtype)
