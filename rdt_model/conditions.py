"""What a network has worked out about a batch of observations, kept for all denoising steps and noise draws.

In: tensors that `RDT.encode_conditions` or a `ConditionCache` made. Out: the same elsewhere (`to`), or for several
draws (`repeat`), or of several robots as one batch (`joined`). Knows nothing of networks or diffusion.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from rdt_model.transformer import LANGUAGE


@dataclass(frozen=True, slots=True)
class Conditions:
    """B observations, each standing for k = `draws` rows of the batch.

    keys_values: per block the keys and values of its condition, two tensors (B, heads, L, W / heads).
    lang_mask: (B, 1, 1, L) bool, True where a language token is real; None means all.
    state: (B, 1, W), the state token. rate: (B, 1, W), the control rate's token.
    action_mask: (B, 1, A), 1 for a real slot, else 0.

    Row r of the k B rows belongs to observation r mod B, as `Tensor.repeat(k, …)` lays rows out.
    """

    keys_values: tuple[tuple[Tensor, Tensor], ...]
    lang_mask: Tensor | None
    state: Tensor
    rate: Tensor
    action_mask: Tensor
    draws: int = 1

    def __len__(self) -> int:
        """Rows of the batch, k B."""
        return self.draws * self.state.shape[0]

    def repeat(self, draws: int) -> "Conditions":
        """The same observations, the whole batch `draws` times over. Nothing is copied."""
        return replace(self, draws=self.draws * draws)

    @classmethod
    def joined(cls, several: "Sequence[Conditions]") -> "Conditions":
        """The observations of several Conditions as the rows of one, in their order; each of one draw.

        Shorter conditions (instructions) are padded, and the padding is masked: no row depends on its neighbours.
        """
        if len(several) == 1:
            return several[0]
        pairs = zip(*(cond.keys_values for cond in several), strict=True)
        return cls(
            tuple((_stacked([k for k, _ in rows], 2), _stacked([v for _, v in rows], 2)) for rows in pairs),
            _joined_masks(several),
            torch.cat([cond.state for cond in several]),
            torch.cat([cond.rate for cond in several]),
            torch.cat([cond.action_mask for cond in several]),
        )

    def to(self, *target: torch.device | str | torch.dtype) -> "Conditions":
        """The same on a device, or with its numbers of a dtype, or both."""
        dtypes = [item for item in target if isinstance(item, torch.dtype)]
        devices = [item for item in target if not isinstance(item, torch.dtype)]

        def move(tensor: Tensor) -> Tensor:
            dtype = dtypes[0] if dtypes and tensor.is_floating_point() else tensor.dtype
            return tensor.to(devices[0] if devices else tensor.device, dtype)

        return Conditions(
            tuple((move(keys), move(values)) for keys, values in self.keys_values),
            None if self.lang_mask is None else move(self.lang_mask),
            move(self.state),
            move(self.rate),
            move(self.action_mask),
            self.draws,
        )

    def rows(self, tensor: Tensor) -> Tensor:
        """(B, …) -> (k B, …), as the rows of the batch lie."""
        return tensor.repeat(self.draws, *[1] * (tensor.dim() - 1)) if self.draws > 1 else tensor

    def tensors(self) -> Iterator[Tensor]:
        """Every tensor in it."""
        yield from (tensor for pair in self.keys_values for tensor in pair)
        yield from (t for t in (self.lang_mask, self.state, self.rate, self.action_mask) if t is not None)

    @property
    def nbytes(self) -> int:
        """Bytes of memory of its tensors."""
        return sum(tensor.nbytes for tensor in self.tensors())


def _stacked(tensors: Sequence[Tensor], axis: int) -> Tensor:
    """Rows of all, one after the other, each filled up with zeros (False) along `axis` to the longest."""
    longest = max(tensor.shape[axis] for tensor in tensors)
    if all(tensor.shape[axis] == longest for tensor in tensors):
        return torch.cat(list(tensors))
    filled = []
    for tensor in tensors:
        shape = (*tensor.shape[:axis], longest - tensor.shape[axis], *tensor.shape[axis + 1 :])
        filled.append(torch.cat([tensor, tensor.new_zeros(shape)], dim=axis))
    return torch.cat(filled)


def _joined_masks(several: "Sequence[Conditions]") -> Tensor | None:
    lengths = {cond.keys_values[LANGUAGE][0].shape[2] for cond in several}
    if len(lengths) == 1 and all(cond.lang_mask is None for cond in several):
        return None
    return _stacked([_mask(cond) for cond in several], 3)


def _mask(cond: Conditions) -> Tensor:
    """(B, 1, 1, L), all True where the conditions have no mask."""
    if cond.lang_mask is not None:
        return cond.lang_mask
    keys = cond.keys_values[LANGUAGE][0]  # (B, heads, L, W / heads)
    return torch.ones(keys.shape[0], 1, 1, keys.shape[2], dtype=torch.bool, device=keys.device)
