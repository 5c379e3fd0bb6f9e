"""The language embeddings of datasets: text -> the states of a T5 encoder. Reads without torch or transformers.

In: the place where `rdt-data embed-lang` wrote (path or fsspec URL), or a dataset. Out: embeddings, each checked
against its SHA-256 when it is read. A dataset names its encoders in STORE/language/<key>.json, each with the places
where its embeddings may lie: in the dataset itself, or in a folder that datasets share (`language_folder` says how
it looks). How a text becomes an embedding is not known here.
"""

import json
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import fsspec
import numpy as np
import numpy.typing as npt

from rdt_data.errors import StoreError
from rdt_data.language_folder import Contents, EncoderId, encoder_from_json, read, scan
from rdt_data.remote import file_system
from rdt_data.staging import replace_file
from rdt_data.store import Dataset, open_dataset
from rdt_data.stored import StoredEpisode
from rdt_data.tensor_file import Stored, float32_from_bf16

Embedding = npt.NDArray[np.floating[Any]]
"""(L, D): the L tokens of a text (end of sequence included, padding never), D the width of the encoder."""

FOLDER = "language"
_EMBED = "run `rdt-data embed-lang` on it"


class Language:
    """The embeddings of one encoder: a view of what was there when it was opened.

    missing: the text of episodes without an instruction, as `--missing` decided for a dataset; else None.
    """

    def __init__(self, url: str, encoder: EncoderId, missing: str | None = None) -> None:
        self.url, self.encoder, self.missing = url, encoder, missing
        self.fs, self.path = file_system(url)
        self._contents: Contents = scan(self.fs, self.path, encoder)

    @property
    def model(self) -> str:
        """Hub id of the encoder, or the name of its local directory."""
        return self.encoder.model

    @property
    def damaged(self) -> dict[str, str]:
        """Shards that could not be used, with the reason; their texts are not here."""
        return self._contents.damaged

    @cached_property
    def dim(self) -> int:
        """Width of the embeddings."""
        return int(self._contents.entries[self._known("")].tensor.shape[1])

    @property
    def empty(self) -> Embedding:
        """The embedding of the empty instruction, (L, D): what stands for language that is masked."""
        return self.embedding("")

    def texts(self) -> tuple[str, ...]:
        """Every text that is here, sorted."""
        return tuple(sorted(self._contents.entries))

    def __contains__(self, text: object) -> bool:
        return text in self._contents.entries

    def __len__(self) -> int:
        return len(self._contents.entries)

    def embedding(self, text: str) -> Embedding:
        """(L, D), float32 or float16 as stored; bfloat16, which NumPy lacks, as float32 (exactly).

        Raises StoreError when the text was not embedded or its bytes have changed.
        """
        array = self.stored(text)
        return array if self.encoder.dtype != "bf16" else float32_from_bf16(array)

    def stored(self, text: str) -> Stored:
        """The embedding as it is stored, (L, D); bfloat16 as uint16 bit patterns. Raises as `embedding` does."""
        return read(self.fs, self._contents.entries[self._known(text)])

    def tokens(self, text: str) -> int:
        """Tokens of the whole text: more than its embedding has when it was cut to `encoder.max_length`."""
        return self._contents.entries[self._known(text)].tokens

    def wordings(self, episode: StoredEpisode) -> tuple[str, ...]:
        """The texts that stand for an episode, the instruction first; `missing` where it has none."""
        return wordings(episode) or (self.missing or "",)

    def verify(self, progress: Callable[[int, int], None] = lambda done, total: None) -> dict[str, str]:
        """Read every embedding: shards that are damaged, with the reason. progress: embeddings done and all."""
        problems = dict(self.damaged)
        for done, entry in enumerate(self._contents.entries.values(), 1):
            try:
                read(self.fs, entry)
            except StoreError as error:
                problems.setdefault(entry.shard, error.problem)
            progress(done, len(self))
        return problems

    def _known(self, text: str) -> str:
        if text in self:
            return text
        also = f"; {len(self.damaged)} damaged shards were left out" if self.damaged else ""
        raise StoreError(
            f"{self.url} has no embedding of {text!r} ({len(self)} texts of {self.model} are there{also})",
            remedy="run `rdt-data embed-lang` on the dataset again: it computes what is missing",
        )

    def __repr__(self) -> str:
        return f"Language({self.url!r}, {self.model}, {self.encoder.dtype}, {len(self)} texts)"


@dataclass(frozen=True, slots=True)
class Pointer:
    """What a dataset says of one encoder. places: where its embeddings may lie, paths relative to STORE/language."""

    encoder: EncoderId
    places: tuple[str, ...]
    missing: str


