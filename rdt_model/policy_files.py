"""A policy as a directory: the network's own files, and policy.json with all that acting needs beside the weights.

    model.safetensors, config.json    the network, as `RDT.save_pretrained` writes it
    policy.json                       a `PolicyConfig`: robot, slots, cameras, encoders, normalisation
    image_encoder.safetensors         only where the image encoder was trained with the network

In: a network, a PolicyConfig, an encoder. Out: the files, and what they hold, checked; an error names file and key.
Knows nothing of observations and robots.
"""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Final, Literal, Self

import numpy as np
import numpy.typing as npt
from pydantic import AfterValidator, Field, ValidationError, model_validator
from torch import Tensor

from rdt_data import layout
from rdt_data.errors import RdtError
from rdt_data.yaml_model import Part, one_of, problem, problem_of, spec_error
from rdt_model.checkpoint_files import Checkpoint
from rdt_model.encoders import KEYPOINTS
from rdt_model.images import ImageEncoder
from rdt_model.keypoints import KeypointConfig, KeypointEncoder
from rdt_model.network import RDT

POLICY: Final = "policy.json"
ENCODER: Final = "image_encoder.safetensors"
FORMAT: Final = 1

FloatArray = npt.NDArray[np.float32]
BoolArray = npt.NDArray[np.bool_]


def _slots(names: tuple[str, ...]) -> tuple[str, ...]:
    try:
        layout.resolve(names, None)
    except RdtError as error:
        raise problem_of(error) from error
    return names


Slots = Annotated[tuple[str, ...], AfterValidator(_slots)]
Numbers = Annotated[tuple[float, ...], Field(min_length=layout.DIM, max_length=layout.DIM)]


class Normalisation(Part):
    """z-scores: what the network sees of x is (x - mean) / std. Each of 128 slots, in its own unit; std above 0."""

    mean: Numbers
    std: Annotated[tuple[Annotated[float, Field(gt=0)], ...], Field(min_length=layout.DIM, max_length=layout.DIM)]

    def apply(self, x: FloatArray) -> FloatArray:
        """(…, 128) in physical units -> z-scores."""
        mean, std = self._arrays()
        return (x - mean) / std

    def undo(self, z: FloatArray) -> FloatArray:
        """(…, 128) z-scores -> physical units."""
        mean, std = self._arrays()
        return z * std + mean

    def _arrays(self) -> tuple[FloatArray, FloatArray]:
        return np.asarray(self.mean, np.float32), np.asarray(self.std, np.float32)


class PolicyConfig(Part):
    """What policy.json says.

    dataset, spec_text, corrected, action: whose robot, the YAML of its spec, whether its corrections were applied, what
    actions are. control_hz: steps per second, 0 where the network was not told. state_slots, action_slots: names of the
    slots that training has seen; None where a checkpoint does not tell. cameras: in the order of the image tokens;
    history: frames of each. image_encoder: "keypoints", a hub id or a directory; keypoints: its sizes.
    language_encoder: hub id or directory of the T5, None where only embeddings are known.
    state_normalisation, action_normalisation: None for none.
    """

    format: Literal[1] = FORMAT
    dataset: str
    spec_text: str
    corrected: bool = False
    action: Annotated[str, one_of("action", ("next_state", "recorded"))] = "next_state"
    control_hz: float = Field(ge=0)
    state_slots: Slots | None
    action_slots: Slots | None
    cameras: Annotated[tuple[Annotated[str, one_of("camera slot", layout.CAMERAS)], ...], Field(min_length=1)] = (
        layout.CAMERAS
    )
    history: int = Field(default=2, ge=1)
    image_encoder: str = Field(min_length=1)
    keypoints: KeypointConfig | None = None
    language_encoder: str | None = None
    state_normalisation: Normalisation | None = None
    action_normalisation: Normalisation | None = None

    @property
    def state_mask(self) -> BoolArray | None:
        """(128,) the slots of the state that training has seen."""
        return mask_of(self.state_slots)

    @property
    def action_mask(self) -> BoolArray | None:
        """(128,) the slots of actions that training has seen."""
        return mask_of(self.action_slots)

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if (self.image_encoder == KEYPOINTS) != (self.keypoints is not None):
            raise problem(
                f"sizes of the keypoints encoder with image_encoder {self.image_encoder!r}",
                remedy="give `keypoints` its sizes for image_encoder keypoints, and null for another",
                key="keypoints",
            )
        return self


