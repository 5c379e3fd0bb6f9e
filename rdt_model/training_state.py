"""Everything that training goes on from, in a folder and out of it again.

    model.safetensors, config.json, image_encoder.safetensors    the moving average: the policy, ready to act
    policy.json, policy.<store>.json                              one per store of the mixture; the first without a name
    training/weights.safetensors                                  the weights as the optimiser has them
    training/averages.safetensors                                 the moving average of adapters, where there are any
    training/optimiser.safetensors                                its state, by weight
    training/state.json                                           step, numbers that are not tensors
    training/feed-RANK-of-RANKS.json                              where each rank's feed stands
    run.yaml, statistics.json                                     the whole configuration, what normalises

Random numbers need no state: each is a function of the run's seed and a sample's number (`draws`). In: a `Snapshot`,
copied to the CPU, so that it can be written while training goes on. Knows nothing of the loop.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import torch
from torch import Tensor

from rdt_data.errors import RdtError
from rdt_data.feed_files import read_states, write_state
from rdt_data.yaml_model import parse_yaml, read_text
from rdt_model import checkpoint_files
from rdt_model.checkpoint_folder import verify
from rdt_model.config import ModelConfig
from rdt_model.policy_files import ENCODER, POLICY, PolicyConfig
from rdt_model.run_config import FILE, RunConfig, run_of

FOLDER: Final = "training"
FORMAT: Final = 1
_ADAPTERS: Final = "averages.safetensors"

Tensors = Mapping[str, Tensor]


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A run after a step. weights: of the whole module, frozen encoder left out.

    merged: the moving averages as a policy acts with them, with the weights that are not trained. averages: of the
    trained weights that `merged` does not hold, which are adapters. optimiser: weight -> its tensors. counters: what
    the loop counts. feeds: a state per rank. policies: by store, the first is the one that policy.json holds.
    """

    step: int
    config: RunConfig
    model: ModelConfig
    weights: Tensors
    averages: Tensors
    optimiser: Mapping[str, Tensors]
    counters: Mapping[str, float]
    feeds: Sequence[Mapping[str, Any]]
    policies: Mapping[str, PolicyConfig]
    merged: Tensors
    statistics: Mapping[str, Any]


def write(folder: Path, snapshot: Snapshot) -> None:
    """Put all files into a folder, which nobody reads yet."""
    checkpoint_files.save(folder, snapshot.model, _part(snapshot.merged, "net."))
    encoder = _part(snapshot.merged, "encoder.")
    if encoder:
        _save(folder / ENCODER, encoder)
    for number, (name, policy) in enumerate(snapshot.policies.items()):
        text = policy.model_dump_json(indent=1) + "\n"
        if number == 0:
            (folder / POLICY).write_text(text, encoding="utf-8")
        if len(snapshot.policies) > 1:
            (folder / f"policy.{name}.json").write_text(text, encoding="utf-8")
    training = folder / FOLDER
    training.mkdir()
    _save(training / "weights.safetensors", snapshot.weights)
    if snapshot.averages:
        _save(training / _ADAPTERS, snapshot.averages)
    flat = {f"{name}/{key}": value for name, state in snapshot.optimiser.items() for key, value in state.items()}
    _save(training / "optimiser.safetensors", flat)
    state = {"format": FORMAT, "step": snapshot.step, "counters": dict(snapshot.counters)}
    (training / "state.json").write_text(json.dumps(state, indent=1) + "\n")
    for feed in snapshot.feeds:
        write_state(training, feed)
    (folder / FILE).write_text(snapshot.config.to_yaml(), encoding="utf-8")
    (folder / "statistics.json").write_text(json.dumps(snapshot.statistics, indent=1) + "\n")


@dataclass(frozen=True, slots=True)
class Restored:
    """What a checkpoint holds for training to go on."""

    folder: Path
    step: int
    config: RunConfig
    weights: Tensors
    averages: Tensors
    optimiser: Mapping[str, dict[str, Tensor]]
    counters: Mapping[str, float]
    feeds: Sequence[Mapping[str, Any]]


def read(folder: Path) -> Restored:
    """What `write` wrote, after a check of every byte. Raises RdtError that names what is damaged or lacking."""
    verify(folder)
    training = folder / FOLDER
    state = json.loads((training / "state.json").read_text())
    if state["format"] != FORMAT:
        raise RdtError(
            f"{training / 'state.json'} has format {state['format']}, this program reads {FORMAT}",
            remedy="go on with the version of rdt that saved it",
        )
    optimiser: dict[str, dict[str, Tensor]] = {}
    for name, value in _load(training / "optimiser.safetensors").items():
        weight, _, key = name.rpartition("/")
        optimiser.setdefault(weight, {})[key] = value
    return Restored(
        folder=folder,
        step=state["step"],
        config=read_run(folder),
        weights=_load(training / "weights.safetensors"),
        averages=_averages(folder),
        optimiser=optimiser,
        counters=state["counters"],
        feeds=read_states(training),
    )


def _averages(folder: Path) -> dict[str, Tensor]:
    """The moving average of every weight, by its name in the module."""
    parts = {
        "net.": folder / checkpoint_files.SAFETENSORS,
        "encoder.": folder / ENCODER,
        "": folder / FOLDER / _ADAPTERS,
    }
    return {
        prefix + name: value for prefix, path in parts.items() if path.is_file() for name, value in _load(path).items()
    }


def read_run(folder: Path) -> RunConfig:
    """The configuration that a checkpoint or a run's folder holds."""
    path = folder / FILE
    return run_of(parse_yaml(read_text(path), str(path), example="a run's own run.yaml"), str(path))


def put(named: Tensors, into: Mapping[str, Tensor], where: Path) -> None:
    """Copy tensors into those of the same name. Raises RdtError that lists those that are not the same ones."""
    wrong = [name for name in {**named, **into} if _shape(named, name) != _shape(into, name)]
    if wrong:
        raise RdtError(
            f"{where}: {len(wrong)} tensors are not those of this run: {', '.join(sorted(wrong)[:5])}",
            remedy="go on with the configuration that the checkpoint was saved with",
        )
    with torch.no_grad():
        for name, tensor in into.items():
            tensor.copy_(named[name])


def _shape(tensors: Tensors, name: str) -> tuple[int, ...] | None:
    return tuple(tensors[name].shape) if name in tensors else None


def _part(tensors: Tensors, prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}


def _save(path: Path, tensors: Tensors) -> None:
    from safetensors.torch import save_file

    save_file({name: value.contiguous() for name, value in tensors.items()}, path)


def _load(path: Path) -> dict[str, Tensor]:
    return checkpoint_files.Checkpoint(path, None).read_weights()