def wordings(episode: StoredEpisode) -> tuple[str, ...]:
    """The texts of an episode, the instruction first, each once; none when it has no instruction."""
    return tuple(dict.fromkeys(text for text in episode.phrasings if text))


def open_language(url: str, encoder: str | None = None) -> Language:
    """Open embeddings by path or URL: the folder of one encoder, or one that holds such folders.

    encoder: hub id or key; needed where there are several. Raises StoreError when it does not name exactly one.
    """
    url = str(url).rstrip("/")
    fs, path = file_system(url)
    fs.invalidate_cache(path)
    if fs.exists(f"{path}/encoder.json"):
        found = {url: _encoder(fs, path)}
    else:
        names = (
            sorted(name.rstrip("/").rsplit("/", 1)[-1] for name in fs.ls(path, detail=False)) if fs.isdir(path) else []
        )
        found = {
            f"{url}/{name}": _encoder(fs, f"{path}/{name}")
            for name in names
            if fs.exists(f"{path}/{name}/encoder.json")
        }
    return Language(*_only(list(found.items()), encoder, url))


def language_of(dataset: Dataset | str, encoder: str | None = None) -> Language:
    """The embeddings of a dataset, wherever they lie. encoder and errors as for `open_language`."""
    if not isinstance(dataset, Dataset):
        dataset = open_dataset(dataset)
    there = pointers(dataset)
    chosen = _only([(pointer, pointer.encoder) for pointer in there], encoder, dataset.url)[0]
    for url in places(dataset, chosen):
        fs, path = file_system(url)
        if fs.exists(f"{path}/encoder.json"):
            return Language(url, chosen.encoder, chosen.missing)
    raise StoreError(
        f"{dataset.url}: the embeddings of {chosen.encoder.model} are not at {' or '.join(places(dataset, chosen))}",
        remedy="put the folder back, or run `rdt-data embed-lang` with --store and its new place",
    )


def pointers(dataset: Dataset) -> list[Pointer]:
    """What a dataset says of its encoders, in the order of their keys."""
    folder = f"{dataset.path}/{FOLDER}"
    dataset.fs.invalidate_cache(folder)
    names = dataset.fs.ls(folder, detail=False) if dataset.fs.isdir(folder) else []
    found = []
    for path in sorted(name for name in names if name.endswith(".json") and not name.endswith("/zarr.json")):
        document = dataset.fs.cat_file(path)
        encoder = encoder_from_json(document, path)
        content = json.loads(document)
        found.append(Pointer(encoder, tuple(content["places"]), content["missing"]))
    return found


def places(dataset: Dataset, pointer: Pointer) -> list[str]:
    """The URLs where a pointer says that embeddings may lie."""
    base = f"{dataset.url}/{FOLDER}"
    return [place if "://" in place or os.path.isabs(place) else _join(base, place) for place in pointer.places]


def record(dataset: Dataset, pointer: Pointer) -> None:
    """Write a pointer into a dataset, unless it says this already."""
    folder = f"{dataset.path}/{FOLDER}"
    path = f"{folder}/{pointer.encoder.key}.json"
    document = {**pointer.encoder.as_json(), "places": list(pointer.places), "missing": pointer.missing}
    data = json.dumps(document, indent=1, ensure_ascii=False).encode()
    if dataset.fs.exists(path) and dataset.fs.cat_file(path) == data:
        return
    dataset.fs.makedirs(folder, exist_ok=True)
    group = {"zarr_format": 3, "node_type": "group", "attributes": {}}
    replace_file(dataset.fs, f"{folder}/zarr.json", json.dumps(group).encode())  # else zarr warns of this folder
    replace_file(dataset.fs, path, data)


def _join(base: str, place: str) -> str:
    """`place` seen from `base`, a path or a URL."""
    return f"{base}/{place}" if "://" in base else os.path.normpath(os.path.join(base, place))


def _encoder(fs: fsspec.AbstractFileSystem, folder: str) -> EncoderId:
    return encoder_from_json(fs.cat_file(f"{folder}/encoder.json"), f"{folder}/encoder.json")


def _only(found: "Sequence[tuple[Any, EncoderId]]", wanted: str | None, where: str) -> tuple[Any, EncoderId]:
    """The only one that fits; `wanted` is a model or a key."""
    fitting = [entry for entry in found if wanted is None or wanted in (entry[1].model, entry[1].key)]
    if len(fitting) == 1:
        return fitting[0]
    if not found:
        raise StoreError(f"{where} holds no language embeddings", remedy=_EMBED)
    names = ", ".join(f"{encoder.key} ({encoder.model})" for _, encoder in (fitting or found))
    problem = f"has {len(fitting)} encoders that fit" if fitting else f"has no embeddings of {wanted!r}"
    raise StoreError(f"{where} {problem}", remedy=f"name one as `encoder`: {names}")
