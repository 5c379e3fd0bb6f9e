"""The shape of a network: `ModelConfig`, the table of sizes, and the config.json of published checkpoints.

In: numbers, a name of SIZES, or the content of a config.json. Out: a checked, frozen ModelConfig, which writes itself
back as the same JSON. The layout of the file is the published one: the constructor arguments of `RDTRunner`
(RoboticsDiffusionTransformer, `models/rdt_runner.py`); keys in it that do not shape the network are not read.

Knows nothing of torch, weights or files.
"""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Self

from rdt_data.errors import RdtError, unknown

PREDICTIONS: Final = ("sample", "epsilon")
"""What the network says: the clean actions, or the noise in them."""

BETAS: Final = ("squaredcos_cap_v2", "linear", "scaled_linear")
ADAPTOR: Final = re.compile(r"mlp([1-9])x_gelu")

SIZES: Final[Mapping[str, Mapping[str, int]]] = {
    "tiny": {"hidden_size": 64, "depth": 4, "num_heads": 4},  # CPU tests; the demo, twice as wide
    "small": {"hidden_size": 512, "depth": 12, "num_heads": 8},  # one consumer GPU
    "170m": {"hidden_size": 1024, "depth": 14, "num_heads": 32},  # RDT-170M
    "1b": {"hidden_size": 2048, "depth": 28, "num_heads": 32},  # RDT-1B
}

