"""What a training run is: the configuration that `rdt train` reads, completes and saves with the run.

In: a YAML file (one of `rdt_model/runs` by name, or a user's own) and `key=value` changes, where a dot steps into a
section: `optimiser.learning_rate=3e-5`. Out: a frozen, checked `RunConfig`; an error names file, key and what was
allowed. Defaults are the published recipe (RoboticsDiffusionTransformer, `main.py`, `configs/base.yaml`): AdamW,
constant 1e-4 after 500 steps of warm-up, clipped to norm 1, EMA of power 3/4, conditions masked at 10 %, 40 dB noise on
the state. Knows nothing of torch, stores or the loop.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Final, Literal, Self

import yaml
from pydantic import BeforeValidator, Field, ValidationError, model_validator

from rdt_data import layout
from rdt_data.errors import RdtError, SpecError
from rdt_data.mixture_file import LEAST_STEPS, Mixture
from rdt_data.yaml_model import Part, one_of, parse_yaml, problem, read_text, spec_error
from rdt_model.config import PREDICTIONS, SIZES
from rdt_model.keypoints import KeypointConfig

RUNS: Final = Path(__file__).parent / "runs"
FILE: Final = "run.yaml"
"""In the folder of a run and of each checkpoint: the whole configuration."""

PARAMETERS: Final = "parameters.txt"
"""In the folder of a run: every parameter, trained or frozen."""

KEYPOINTS: Final = "keypoints"


def _number(value: Any) -> Any:
    """YAML 1.1 takes 1e-4 for a text."""
    try:
        return float(value) if isinstance(value, str) else value
    except ValueError:
        return value


Real = Annotated[float, BeforeValidator(_number)]
Share = Annotated[Real, Field(ge=0, le=1)]
Camera = Annotated[str, one_of("camera slot", layout.CAMERAS)]


class ModelPart(Part):
    """The network and what it sees.

    size: a row of SIZES; hidden_size, depth, num_heads in place of its own. init: weights to begin with (directory or
    hub id), whose sizes count then. horizon: actions of a chunk. history: frames of each camera. cameras: None: those
    that any store has. image_encoder: "keypoints", or a SigLIP as hub id or directory. keypoints: sizes of that one.
    train_encoder: whether a SigLIP is trained too. language_encoder: T5 named in the policy, for later use with text.
    """

    size: Annotated[str, one_of("model size", tuple(SIZES))] = "small"
    init: str | None = None
    hidden_size: int | None = Field(default=None, ge=8)
    depth: int | None = Field(default=None, ge=1)
    num_heads: int | None = Field(default=None, ge=1)
    horizon: int = Field(default=64, ge=1)
    history: int = Field(default=2, ge=1)
    cameras: Annotated[tuple[Camera, ...], Field(min_length=1)] | None = None
    image_encoder: str = Field(default=KEYPOINTS, min_length=1)
    keypoints: KeypointConfig = KeypointConfig()
    train_encoder: bool = False
    language_encoder: str | None = None
    prediction: Annotated[str, one_of("prediction", PREDICTIONS)] = "sample"


class OptimiserPart(Part):
    """AdamW. schedule: what follows the warm-up; "cosine" falls to 0 at the last step. eight_bit: by bitsandbytes."""

    learning_rate: Annotated[Real, Field(gt=0)] = 1e-4
    betas: tuple[Share, Share] = (0.9, 0.999)
    weight_decay: Annotated[Real, Field(ge=0)] = 1e-2
    eps: Annotated[Real, Field(gt=0)] = 1e-8
    clip_norm: Annotated[Real, Field(gt=0)] = 1.0
    warmup_steps: int = Field(default=500, ge=0)
    schedule: Literal["constant", "cosine"] = "constant"
    eight_bit: bool = False


class EmaPart(Part):
    """The moving average that is evaluated and saved as the policy: decay min(most, 1 - (1 + step)^-power)."""

    power: Annotated[Real, Field(gt=0)] = 0.75
    most: Share = 0.9999


class NoisePart(Part):
    """What is done to samples, each from (seed, its number).

    condition_mask: share of state, language, rate and each image that is masked; exterior_mask: of the exterior camera.
    state_snr_db: signal to noise of the state, None for none. images: share of frames with colour jitter, corruption or
    both. high_noise: 1 draws timesteps evenly, above 1 more of the noisy ones (u^(1 / high_noise) of the way).
    """

    condition_mask: Share = 0.1
    exterior_mask: Share = 0.1
    state_snr_db: Real | None = 40.0
    images: Share = 0.5
    high_noise: Annotated[Real, Field(ge=1)] = 1.0


class ValidationPart(Part):
    """Held-out episodes. every: steps between validations, 0: never. batches: of each; also at the end of a run."""

    every: int = Field(default=500, ge=0)
    batches: int = Field(default=2, ge=1)
    sample_steps: int = Field(default=5, ge=1)


class CheckpointPart(Part):
    """every: steps between checkpoints, the last step always has one. keep: the newest ones that stay, 0: all."""

    every: int = Field(default=1000, ge=1)
    keep: int = Field(default=3, ge=0)


class FeedPart(Part):
    """See `rdt_data.Feed`."""

    producers: int = Field(default=2, ge=0)
    remote_producers: int = Field(default=0, ge=0)
    shuffle_gb: Annotated[Real, Field(ge=0)] = 4.0
    run_steps: int = Field(default=32, ge=1)
    ray: str = "local"
    on_bad: Literal["stop", "quarantine"] = "stop"


class LoraPart(Part):
    """Low-rank adapters (peft) in place of training all weights; merged into the policy's. targets: ends of names."""

    rank: int = Field(ge=1)
    alpha: Annotated[Real, Field(gt=0)] = 16.0
    targets: Annotated[tuple[str, ...], Field(min_length=1)] = ("qkv", "q", "kv", "proj", "fc1", "fc2")


