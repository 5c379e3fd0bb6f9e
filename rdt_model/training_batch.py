"""A batch of the feed -> what a training step computes with: normalised, masked, noisy, on the device.

In: a `Batch`, and what is known of its stores. Out: tensors. All that is random about a row is a function of (seed, its
sample number), see `draws`: so a row is the same in any batch, on any rank, after any resume.

As published (RoboticsDiffusionTransformer, `train/dataset.py`): a masked state is the dataset's mean, a masked
instruction the empty one, a masked rate 0, a masked image the background colour; noise on the state is relative to the
dataset's standard deviation.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from rdt_data.batch import Batch, Tokens
from rdt_data.errors import RdtError
from rdt_data.layout import DIM
from rdt_model.draws import Purpose, generator
from rdt_model.run_config import NoisePart, RunConfig
from rdt_model.run_data import FloatArray, StoreFacts

CLEAN: Final = NoisePart(condition_mask=0, exterior_mask=0, state_snr_db=None, images=0)
"""Nothing is masked, noisy or augmented: how validation sees samples."""


@dataclass(frozen=True, slots=True)
class TrainingBatch:
    """B rows, H steps, k draws. What the network is given, its targets and its noise; all but image_mask on the device.

    images: (B, history, cameras, S, S, 3) uint8; image_mask: (B, history, cameras) bool, on the CPU. lang_tokens:
    (U, L, D), lang_mask: (U, L), of each different instruction; lang_rows: (B,) which of them is a row's. state,
    action_mask: (B, 1, 128). ctrl_hz: (B,). action: (B, H, 128); valid: (B, H). noise: (k, B, H, 128); timesteps:
    (k, B). numbers: how many numbers the loss is a mean of.
    """

    images: Tensor
    image_mask: Tensor
    lang_tokens: Tensor
    lang_mask: Tensor
    lang_rows: Tensor
    state: Tensor
    action_mask: Tensor
    ctrl_hz: Tensor
    action: Tensor
    valid: Tensor
    noise: Tensor
    timesteps: Tensor
    numbers: int

    def __len__(self) -> int:
        return len(self.state)


class BatchMaker:
    """See the module. facts: of each store, by the names that batches carry. cameras: slots of the images, in order."""

    def __init__(
        self,
        config: RunConfig,
        facts: Mapping[str, StoreFacts],
        cameras: tuple[str, ...],
        timesteps: int,
        device: torch.device,
    ) -> None:
        self.config, self.facts, self.cameras, self.device = config, facts, cameras, device
        self.train_timesteps = timesteps
        self._scales = {name: _Scale(store, config.normalises) for name, store in facts.items()}

    def __call__(self, batch: Batch, noise: NoisePart | None = None) -> TrainingBatch:
        """noise: in place of the run's own. Raises RdtError for a batch without embeddings."""
        chosen = self.config.noise if noise is None else noise
        masked = [self._masked(int(sample), chosen) for sample in batch.sample]
        state, action = self._vectors(batch, chosen, [one.state for one in masked])
        tokens, lang_mask, lang_rows = self._language(batch, [one.language for one in masked])
        image_mask = torch.from_numpy(batch.image_mask & ~np.stack([one.images for one in masked]))
        images = self._to(batch.images.copy())
        if chosen.images:
            from rdt_model.image_augment import augment_images  # kornia takes a while to import

            images = augment_images(images, image_mask, batch.sample, self.config.seed, share=chosen.images)
        action_mask = _common(batch)
        noises, timesteps = self._diffusion(batch, chosen)
        count = int((action_mask * batch.valid[:, :, None]).sum()) if self.config.loss == "masked" else action.size
        return TrainingBatch(
            images=images,
            image_mask=image_mask,
            lang_tokens=self._to(tokens),
            lang_mask=self._to(lang_mask),
            lang_rows=self._to(lang_rows),
            state=self._to(state),
            action_mask=self._to(action_mask.astype(np.float32)),
            ctrl_hz=self._to(np.where([one.rate for one in masked], np.float32(0), batch.control_hz)),
            action=self._to(action),
            valid=self._to(batch.valid.copy()),
            noise=self._to(noises),
            timesteps=self._to(timesteps),
            numbers=count * self.config.draws,
        )

    def undo(self, batch: Batch, actions: FloatArray) -> FloatArray:
        """Actions (B, H, 128) as the network says them -> in the units of `layout`."""
        scales = [self._scales[str(name)] for name in batch.dataset]
        return np.stack([scale.undo(row) for scale, row in zip(scales, actions, strict=True)])

    def _masked(self, sample: int, noise: NoisePart) -> "_Masked":
        draw = generator(self.config.seed, sample, Purpose.CONDITIONS).random
        words, frames = draw(3), draw((self.config.model.history, len(self.cameras)))
        limit = [noise.exterior_mask if camera == "exterior" else noise.condition_mask for camera in self.cameras]
        state, language, rate = (bool(word < noise.condition_mask) for word in words)
        return _Masked(state, language, rate, frames < np.array(limit))

    def _vectors(self, batch: Batch, noise: NoisePart, masked: list[bool]) -> tuple[FloatArray, FloatArray]:
        """State (B, 1, 128) and action (B, H, 128) as the network sees them."""
        state, action = batch.state.copy(), batch.action.copy()
        for row, sample in enumerate(batch.sample.tolist()):
            facts, scale = self.facts[str(batch.dataset[row])], self._scales[str(batch.dataset[row])]
            if masked[row]:
                state[row] = facts.state.mean
            elif noise.state_snr_db is not None:
                drawn = generator(self.config.seed, sample, Purpose.STATE_NOISE).standard_normal(DIM, np.float32)
                state[row] += drawn * facts.state.std * np.float32(10 ** (-noise.state_snr_db / 20))
            state[row], action[row] = scale.state(state[row]), scale.action(action[row])
        return np.where(batch.state_mask, state, np.float32(0)), np.where(batch.action_mask, action, np.float32(0))

    def _language(
        self, batch: Batch, masked: list[bool]
    ) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.bool_], npt.NDArray[np.int64]]:
        """Tokens (U, L, D) and mask (U, L) of the different instructions, and which is that of each row, (B,)."""
        if not isinstance(batch.language, Tokens):
            raise RdtError("the stores have no language embeddings", remedy="run `rdt-data embed-lang` on them")
        names = [
            (str(name), "" if gone else text)
            for name, text, gone in zip(batch.dataset, batch.instruction, masked, strict=True)
        ]
        different = list(dict.fromkeys(names))
        first = [names.index(name) for name in different]
        tokens, mask = batch.language.tokens[first].astype(np.float32), batch.language.mask[first]
        for number, row in enumerate(first):
            if masked[row]:
                empty = self.facts[str(batch.dataset[row])].empty
                assert empty is not None, "checked by one_language"
                tokens[number], mask[number] = 0, False
                tokens[number, : len(empty)], mask[number, : len(empty)] = empty[: tokens.shape[1]], True
        return tokens, mask, np.array([different.index(name) for name in names])

    def _diffusion(self, batch: Batch, noise: NoisePart) -> tuple[FloatArray, npt.NDArray[np.int64]]:
        """Noise (k, B, H, 128) and timesteps (k, B)."""
        draws, shape = self.config.draws, batch.action.shape[1:]
        noises = np.empty((draws, len(batch), *shape), np.float32)
        timesteps = np.empty((draws, len(batch)), np.int64)
        for row, sample in enumerate(batch.sample.tolist()):
            for number in range(draws):
                rng = generator(self.config.seed, sample, Purpose.DIFFUSION, number)
                timesteps[number, row] = int(rng.random() ** (1 / noise.high_noise) * self.train_timesteps)
                rng.standard_normal(out=noises[number, row], dtype=np.float32)
        return noises, timesteps

    def _to(self, array: npt.NDArray[Any]) -> Tensor:
        tensor = torch.from_numpy(array)
        if self.device.type == "cpu":
            return tensor
        return tensor.pin_memory().to(self.device, non_blocking=True)


@dataclass(frozen=True, slots=True)
class _Masked:
    """What of one row is masked. images: (history, cameras) bool."""

    state: bool
    language: bool
    rate: bool
    images: npt.NDArray[np.bool_]


class _Scale:
    """One store's units and the network's."""

    def __init__(self, facts: StoreFacts, normalised: bool) -> None:
        self._state = facts.state.normalisation() if normalised else None
        self._action = facts.actions.normalisation() if normalised else None

    def state(self, x: FloatArray) -> FloatArray:
        return x if self._state is None else self._state.apply(x)

    def action(self, x: FloatArray) -> FloatArray:
        return x if self._action is None else self._action.apply(x)

    def undo(self, z: FloatArray) -> FloatArray:
        return z if self._action is None else self._action.undo(z)


def _common(batch: Batch) -> npt.NDArray[np.bool_]:
    """(B, 1, 128), the slots that are real in all real steps of a chunk."""
    return np.asarray((batch.action_mask | ~batch.valid[:, :, None]).all(axis=1, keepdims=True))
