"""A policy: what a robot sees and feels, in the unified layout -> the chunk of actions it should do next.

In: one `Observation` per call: frames, instruction, state, which slots are real. Out: a `Chunk`, in physical units.
Between calls it keeps what does not change: the instruction's keys and values, those of absent cameras, and those of
each frame that was the newer one a call ago. Frames are known by their bytes, so a caller keeps no books.

The noise is a function of (seed, call number). Robots' own arrays belong to `converters.robot`, files to
`policy_files`.
"""

import hashlib
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from rdt_data import layout
from rdt_data.errors import RdtError, unknown
from rdt_model.condition_cache import ConditionCache
from rdt_model.encoders import LanguageEncoder, load_image_encoder, load_language_encoder
from rdt_model.images import ImageEncoder
from rdt_model.network import RDT
from rdt_model.policy_files import PolicyConfig, load_trained_encoder, read_policy
from rdt_model.pretrained import load_pretrained
from rdt_model.quantize import quantize as quantize_weights

FloatArray = npt.NDArray[np.float32]
BoolArray = npt.NDArray[np.bool_]
Pixels = npt.NDArray[np.uint8]

BACKGROUND = "background"
"""The key of a missing image; frames have (shape, digest)."""


@dataclass(frozen=True, slots=True)
class Observation:
    """One moment of one robot.

    state: (128,) float32 in the units of `layout`; state_mask: (128,) bool, its real slots. action_mask: the slots
    that actions fill; None: those of the state. instruction: text, or its stored embedding (L, D), (L,) tokens all
    real. images: camera slot -> up to `history` frames (H, W, 3) uint8 RGB, the newest last; cameras and older frames
    that are not given are missing ones, as in training. control_hz: None: the policy's.
    """

    state: FloatArray
    state_mask: BoolArray
    instruction: str | npt.NDArray[Any]
    images: Mapping[str, Sequence[Pixels]] = field(default_factory=dict)
    action_mask: BoolArray | None = None
    control_hz: float | None = None


@dataclass(frozen=True, slots=True)
class Chunk:
    """actions: (H, 128) float32, units of `layout`, 0 outside of mask; mask: (128,) bool, the slots that are meant."""

    actions: FloatArray
    mask: BoolArray