class RunConfig(Part):
    """All of a run. data or mixture: stores with equal shares, or a mixture file; exactly one. out: where it is saved.

    steps: of the optimiser. batch_size: rows of each rank and each of `accumulate` backward passes of a step. draws:
    (timestep, noise) pairs of a row. normalisation: of state and action; None: "none" with `model.init`, else
    "z-score" from the stores' statistics. precision: "auto" is bf16 on a GPU that has it, else fp32. threads: of torch
    on the CPU, 0: all cores but those of the producers.
    """

    data: Annotated[tuple[str, ...], Field(min_length=1)] | None = None
    mixture: str | None = None
    out: str = Field(min_length=1)
    steps: int = Field(default=100_000, ge=1)
    batch_size: int = Field(default=32, ge=1)
    accumulate: int = Field(default=1, ge=1)
    draws: int = Field(default=1, ge=1)
    seed: int = Field(default=0, ge=0)
    loss: Literal["masked", "rdt"] = "masked"
    normalisation: Literal["none", "z-score"] | None = None
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    device: str = "auto"
    threads: int = Field(default=0, ge=0)
    compile: bool = False
    gradient_checkpointing: bool = False
    log_every: int = Field(default=10, ge=1)
    tensorboard: bool = True
    wandb: str | None = None
    model: ModelPart = ModelPart()
    optimiser: OptimiserPart = OptimiserPart()
    ema: EmaPart = EmaPart()
    noise: NoisePart = NoisePart()
    validation: ValidationPart = ValidationPart()
    checkpoint: CheckpointPart = CheckpointPart()
    feed: FeedPart = FeedPart()
    lora: LoraPart | None = None

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if (self.data is None) == (self.mixture is None):
            raise problem(
                "neither data nor mixture" if self.data is None else "both data and mixture",
                remedy="give `data: [a.zarr, …]` or `mixture: FILE`, one of them",
                key="data",
            )
        if self.lora is not None and self.model.init is None:
            raise problem("adapters without weights to adapt", remedy="give model.init", key="lora")
        return self

    @property
    def normalises(self) -> bool:
        """Whether state and action are z-scores."""
        return self.normalisation == "z-score" or (self.normalisation is None and self.model.init is None)

    def load_mixture(self) -> Mixture:
        """The stores and their shares. Raises SpecError."""
        if self.mixture is not None:
            return Mixture.load(self.mixture)
        # Of stores that are named one by one, episodes that are shorter than the published least count too.
        return Mixture.of(dict.fromkeys(self.data or (), 1.0), least_steps=min(LEAST_STEPS, 2))

    def to_yaml(self) -> str:
        """All of it, as `load_run` reads it."""
        text: str = yaml.safe_dump(json.loads(self.model_dump_json()), sort_keys=False, allow_unicode=True)
        return text