def mask_of(slots: tuple[str, ...] | None) -> BoolArray | None:
    """Names of slots -> (128,) bool."""
    if slots is None:
        return None
    mask = np.zeros(layout.DIM, np.bool_)
    mask[list(layout.resolve(slots, None))] = True
    return mask


def slots_of(mask: npt.ArrayLike) -> tuple[str, ...]:
    """(128,) bool -> names of the slots that are True, as a PolicyConfig holds them."""
    return tuple(layout.slot_name(int(slot)) for slot in np.flatnonzero(np.asarray(mask)))


def write_policy(folder: str | Path, config: PolicyConfig, net: RDT, encoder: ImageEncoder | None = None) -> None:
    """Write all files of a policy; each appears whole, policy.json last. encoder: written where it was trained."""
    folder = Path(folder)
    net.save_pretrained(folder)
    if encoder is not None and not encoder.frozen:
        _write_tensors(folder / ENCODER, encoder.state_dict())
    unfinished = folder / f".{POLICY}.{os.getpid()}"
    unfinished.write_text(config.model_dump_json(indent=1) + "\n", encoding="utf-8")
    os.replace(unfinished, folder / POLICY)


def read_policy(folder: str | Path, dataset: str | None = None) -> PolicyConfig | None:
    """What the policy.json of a directory says; None where there is none (a published checkpoint, a hub id).

    dataset: of a policy trained on several stores, the file of that one (policy.<store>.json), where there is one.
    Raises SpecError that names file and key.
    """
    first = Path(folder) / POLICY
    if not first.is_file():
        return None
    config = _config(first)
    if dataset is None or config.dataset == dataset:
        return config
    others = map(_config, sorted(Path(folder).glob("policy.*.json")))
    return next((other for other in others if other.dataset == dataset), config)


def _config(path: Path) -> PolicyConfig:
    try:
        return PolicyConfig.model_validate_json(path.read_bytes())
    except ValidationError as error:
        raise spec_error(error, str(path), PolicyConfig) from None


def load_trained_encoder(folder: str | Path, encoder: ImageEncoder) -> bool:
    """Put the encoder's weights that a policy directory holds into `encoder`; whether it holds any.

    Raises RdtError when they do not fit, or when they are missing and the encoder has no others (keypoints).
    """
    path = Path(folder) / ENCODER
    if not path.is_file():
        if isinstance(encoder, KeypointEncoder):
            raise RdtError(
                f"{path}: not there, and keypoints has no weights of its own", remedy="copy the whole policy"
            )
        return False
    weights, own = Checkpoint(path, None).read_weights(), encoder.state_dict()
    wrong = [name for name in {**own, **weights} if _shape(own, name) != _shape(weights, name)]
    if wrong:
        raise RdtError(
            f"{path}: {len(wrong)} weights do not fit the encoder that {POLICY} names: {', '.join(sorted(wrong)[:5])}",
            remedy="copy the files of one policy together",
        )
    encoder.load_state_dict(weights)
    return True


def _shape(weights: Mapping[str, Tensor], name: str) -> tuple[int, ...] | None:
    return tuple(weights[name].shape) if name in weights else None


def _write_tensors(path: Path, weights: Mapping[str, Tensor]) -> None:
    from safetensors.torch import save_file

    unfinished = path.with_name(f".{path.name}.{os.getpid()}")
    save_file({name: tensor.detach().contiguous().cpu() for name, tensor in weights.items()}, unfinished)
    os.replace(unfinished, path)
