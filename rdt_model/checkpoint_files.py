"""Weights and configuration as files: found, read, written, uploaded. The owner of safetensors and of the model hub.

In: a directory, a file or a hub id. Out: name -> tensor and the content of config.json. Read are model.safetensors,
pytorch_model.bin, either in shards with an index, and what DeepSpeed writes (mp_rank_00_model_states.pt, key `module`);
written is safetensors. Files of torch are read with `weights_only=True`. Knows nothing of networks.
"""

import json
import os
import tempfile
import zipfile
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import torch
from torch import Tensor

from rdt_data.errors import RdtError
from rdt_model.config import ModelConfig

CONFIG: Final = "config.json"
SAFETENSORS: Final = "model.safetensors"
TORCH: Final = "pytorch_model.bin"
DEEPSPEED: Final = "mp_rank_00_model_states.pt"
INDEX: Final = ".index.json"
"""Ends the name of a file that says which weights lie in which shards, as transformers' save_pretrained writes it."""
PUBLISHED: Final = (SAFETENSORS, SAFETENSORS + INDEX, TORCH, TORCH + INDEX)
"""Where weights may lie on the hub, the first that is there is read."""
WEIGHTS: Final = (*PUBLISHED, DEEPSPEED, f"pytorch_model/{DEEPSPEED}")
"""The same for a directory."""


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """The files of one set of weights, an index where they are in shards; config is None without a config.json."""

    weights: Path
    config: Path | None

    def read_config(self) -> ModelConfig | None:
        """What config.json says. Raises RdtError when it cannot be read."""
        if self.config is None:
            return None
        try:
            data = json.loads(self.config.read_text())
        except ValueError as error:
            raise RdtError(f"{self.config} is no JSON: {error}", remedy="copy it again") from None
        return ModelConfig.from_json(data if isinstance(data, dict) else {}, str(self.config))

    def read_weights(self) -> dict[str, Tensor]:
        """Name -> tensor on the CPU. Raises RdtError when a file is missing, unreadable, or holds more than weights."""
        return _read_shards(self.weights) if self.weights.name.endswith(INDEX) else _read_weights(self.weights)


def find(source: str | Path, revision: str | None = None) -> Checkpoint:
    """The checkpoint that a directory, a file of weights, or a hub id stands for (the hub's is downloaded).

    Beside a file of weights, config.json may lie in the same directory or in the one above.
    Raises RdtError when there is none.
    """
    path = Path(source)
    if path.is_file():
        return Checkpoint(path, _first(path.parent, (CONFIG, f"../{CONFIG}")))
    if path.is_dir():
        weights = _first(path, WEIGHTS)
        if weights is None:
            raise RdtError(f"{path}: no weights in it", remedy=f"it needs one of {', '.join(WEIGHTS)}")
        return Checkpoint(weights, _first(path, (CONFIG, f"../{CONFIG}")))
    if str(source).startswith((".", "/", "~")) or str(source).count("/") != 1:
        raise RdtError(
            f"{source}: there is no such directory or file",
            remedy="give a directory with config.json and weights, a file of weights, or a hub id: owner/name",
        )
    return _download(str(source), revision)


def save(folder: Path, config: ModelConfig, weights: Mapping[str, Tensor]) -> None:
    """Write model.safetensors and config.json; each appears whole."""
    from safetensors.torch import save_file

    folder.mkdir(parents=True, exist_ok=True)
    unfinished = folder / f".{SAFETENSORS}.{os.getpid()}"
    tensors = {name: tensor.detach().contiguous().cpu() for name, tensor in weights.items()}
    save_file(tensors, unfinished, metadata={"format": "pt"})
    os.replace(unfinished, folder / SAFETENSORS)
    unfinished = folder / f".{CONFIG}.{os.getpid()}"
    unfinished.write_text(json.dumps(config.to_json(), indent=2, sort_keys=True) + "\n")
    os.replace(unfinished, folder / CONFIG)


