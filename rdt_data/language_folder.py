"""The folder that holds the embeddings of one encoder: what is in it, and how something is added.

    FOLDER/encoder.json              which encoder (`EncoderId`)
    FOLDER/<digest>.safetensors      the embeddings of one batch

One safetensors file a commit, because one file appears whole or not at all, every plain tool reads it, bfloat16 and
embeddings of different lengths need no tricks, and a single embedding is one byte range of it. Its header holds the
text, the number of tokens and the SHA-256 of every embedding; its name is the SHA-256 of that header. So the name
answers for every byte, nobody has to keep an index, runs that write at the same time cannot disturb each other, and
the same batch made twice is the same file.

In: rows to add. Out: entries, found by reading headers only. Knows nothing of datasets or models. fsspec URLs.
"""

import hashlib
import json
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final

import fsspec

from rdt_data import tensor_file
from rdt_data.errors import StoreError
from rdt_data.staging import replace_file
from rdt_data.tensor_file import Stored, Tensor

FORMAT: Final = "rdt-language"
VERSION: Final = 1
KINDS: Final = {"fp32": "F32", "fp16": "F16", "bf16": "BF16"}
"""The dtypes an encoder can compute in, and what safetensors calls them: embeddings are stored as they are computed."""

_SUFFIX = ".safetensors"
_GUESS = 1 << 16  # bytes of a shard read at first; most headers fit
_STALE = 3600.0  # seconds after which nobody writes a temporary file any more
_WORDS = "rdt_language"


@dataclass(frozen=True, slots=True)
class EncoderId:
    """What decides an embedding besides the text.

    model: hub id, or the name of a local directory (for people: `key` does not depend on it).
    revision: commit of the hub, or "sha256:..." over configuration and weights of a local directory.
    tokenizer: "sha256:..." over the tokenizer's files; of a hub model its commit, which fixes them as well.
    dtype: a key of KINDS. quantize: None, "8bit" or "4bit". max_length: tokens a text is cut to.
    """

    model: str
    revision: str
    tokenizer: str
    dtype: str
    quantize: str | None
    max_length: int

    @property
    def key(self) -> str:
        """Name of its folder: equal when everything but the name of the model is equal."""
        decisive = {name: value for name, value in asdict(self).items() if name != "model"}
        digest = hashlib.sha256(json.dumps(decisive, sort_keys=True).encode()).hexdigest()
        return "-".join(part for part in (self.dtype, self.quantize, digest[:16]) if part)

    def as_json(self) -> dict[str, Any]:
        """As files hold it."""
        return {"format": FORMAT, "version": VERSION, "encoder": asdict(self)}


@dataclass(frozen=True, slots=True)
class Row:
    """One embedding to add. tokens: of the whole text, more than embedding.shape[0] when it was cut.

    embedding: (L, D) in the dtype of the encoder; bfloat16 as uint16 bit patterns.
    """

    text: str
    tokens: int
    embedding: Stored


@dataclass(frozen=True, slots=True)
class Entry:
    """One embedding that is there: where its bytes lie and what their SHA-256 is."""

    text: str
    tokens: int
    sha256: str
    shard: str
    tensor: Tensor


@dataclass(frozen=True, slots=True)
class Contents:
    """What a folder holds: text -> entry; and shards that cannot be used, with the reason."""

    entries: dict[str, Entry]
    damaged: dict[str, str]


def encoder_from_json(document: bytes, path: str) -> EncoderId:
    """The encoder that a JSON file of this format names. Raises StoreError when it is not one, or a newer one."""
    try:
        content = json.loads(document)
        if content["format"] == FORMAT and content["version"] <= VERSION:
            return EncoderId(**content["encoder"])
    except (ValueError, KeyError, TypeError) as error:
        raise StoreError(
            f"{path} is damaged: {error}", remedy="remove it and run `rdt-data embed-lang` again"
        ) from None
    raise StoreError(
        f"{path} has format {content['format']!r}, version {content['version']}; read here: {FORMAT!r}, {VERSION}",
        remedy="install a newer rdt-data, or give another path",
    )


def scan(fs: fsspec.AbstractFileSystem, folder: str, encoder: EncoderId) -> Contents:
    """What `folder` holds, by the headers of its shards; a folder that is not there holds nothing.

    Finds headers that have changed and files that have lost their end; `Language.verify` reads every byte.
    """
    fs.invalidate_cache(folder)
    try:
        listed = {entry["name"]: entry["size"] for entry in fs.ls(folder, detail=True)}
    except FileNotFoundError:
        return Contents({}, {})
    sizes = {path: listed[path] for path in sorted(listed) if path.endswith(_SUFFIX)}
    entries: dict[str, Entry] = {}
    damaged: dict[str, str] = {}
    for path, head in _heads(fs, list(sizes)).items():
        try:
            found = _entries(path, head, sizes[path], encoder)
        except ValueError as error:
            damaged[path] = str(error)
        else:
            entries = found | entries  # of a text embedded twice, the first one
    return Contents(entries, damaged)