class Policy:
    """See the module. net and encoders are on one device; weights must not change while it is used.

    compile: let torch.compile make one graph of a denoising step (a CUDA graph on a GPU in bfloat16); the first calls
    are slow. Raises RdtError when the network's image tokens are not those of the encoder, cameras and history.
    """

    def __init__(
        self,
        net: RDT,
        images: ImageEncoder,
        config: PolicyConfig,
        language: LanguageEncoder | None = None,
        *,
        seed: int = 0,
        compile: bool = False,
    ) -> None:
        self.net, self.images, self.config, self.language = net.eval(), images.eval(), config, language
        self.seed, self.calls = seed, 0
        self._refuse_other_tokens()
        self.cache = ConditionCache(net, config.history * len(config.cameras))
        self._background: Tensor | None = None
        if compile:
            # A CUDA graph writes over its last output, which the solver keeps; in another dtype the solver has a copy.
            graphs = net.device.type == "cuda" and net.dtype != torch.float32
            net.model.compile(mode="reduce-overhead" if graphs else "default")

    @classmethod
    def load(
        cls,
        checkpoint: str | Path,
        *,
        config: PolicyConfig | None = None,
        language: str | None = None,
        device: str = "auto",
        dtype: torch.dtype | None = None,
        seed: int = 0,
        compile: bool = False,
        quantize: str | None = None,
    ) -> Self:
        """A policy from its directory, or from a published checkpoint with `config` for what that does not tell.

        language: hub id or directory of a T5, for instructions as text; None: observations bring embeddings.
        dtype: by default bfloat16 on a GPU, else float32. quantize: "int8" or "int4", see `quantize`. Raises RdtError,
        also without any config.
        """
        config = config or read_policy(checkpoint)
        if config is None:
            raise RdtError(f"{checkpoint} has no policy.json", remedy="give `config`: cameras, encoder, control rate")
        where = choose_device(device)
        dtype = dtype or (torch.bfloat16 if where.type == "cuda" else torch.float32)
        net = load_pretrained(checkpoint, dtype=dtype, device=where)
        if quantize is not None:
            quantize_weights(net, quantize)
        # The encoder's own softmax and the T5 decide what they compute in; see `encoders`.
        images = load_image_encoder(config.image_encoder, dtype=dtype, device=where, keypoints=config.keypoints)
        load_trained_encoder(checkpoint, images)
        words = None
        if language is not None:
            longest = net.config.max_lang_cond_len
            words = load_language_encoder(language, dtype=dtype, device=where, max_length=longest)
        return cls(net, images.requires_grad_(False), config, words, seed=seed, compile=compile)

    @torch.inference_mode()
    def __call__(self, observation: Observation, *, steps: int | None = None, index: int | None = None) -> Chunk:
        """What to do next. steps: denoising steps, by default the network's. index: the number of this call, from
        which with the seed the noise follows; by default it counts from 0.

        Raises RdtError for slots that the checkpoint never saw, cameras it has no place for, and frames or vectors of
        other shapes.
        """
        mask = self._mask(observation)
        keys, frames = self._slots(observation)
        language, tokens = self._words(observation.instruction)
        rate = self.config.control_hz if observation.control_hz is None else observation.control_hz
        cond = self.cache.conditions(
            keys,
            self._tokens(self.cache.missing(keys), frames),
            language=language,
            lang_tokens=tokens,
            state=self._tensor(self._state(observation)),
            action_mask=self._tensor(mask.astype(np.float32)),
            ctrl_hz=torch.tensor([float(rate)], device=self.net.device),
        )
        noise = self._noise(self.calls if index is None else index)
        self.calls += 1
        return self._chunk(self.net.sample(cond, steps, noise)[0], mask)

    def clear(self) -> None:
        """Forget what was kept of earlier calls, and count calls from 0. Only memory and noise depend on it."""
        self.cache.clear()
        self._background, self.calls = None, 0

    def _mask(self, seen: Observation) -> BoolArray:
        """The action mask, (128,); refuses vectors of other shapes and slots that training has not seen."""
        action = seen.state_mask if seen.action_mask is None else seen.action_mask
        known = {"state": self.config.state_mask, "action": self.config.action_mask}
        for name, mask in (("state", seen.state_mask), ("action", action)):
            if mask.shape != (layout.DIM,) or mask.dtype != np.bool_:
                raise RdtError(f"{name}_mask is {mask.dtype} {mask.shape}", remedy=f"give bool ({layout.DIM},)")
            trained = known[name]
            if trained is not None and (strange := mask & ~trained).any():
                raise RdtError(
                    f"the observation's {name} has {', '.join(layout.describe(strange))}, which this checkpoint has "
                    f"never seen: it was trained on {', '.join(layout.describe(trained))}",
                    remedy="mask these slots off, or use a checkpoint that was trained on this robot",
                )
        if seen.state.shape != (layout.DIM,) or not np.isfinite(seen.state[seen.state_mask]).all():
            raise RdtError(
                f"the state has shape {seen.state.shape} and {np.isnan(seen.state).sum()} NaN",
                remedy=f"give ({layout.DIM},) finite numbers, and mask off what is not known",
            )
        return action

    def _state(self, seen: Observation) -> FloatArray:
        """What the network is told of the state, (128,); 0 where nothing is known."""
        state = seen.state.astype(np.float32)
        if self.config.state_normalisation is not None:
            state = self.config.state_normalisation.apply(state)
        return np.where(seen.state_mask, state, np.float32(0))

    def _chunk(self, sampled: Tensor, mask: BoolArray) -> Chunk:
        """What the network made, (H, 128), in physical units."""
        actions: FloatArray = sampled.float().cpu().numpy()
        if self.config.action_normalisation is not None:
            actions = self.config.action_normalisation.undo(actions)
        return Chunk(np.where(mask, actions, np.float32(0)), mask)

    def _slots(self, seen: Observation) -> tuple[list[Hashable], dict[Hashable, Pixels]]:
        """A key per image slot, older frames first, then by camera; and the frames by key."""
        history, cameras = self.config.history, self.config.cameras
        keys: dict[tuple[int, str], Hashable] = {}
        frames: dict[Hashable, Pixels] = {}
        for camera, given in seen.images.items():
            if camera not in cameras:
                raise unknown("camera of this policy", camera, cameras)
            if len(given) > history:
                raise RdtError(f"{camera}: {len(given)} frames", remedy=f"give at most {history}, the newest last")
            for age, frame in enumerate(reversed(given)):
                key = _key(camera, frame)
                keys[history - 1 - age, camera], frames[key] = key, frame
        return [keys.get((time, camera), BACKGROUND) for time in range(history) for camera in cameras], frames

    def _tokens(self, missing: Sequence[Hashable], frames: Mapping[Hashable, Pixels]) -> dict[Hashable, Tensor]:
        """Tokens of the images that are new, (1, P, D) each; frames of one size are encoded together."""
        tokens: dict[Hashable, Tensor] = {}
        by_shape: dict[tuple[int, ...], list[Hashable]] = {}
        for key in missing:
            if key in frames:
                by_shape.setdefault(frames[key].shape, []).append(key)
        for keys in by_shape.values():
            found = self.images.encode_frames(torch.from_numpy(np.stack([frames[key] for key in keys])))
            tokens |= {key: found[row : row + 1] for row, key in enumerate(keys)}
        if BACKGROUND in missing:
            if self._background is None:
                self._background = self.images.background()[None]
            tokens[BACKGROUND] = self._background
        return tokens

    def _words(self, instruction: str | npt.NDArray[Any]) -> tuple[Hashable, Tensor | None]:
        """A key of the instruction, and its tokens (1, L, D) unless they are known."""
        key = instruction_key(instruction)
        return key, None if self.cache.knows_language(key) else self._encoded(instruction)

    def _encoded(self, instruction: str | npt.NDArray[Any]) -> Tensor:
        """Tokens of an instruction, (1, L, D)."""
        if not isinstance(instruction, str):
            return self._tensor(instruction.astype(np.float32))
        if self.language is None:
            raise RdtError(
                f"the instruction {instruction!r} is text, and this policy has no language encoder",
                remedy="load it with `language`, or give the embedding that `rdt-data embed-lang` stored",
            )
        tokens: Tensor = self.language([instruction])[0]
        return tokens

    def _noise(self, index: int) -> Tensor:
        """(1, H, 128), drawn on the CPU so that it is the same on every device."""
        seed = int(np.random.SeedSequence([self.seed, index]).generate_state(1, np.uint64)[0]) >> 1
        shape = (1, self.net.config.pred_horizon, self.net.config.action_dim)
        return torch.randn(shape, generator=torch.Generator().manual_seed(seed))

    def _tensor(self, array: npt.NDArray[Any]) -> Tensor:
        return torch.from_numpy(np.ascontiguousarray(array))[None].to(self.net.device)

    def _refuse_other_tokens(self) -> None:
        made = self.config.history * len(self.config.cameras) * self.images.tokens_per_image, self.images.token_dim
        taken = self.net.config.img_cond_len, self.net.config.img_token_dim
        if made != taken:
            raise RdtError(
                f"{self.config.history} frames of {len(self.config.cameras)} cameras through "
                f"{self.config.image_encoder} are {made[0]} tokens of width {made[1]}; "
                f"the network takes {taken[0]} of width {taken[1]}",
                remedy="give the image encoder, the cameras and the history that the network was trained with",
            )


def choose_device(name: str) -> torch.device:
    """ "auto": the GPU where there is one, else the CPU. Raises RdtError for what is not there."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError:
        raise unknown("device", name, ("auto", "cpu", "cuda", "cuda:1")) from None
    if device.type == "cuda" and not torch.cuda.is_available():
        raise RdtError(f"device {name}: torch finds no GPU here", remedy="use auto or cpu; `rdt env` lists devices")
    return device


def instruction_key(instruction: str | npt.NDArray[Any]) -> Hashable:
    """The same for the same words."""
    if isinstance(instruction, str):
        return "text", instruction
    return "embedding", instruction.shape, _digest(instruction)


def _key(camera: str, frame: Pixels) -> Hashable:
    if frame.dtype != np.uint8 or frame.ndim != 3 or frame.shape[2] != 3 or 0 in frame.shape:
        raise RdtError(f"{camera}: a frame is {frame.dtype} {frame.shape}", remedy="give (H, W, 3) uint8, RGB")
    return frame.shape, _digest(frame)


def _digest(array: npt.NDArray[Any]) -> bytes:
    return hashlib.blake2b(np.ascontiguousarray(array).tobytes(), digest_size=16).digest()