def load_run(file: str | Path | None, changes: Sequence[str] = (), **flags: Any) -> RunConfig:
    """A run from a file (or the name of one of `RUNS`), then `flags`, then `key=value` changes; the last word counts.

    flags: dotted keys with __ for the dot, None is not given. Raises SpecError that names what is wrong.
    """
    where, data = "the flags", dict[str, Any]()
    if file is not None:
        path = Path(file)
        if not path.exists() and (RUNS / f"{file}.yaml").exists():
            path = RUNS / f"{file}.yaml"
        where, data = str(path), parse_yaml(read_text(path), str(path), example="docs/train.md")
    return run_of(_with(data, changes, flags), where)


def changed(config: RunConfig, changes: Sequence[str], **flags: Any) -> RunConfig:
    """A run with changes, as `load_run` takes them."""
    return run_of(_with(json.loads(config.model_dump_json()), changes, flags), "the run's own configuration")


def run_of(data: Mapping[str, Any], where: str) -> RunConfig:
    """A run from plain data. Raises SpecError."""
    try:
        return RunConfig.model_validate_json(json.dumps(data))  # JSON: lists are tuples, mappings are dataclasses
    except ValidationError as error:
        raise spec_error(error, where, RunConfig) from None
    except (TypeError, ValueError) as error:
        raise SpecError(f"{where}: {error}", remedy="write plain values: numbers, texts, lists") from None


def differences(one: RunConfig, other: RunConfig) -> list[str]:
    """ "optimiser.learning_rate: 0.0001 -> 0.001" for everything that is not equal."""
    old, new = (_flat(json.loads(config.model_dump_json())) for config in (one, other))
    return [f"{key}: {old.get(key)} -> {new.get(key)}" for key in {**old, **new} if old.get(key) != new.get(key)]


def _with(data: dict[str, Any], changes: Sequence[str], flags: Mapping[str, Any]) -> dict[str, Any]:
    given = [(key.split("__"), value) for key, value in flags.items() if value is not None]
    for keys, value in [*given, *map(_change, changes)]:
        _put(data, keys, value)
        if keys == ["data"]:
            data.pop("mixture", None)
        elif keys == ["mixture"]:
            data.pop("data", None)
    return data


def _change(text: str) -> tuple[list[str], Any]:
    key, equals, value = text.partition("=")
    if not equals or not key:
        raise RdtError(f"{text!r} is no change of the configuration", remedy="write key=value, say batch_size=64")
    try:
        return key.split("."), yaml.safe_load(value)
    except yaml.YAMLError:
        raise RdtError(
            f"{key}: {value!r} is no YAML value", remedy="quote it, or write a number or [a, list]"
        ) from None


def _put(data: dict[str, Any], keys: Sequence[str], value: Any) -> None:
    *outer, last = keys
    for key in outer:
        inner = data.get(key)
        data[key] = dict(inner) if isinstance(inner, dict) else {}
        data = data[key]
    data[last] = value


def _flat(data: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in data.items():
        flat |= _flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {prefix + key: value}
    return flat