def push(
    repo_id: str, config: ModelConfig, weights: Mapping[str, Tensor], *, private: bool = False, token: str | None = None
) -> str:
    """Upload model.safetensors and config.json to the hub, making the repository; returns the commit's URL."""
    from huggingface_hub import HfApi

    api = HfApi(token=token)
    api.create_repo(repo_id, private=private, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        save(Path(folder), config, weights)
        return str(api.upload_folder(repo_id=repo_id, folder_path=folder).commit_url)


def _first(folder: Path, names: tuple[str, ...]) -> Path | None:
    return next((folder / name for name in names if (folder / name).is_file()), None)


def _download(repo_id: str, revision: str | None) -> Checkpoint:
    """One snapshot of the hub's repository in the local cache: config.json, weights or their index, shards."""
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import EntryNotFoundError, HFValidationError

    def get(name: str) -> Path:
        return Path(hf_hub_download(repo_id, name, revision=revision))

    what = repo_id
    try:
        config, weights = get(CONFIG), None
        for name in PUBLISHED[:-1]:
            with suppress(EntryNotFoundError):
                weights = get(name)
                break
        weights = weights or get(PUBLISHED[-1])
        shards = _weight_map(weights).values() if weights.name.endswith(INDEX) else ()
        for shard in dict.fromkeys(shards):
            what = f"{repo_id}: {shard}, which {weights.name} names"
            get(shard)
        return Checkpoint(weights, config)
    except (OSError, HFValidationError) as error:  # every error of the hub's client is one of these
        reason = str(error).strip().splitlines()[0]
        raise RdtError(
            f"{what}: not found on the hub or not reachable: {reason}",
            remedy="check the name, --revision and the network, or give a local directory",
        ) from None


def _weight_map(index: Path) -> dict[str, str]:
    """Name of a weight -> name of its shard, a file beside the index."""
    try:
        data = json.loads(index.read_text())
    except ValueError as error:
        raise RdtError(f"{index} is no JSON: {error}", remedy="copy it again") from None
    shards = data.get("weight_map") if isinstance(data, dict) else None
    if not isinstance(shards, dict) or not all(isinstance(shard, str) for shard in shards.values()):
        raise RdtError(f"{index} has no weight_map", remedy="it must map names of weights to files beside it")
    for shard in shards.values():
        if Path(shard).name != shard or shard.endswith(INDEX):
            raise RdtError(f"{index}: weight_map names {shard!r}", remedy="a shard is a file of weights beside it")
    return shards


def _read_shards(index: Path) -> dict[str, Tensor]:
    shards = _weight_map(index)
    names = sorted(set(shards.values()))
    missing = [name for name in names if not (index.parent / name).is_file()]
    if missing:
        raise RdtError(
            f"{index}: {len(missing)} of {len(names)} shards are not beside it: {', '.join(missing)}",
            remedy="copy every file of the checkpoint together",
        )
    weights: dict[str, Tensor] = {}
    for name in names:
        held = _read_weights(index.parent / name)
        lacking = sorted(weight for weight, shard in shards.items() if shard == name and weight not in held)
        if lacking:
            raise RdtError(
                f"{index.parent / name} lacks {len(lacking)} weights that {index.name} names, {lacking[0]} first",
                remedy="copy the shards and the index of one checkpoint together",
            )
        weights |= held
    return weights


def _read_weights(path: Path) -> dict[str, Tensor]:
    return _read_safetensors(path) if path.suffix == ".safetensors" else _read_torch(path)


def _read_safetensors(path: Path) -> dict[str, Tensor]:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return load_file(path)
    except SafetensorError as error:
        raise RdtError(f"{path} is not a whole safetensors file: {error}", remedy="copy it again") from None


def _read_torch(path: Path) -> dict[str, Tensor]:
    if not zipfile.is_zipfile(path):
        raise RdtError(f"{path} is not a whole file of torch.save", remedy="copy it again")
    if code := torch.serialization.get_unsafe_globals_in_checkpoint(path):
        raise RdtError(
            f"{path} holds more than numbers: {', '.join(sorted(code))}",
            remedy="loading it could run code; save its state_dict() alone",
        )
    held: Any = torch.load(path, map_location="cpu", weights_only=True)
    held = held["module"] if isinstance(held, dict) and isinstance(held.get("module"), dict) else held
    if not isinstance(held, dict) or not all(isinstance(value, Tensor) for value in held.values()):
        raise RdtError(
            f"{path} holds no state_dict", remedy="it must map names to tensors, itself or under the key 'module'"
        )
    return dict(held)
