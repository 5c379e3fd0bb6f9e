"""Which encoder a name stands for: the exact weights and tokenizer, found without loading anything.

In: a hub id or a local directory. Out: a revision and a tokenizer hash, or None for a hub model that is not in the
local cache. Never imports torch or transformers, so that a run that has nothing to do takes no time.

Hub model: its revision is a commit, which fixes every file, the tokenizer's too. A branch such as `main` means the
commit that the cache holds for it; a newer one is fetched when it is named. Local directory: a digest over its
configuration and its weights. Of a large file (T5-XXL has 44 GB) `SAMPLES` pieces of 1 MiB and the size count: enough,
because training changes every weight.
"""

import hashlib
import logging
import re
from collections.abc import Iterable
from fnmatch import fnmatch
from pathlib import Path
from typing import Final

from rdt_data.errors import RdtError

SAMPLES: Final = 32
PIECE: Final = 1 << 20

_COMMIT = re.compile(r"[0-9a-f]{40}")
_TOKENIZER = ("tokenizer*", "special_tokens_map.json", "added_tokens.json", "*.model", "vocab*", "merges.txt")
_WEIGHTS = ("*.safetensors", "*.safetensors.index.json", "pytorch_model*.bin", "pytorch_model*.bin.index.json")


def name_of(model: str) -> str:
    """What people call it: the hub id, or the name of the directory."""
    return Path(model).resolve().name if is_directory(model) else model


def is_directory(model: str) -> bool:
    """Whether this is a local directory, not a hub id. Raises RdtError for a path that is not one."""
    path = Path(model)
    if path.is_dir():
        return True
    if path.exists() or model.startswith((".", "/", "~")) or model.count("/") > 1:
        raise RdtError(
            f"--model {model}: there is no such directory",
            remedy="give a directory with config.json, weights and tokenizer, or a hub id such as google/t5-v1_1-xxl",
        )
    return False


def identify(model: str, revision: str | None = None) -> tuple[str, str] | None:
    """(revision, tokenizer) as `EncoderId` holds them; None when only the hub could tell.

    Raises RdtError when a directory lacks a configuration or weights, or is given with a revision.
    """
    if not is_directory(model):
        commit = revision if revision and _COMMIT.fullmatch(revision) else _cached_commit(model, revision)
        return (commit, commit) if commit else None
    if revision is not None:
        raise RdtError(f"--revision {revision} of a directory", remedy="leave --revision out: it is for hub models")
    folder = Path(model)
    if not (folder / "config.json").is_file():
        raise RdtError(f"--model {model}: no config.json in it", remedy="give the directory that save_pretrained wrote")
    weights = _matching(folder, _WEIGHTS)
    if not weights:
        raise RdtError(f"--model {model}: no weights in it", remedy=f"it needs one of {', '.join(_WEIGHTS)}")
    return _digest([folder / "config.json", *weights]), _digest(_matching(folder, _TOKENIZER))


def fetch(model: str, revision: str | None = None) -> tuple[str, str]:
    """Ask the hub which commit a name stands for, and keep its configuration in the cache.

    Raises RdtError when there is no such model or revision, or the hub cannot be reached.
    """
    import huggingface_hub
    from huggingface_hub.errors import HFValidationError

    logging.getLogger("huggingface_hub").setLevel(logging.ERROR)  # it tells every retry
    try:
        path = huggingface_hub.hf_hub_download(model, "config.json", revision=revision)
    except (OSError, HFValidationError) as error:  # every error of the hub's client is one of these
        raise unreachable(model, revision, error) from None
    commit = Path(path).parent.name
    return commit, commit


def unreachable(model: str, revision: str | None, error: Exception) -> RdtError:
    """A hub model that cannot be had, and what to do about it."""
    at = f" at revision {revision}" if revision else ""
    reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
    return RdtError(
        f"{model}{at} is not in the local Hugging Face cache and cannot be fetched from the hub ({reason})",
        remedy=f"check the name and the network (HF_HUB_OFFLINE, HF_TOKEN); or run `hf download {model}` where there is"
        " one, copy the folder here, and give it as --model DIRECTORY",
    )


def _cached_commit(model: str, revision: str | None) -> str | None:
    import huggingface_hub
    from huggingface_hub.errors import HFValidationError

    try:
        path = huggingface_hub.try_to_load_from_cache(model, "config.json", revision=revision)
    except HFValidationError as error:
        raise RdtError(
            f"--model {model}: {error}", remedy="give a hub id such as google/t5-v1_1-xxl, or a local directory"
        ) from None
    return Path(path).parent.name if isinstance(path, str) else None


def _matching(folder: Path, patterns: Iterable[str]) -> list[Path]:
    names = sorted(path for path in folder.iterdir() if path.is_file())
    return [path for path in names if any(fnmatch(path.name, pattern) for pattern in patterns)]


def _digest(files: Iterable[Path]) -> str:
    """One digest over names, sizes and bytes (of large files: of samples)."""
    digest = hashlib.sha256()
    for path in files:
        size = path.stat().st_size
        digest.update(f"{path.name}\0{size}\0".encode())
        with path.open("rb") as file:
            if size <= SAMPLES * PIECE:
                digest.update(file.read())
                continue
            for sample in range(SAMPLES):
                file.seek((size - PIECE) * sample // (SAMPLES - 1))
                digest.update(file.read(PIECE))
    return f"sha256:{digest.hexdigest()}"