def read(fs: fsspec.AbstractFileSystem, entry: Entry) -> Stored:
    """The stored array of an entry, (L, D). Raises StoreError when its bytes are not the ones that were written."""
    data = fs.cat_file(entry.shard, start=entry.tensor.start, end=entry.tensor.stop)
    if hashlib.sha256(data).hexdigest() != entry.sha256:
        raise StoreError(
            f"{entry.shard}: the embedding of {entry.text!r} is damaged (its SHA-256 differs)",
            remedy="run `rdt-data embed-lang` with --verify: it computes again what is damaged",
        )
    return entry.tensor.array(data)


def commit(fs: fsspec.AbstractFileSystem, folder: str, encoder: EncoderId, rows: Sequence[Row]) -> None:
    """Add embeddings, all of them or none."""
    fs.makedirs(folder, exist_ok=True)
    about = f"{folder}/encoder.json"
    if not fs.exists(about):
        replace_file(fs, about, json.dumps(encoder.as_json(), indent=1).encode())
    kind = KINDS[encoder.dtype]
    tensors = {hashlib.sha256(row.text.encode()).hexdigest(): (kind, row.embedding) for row in rows}
    texts = [[row.text, row.tokens, hashlib.sha256(row.embedding.tobytes()).hexdigest()] for row in rows]
    words = {_WORDS: json.dumps({"encoder": encoder.key, "texts": texts}, ensure_ascii=False)}
    data = tensor_file.dump(tensors, words)
    replace_file(fs, f"{folder}/{_name(data[: tensor_file.header_stop(data)])}", data)


def remove(fs: fsspec.AbstractFileSystem, shards: Sequence[str]) -> None:
    """Take shards away that another run may be taking away, too."""
    for shard in shards:
        if fs.exists(shard):
            fs.rm_file(shard)


def sweep(fs: fsspec.AbstractFileSystem, folder: str) -> None:
    """Remove what killed runs left half written; what may still be written by another one is left alone."""
    if "file" not in fs.protocol or not fs.isdir(folder):
        return  # object stores keep nothing that is not whole
    for entry in fs.ls(folder, detail=True):
        if entry["name"].endswith(".partial") and time.time() - entry["mtime"] > _STALE:
            remove(fs, [entry["name"]])


def _name(head: bytes) -> str:
    return hashlib.sha256(head).hexdigest()[:32] + _SUFFIX


def _heads(fs: fsspec.AbstractFileSystem, paths: Sequence[str]) -> dict[str, bytes]:
    """The first bytes of each file, its whole header if it has one; files that have gone meanwhile are left out."""
    heads = _starts(fs, dict.fromkeys(paths, _GUESS))
    long = {path: stop for path, head in heads.items() if len(head) == _GUESS < (stop := tensor_file.header_stop(head))}
    return heads | _starts(fs, long)


def _starts(fs: fsspec.AbstractFileSystem, stops: dict[str, int]) -> dict[str, bytes]:
    """The bytes of each file up to its stop; of many files at a time where the file system can."""
    found = fs.cat_ranges(list(stops), [0] * len(stops), list(stops.values()), on_error="return")
    for answer in found:
        if isinstance(answer, BaseException) and not isinstance(answer, FileNotFoundError):
            raise answer
    return {path: bytes(head) for path, head in zip(stops, found, strict=True) if not isinstance(head, BaseException)}


def _entries(path: str, head: bytes, size: int, encoder: EncoderId) -> dict[str, Entry]:
    """The entries of one shard. Raises ValueError when its header has changed or its end is lost."""
    stop = tensor_file.header_stop(head)
    if len(head) < stop or _name(head[:stop]) != path.rsplit("/", 1)[-1]:
        raise ValueError("its header is damaged (its SHA-256 differs)")
    header = tensor_file.header(head)
    if header.size != size:
        raise ValueError(f"it has {size} bytes, its header says {header.size}")
    words = json.loads(header.words[_WORDS])
    if words["encoder"] != encoder.key:
        raise ValueError(f"it holds embeddings of the encoder {words['encoder']}")
    rows = zip(words["texts"], header.tensors.values(), strict=True)
    return {text: Entry(text, tokens, digest, path, tensor) for (text, tokens, digest), tensor in rows}