Positions = tuple[tuple[str, int | tuple[int, ...]], ...]
"""How a condition's positional embedding is initialised: (name, length) in the order of the tokens.

A length below zero means as many tokens that share one position. An image's is a grid (frames, cameras, patches), each
of its sides under the same rule.
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class NoiseConfig:
    """The diffusion process, as diffusers names its parts.

    num_inference_timesteps: denoising steps when nothing else is asked for. clip_sample: read and written, never used.
    """

    num_train_timesteps: int = 1000
    num_inference_timesteps: int = 5
    beta_schedule: str = "squaredcos_cap_v2"
    prediction_type: str = "sample"
    clip_sample: bool = False

    def __post_init__(self) -> None:
        if self.prediction_type not in PREDICTIONS:
            raise unknown("prediction_type", self.prediction_type, PREDICTIONS)
        if self.beta_schedule not in BETAS:
            raise unknown("beta_schedule", self.beta_schedule, BETAS)


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelConfig:
    """Everything that decides the names and shapes of the weights, and the diffusion process.

    pred_horizon: actions in a chunk. img_cond_len: image tokens of an observation, all frames and cameras together.
    max_lang_cond_len: the longest instruction in tokens. Raises RdtError for numbers that do not fit each other.
    """

    hidden_size: int
    depth: int
    num_heads: int
    action_dim: int = 128
    state_token_dim: int = 128
    pred_horizon: int = 64
    lang_token_dim: int = 4096
    img_token_dim: int = 1152
    max_lang_cond_len: int = 1024
    img_cond_len: int = 4374
    lang_pos_embed_config: Positions | None = (("lang", -1024),)
    img_pos_embed_config: Positions | None = (("image", (2, 3, -729)),)
    lang_adaptor: str = "mlp2x_gelu"
    img_adaptor: str = "mlp2x_gelu"
    state_adaptor: str = "mlp3x_gelu"
    noise: NoiseConfig = field(default_factory=NoiseConfig)

    def __post_init__(self) -> None:
        if self.hidden_size % self.num_heads or self.hidden_size % 4:
            raise RdtError(
                f"hidden_size {self.hidden_size} with num_heads {self.num_heads}",
                remedy="hidden_size must be a multiple of num_heads and of 4",
            )
        if self.state_token_dim != self.action_dim:
            raise RdtError(
                f"state_token_dim {self.state_token_dim} is not action_dim {self.action_dim}",
                remedy="one adaptor reads states and actions: give both the same width",
            )
        for name in ("lang_adaptor", "img_adaptor", "state_adaptor"):
            kind = getattr(self, name)
            if kind != "linear" and not ADAPTOR.fullmatch(kind):
                raise RdtError(f"{name} is {kind!r}", remedy="use 'linear', or 'mlp2x_gelu' with any number of layers")
        for name, length in (("lang", self.max_lang_cond_len), ("img", self.img_cond_len)):
            self._check_positions(f"{name}_pos_embed_config", length)

    def _check_positions(self, name: str, length: int) -> None:
        entries = getattr(self, name)
        count = None if entries is None else sum(abs(math.prod(as_grid(size))) for _, size in entries)
        if count not in (None, length):
            raise RdtError(
                f"{name} {entries} places {count} tokens, and there are {length}",
                remedy="let the absolute sizes multiply and add up to the number of tokens",
            )

    @property
    def image_grid(self) -> tuple[int, int, int] | None:
        """(frames, cameras, patches) of the image tokens, where the configuration tells."""
        entries = self.img_pos_embed_config
        if entries is None or len(entries) != 1 or len(grid := as_grid(entries[0][1])) != 3:
            return None
        return abs(grid[0]), abs(grid[1]), abs(grid[2])

    def to_json(self) -> dict[str, Any]:
        """What config.json holds."""
        noise = {name: getattr(self.noise, name) for name in NoiseConfig.__dataclass_fields__}
        inner = {name: getattr(self, name) for name in _ADAPTORS}
        inner["rdt"] = {name: getattr(self, name) for name in _INNER}
        inner["noise_scheduler"] = {"type": "ddpm", **noise}
        return {**{name: getattr(self, name) for name in (*_OUTER, *_POSITIONS)}, "config": inner}

    @classmethod
    def from_json(cls, data: Mapping[str, Any], where: str = "config.json") -> Self:
        """The configuration that a config.json holds. Raises RdtError that lists every key it lacks."""
        inner = _section(data, "config")
        rdt, noise = _section(inner, "rdt"), _section(inner, "noise_scheduler")
        required = {
            "": (data, _OUTER, int),
            "config.": (inner, _ADAPTORS, str),
            "config.rdt.": (rdt, _INNER, int),
            "config.noise_scheduler.": (noise, ("prediction_type",), str),
        }
        found: dict[str, Any] = {}
        wrong: list[str] = []
        for prefix, (section, names, kind) in required.items():
            found |= {name: section[name] for name in names if name in section}
            wrong += [prefix + name for name in names if not isinstance(section.get(name), kind)]
        if wrong:
            raise RdtError(
                f"{where}: {', '.join(wrong)} missing or of another type",
                remedy="a config.json holds the published constructor arguments of RDTRunner",
            )
        del found["prediction_type"]
        known = {name: noise[name] for name in NoiseConfig.__dataclass_fields__ if name in noise}
        found |= {name: _positions(data.get(name), f"{where}: {name}") for name in _POSITIONS}
        return cls(**found, noise=NoiseConfig(**known))


_OUTER = (
    *("action_dim", "pred_horizon", "lang_token_dim", "img_token_dim", "state_token_dim"),
    *("max_lang_cond_len", "img_cond_len"),
)
_POSITIONS = ("lang_pos_embed_config", "img_pos_embed_config")
_ADAPTORS = ("lang_adaptor", "img_adaptor", "state_adaptor")
_INNER = ("hidden_size", "depth", "num_heads")


def config_of_size(size: str, **changes: Any) -> ModelConfig:
    """The configuration of a row of SIZES; `changes` are fields of ModelConfig.

    With `frames`, `cameras` and `patches` among them, the image tokens follow from these three; with
    `max_lang_cond_len` alone, its positions follow.
    """
    if size not in SIZES:
        raise unknown("model size", size, SIZES)
    if "patches" in changes:
        changes |= image_tokens(changes.pop("frames"), changes.pop("cameras"), changes.pop("patches"))
    if "max_lang_cond_len" in changes:
        changes.setdefault("lang_pos_embed_config", (("lang", -changes["max_lang_cond_len"]),))
    return ModelConfig(**{**SIZES[size], **changes})


def image_tokens(frames: int, cameras: int, patches: int) -> dict[str, Any]:
    """The fields of ModelConfig that say how many image tokens there are, with positions as published."""
    return {
        "img_cond_len": frames * cameras * patches,
        "img_pos_embed_config": (("image", (frames, cameras, -patches)),),
    }


def as_grid(size: int | tuple[int, ...]) -> tuple[int, ...]:
    """The sides of one entry of a Positions."""
    return size if isinstance(size, tuple) else (size,)


def _section(data: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    section = data.get(name)
    return section if isinstance(section, Mapping) else {}


def _positions(value: Any, where: str) -> Positions | None:
    if value is None:
        return None
    try:
        return tuple(
            (str(name), int(size) if isinstance(size, int) else tuple(int(side) for side in size))
            for name, size in value
        )
    except (TypeError, ValueError):
        raise RdtError(f"{where} is {value!r}", remedy='write a list like [["image", [2, 3, -729]]], or null') from None
