"""What a TFDS record holds: `features.json` as a flat table, and the values of one of its rows from a record.

tensorflow-datasets flattens nested features to slash paths and stores each as one list of the Example: floats
(float64 as float32), integers (bool too; uint64 by its bits), or bytes (strings, encoded images, and tensors with
`encoding` "bytes" or "zlib": one raw little-endian array each). A sequence of sequences is stored as
`<path>/ragged_flat_values` and `<path>/ragged_row_lengths_<k>`; a tensor with several unknown dimensions as
`<path>/value` and `<path>/shape`. Kinds that are not known are in the table and fail only when they are read.
"""

import itertools
import json
import math
import zlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from converters.readers.example import byte_values, count, float_values, int_values
from rdt_data.errors import SourceError

Record = Mapping[str, memoryview]
"""A parsed Example: feature name → Feature message."""

Shape = tuple[int | None, ...]

_SCHEMA_REMEDY = "features.json must be the one that tensorflow-datasets wrote beside the data: download it again"
_RECORD_REMEDY = "check that this features.json belongs to these files (same dataset, same version)"
_CONTENT = {  # class name → key of its content, for the generation of features.json that has only classes
    "FeaturesDict": "featuresDict",
    "Sequence": "sequence",
    "Dataset": "sequence",
    "Video": "video",
    "Tensor": "tensor",
    "Scalar": "tensor",
    "Image": "image",
    "Text": "text",
    "ClassLabel": "classLabel",
    "BBoxFeature": "boundingBox",
}


@dataclass(frozen=True, slots=True)
class Leaf:
    """One row of the table."""

    path: str  # "steps/observation/state", as in the record
    kind: Literal["tensor", "text", "image", "unsupported"]
    dtype: str = "string"  # "float32", …; "string" for text and images; for "unsupported" the kind it is
    shape: Shape = ()  # of one element, below its sequences; None where it varies
    encoding: str = "none"  # of tensors: "none", "bytes", "zlib"
    sequences: int = 0  # levels of Sequence or Dataset above it

    @property
    def dynamic(self) -> bool:
        return self.kind == "tensor" and self.shape.count(None) > 1

    @property
    def encoded(self) -> bool:
        """Whether the record holds one bytes value per element."""
        return self.kind == "image" or self.encoding != "none"

    @property
    def size(self) -> int | None:
        """Values per element; None where it varies."""
        return None if None in self.shape else math.prod(d or 0 for d in self.shape)

    @property
    def numpy(self) -> np.dtype[Any]:
        return np.dtype("float32" if self.dtype == "bfloat16" else self.dtype)

    @property
    def what(self) -> str:
        """For messages: "float32 of shape (7,)", "an image"."""
        if self.kind == "tensor":
            return f"{self.dtype} of shape {self.shape}"
        return {"image": "an image", "text": "text"}.get(self.kind, f"a {self.dtype} (a kind not supported here)")

    def name(self, part: str = "value") -> str:
        """The name in the record of its values ("value") or of its elements' shapes ("shape")."""
        path = f"{self.path}/{part}" if self.dynamic else self.path
        return f"{path}/ragged_flat_values" if self.sequences > 1 else path

    @property
    def counter(self) -> str:
        """The name in the record of what tells the length of the outermost sequence."""
        return self.row_lengths(0) if self.sequences > 1 else self.name()

    def row_lengths(self, level: int) -> str:
        """The name in the record of the lengths of the sequences at `level` below the outermost."""
        return (
            f"{self.path}/value/ragged_row_lengths_{level}"
            if self.dynamic
            else f"{self.path}/ragged_row_lengths_{level}"
        )


def read_schema(path: Path) -> dict[str, Leaf]:
    """The table of a features.json: path → leaf. Both generations of the file are understood."""
    try:
        leaves = {leaf.path: leaf for leaf in _walk(json.loads(path.read_text("utf-8")), "", 0)}
    except OSError as error:
        raise _schema_error(f"it cannot be read: {error.strerror}") from error
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise _schema_error(f"it is not what tensorflow-datasets writes ({type(error).__name__}: {error})") from error
    return leaves


def _walk(node: Any, path: str, sequences: int) -> Iterator[Leaf]:
    kind, content = _content(node)
    if kind == "featuresDict":
        children = content if "type" in node and "proto_cls" not in node else content.get("features", {})
        for name, child in children.items():
            yield from _walk(child, f"{path}/{name}" if path else name, sequences)
    elif kind == "sequence":
        yield from _walk(content["feature"], path, sequences + 1)
    elif kind in ("text", "image", "video"):
        leaf_kind: Literal["text", "image"] = "text" if kind == "text" else "image"
        yield Leaf(path, leaf_kind, sequences=sequences + (kind == "video"))
    elif kind == "classLabel":
        yield Leaf(path, "tensor", "int64", (), "none", sequences)
    elif kind == "boundingBox":
        yield Leaf(path, "tensor", "float32", (4,), "none", sequences)
    elif kind == "tensor":
        yield _tensor(content, path, sequences)
    else:
        yield Leaf(path, "unsupported", kind, sequences=sequences)


def _content(node: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    """What kind of feature a node describes, and its description, in either generation of features.json."""
    if "type" in node:  # {"type": class, "content": object or its JSON text}
        kind, content = node["type"].rsplit(".", 1)[-1], node["content"]
    elif "jsonFeature" in node:
        kind, content = node["pythonClassName"].rsplit(".", 1)[-1], node["jsonFeature"]["json"]
    else:
        kind, content = next(((key, node[key]) for key in _CONTENT.values() if key in node), ("", {}))
        kind = kind or node["pythonClassName"].rsplit(".", 1)[-1]
    return _CONTENT.get(kind, kind), json.loads(content) if isinstance(content, str) else content


def _tensor(content: dict[str, Any], path: str, sequences: int) -> Leaf:
    dimensions = content.get("shape") or ()
    if isinstance(dimensions, dict):
        dimensions = dimensions.get("dimensions", ())
    shape = tuple(None if d is None or int(d) < 0 else int(d) for d in dimensions)
    dtype, encoding = content["dtype"], str(content.get("encoding") or "none").lower()
    if dtype in ("string", "object", "str"):
        return Leaf(path, "text", "string", shape, "none", sequences)
    if not _is_numeric(dtype) or encoding not in ("none", "bytes", "zlib"):
        return Leaf(path, "unsupported", f"tensor of {dtype}, encoding {encoding},", sequences=sequences)
    return Leaf(path, "tensor", dtype, shape, encoding, sequences)


def _is_numeric(dtype: str) -> bool:
    try:
        return dtype == "bfloat16" or np.dtype(dtype).kind in "biuf"
    except TypeError:
        return False


def count_steps(leaf: Leaf, record: Record) -> int | None:
    """The length of the outermost sequence; None where the record alone does not say."""
    if leaf.sequences == 0 or leaf.kind == "unsupported":
        return None
    values = count(_stored(record, leaf.counter))
    each = 1 if leaf.encoded or leaf.sequences > 1 else leaf.size
    if not each:
        return None
    if values % each:
        raise _record_error(f"it holds {values} numbers, which are not whole arrays of shape {leaf.shape}")
    return values // each


def read_array(leaf: Leaf, record: Record, steps: int) -> npt.NDArray[Any]:
    """The numbers of a tensor: one axis per sequence, then `leaf.shape`; a copy, in the dtype of the schema.

    steps: the length of the first axis, if the leaf is in a sequence. bfloat16 comes as float32.
    """
    if leaf.kind != "tensor":
        raise _record_error(f"it is {leaf.what}, not numbers")
    lengths = [_equal(_numbers(record, leaf.row_lengths(level))) for level in range(leaf.sequences - 1)]
    outer = [steps, *lengths][: leaf.sequences]
    if leaf.encoded:
        elements = list(read_elements(leaf, record))
        if len({element.shape for element in elements}) > 1:
            raise _record_error("its shape changes from step to step", "rows of one shape are needed here")
        flat = np.concatenate([element.ravel() for element in elements]) if elements else np.empty(0, leaf.numpy)
        shape: Shape = elements[0].shape if elements else leaf.shape
    else:
        stored, shape = _stored(record, leaf.name()), leaf.shape
        integers = leaf.numpy.kind in "biu" and leaf.dtype != "bfloat16"
        flat = int_values(stored, leaf.numpy) if integers else float_values(stored).astype(leaf.numpy)
    return _shaped(flat, outer, shape)


def read_elements(leaf: Leaf, record: Record) -> Iterator[npt.NDArray[Any]]:
    """The arrays of an encoded tensor ("bytes" or "zlib") one by one, each of `leaf.shape`."""
    raw_type = np.dtype("<u2") if leaf.dtype == "bfloat16" else leaf.numpy.newbyteorder("<")
    stored = _stored(record, leaf.name())
    for data, shape in zip(byte_values(stored), _shapes(leaf, record, stored), strict=False):
        expected = None if None in shape else math.prod(d or 0 for d in shape) * raw_type.itemsize
        content = _inflated(data, expected) if leaf.encoding == "zlib" else data
        if len(content) % raw_type.itemsize or len(content) != (expected or len(content)):
            raise _record_error(f"an element has {len(content)} bytes where the shape is {shape} of {leaf.dtype}")
        raw = np.frombuffer(content, raw_type)
        if leaf.dtype == "bfloat16":
            raw = (raw.astype(np.uint32) << 16).view(np.float32)
        yield _shaped(raw, [], shape)


def _shapes(leaf: Leaf, record: Record, stored: memoryview) -> Iterable[Shape]:
    """The shape of each element of an encoded tensor: `leaf.shape`, or what is stored beside the values."""
    if not leaf.dynamic:
        return itertools.repeat(leaf.shape)
    shapes, elements, rank = _numbers(record, leaf.name("shape")), count(stored), len(leaf.shape)
    if len(shapes) != elements * rank or (len(shapes) and shapes.min() < 0):
        raise _record_error(f"the stored shapes are not {elements} shapes of {rank} dimensions")
    return [tuple(shape) for shape in shapes.reshape(elements, rank).tolist()]


def read_frames(leaf: Leaf, record: Record, steps: int) -> Iterator[memoryview | npt.NDArray[np.uint8]]:
    """Encoded images (views into the record) or raw (H, W, 3) uint8 ones, one by one."""
    if not leaf.sequences:
        raise _record_error(f"it is a value of the whole episode ({leaf.what}), not one per step")
    for level in range(leaf.sequences - 1):
        if _equal(_numbers(record, leaf.row_lengths(level))) != 1:
            raise _record_error("it holds several images a step", "a camera has one image a step")
    if leaf.kind in ("image", "text") and leaf.shape == ():
        yield from byte_values(_stored(record, leaf.name()))
    elif leaf.dtype == "uint8" and leaf.shape[2:] == (3,):
        yield from read_elements(leaf, record) if leaf.encoded else read_array(leaf, record, steps)
    else:
        raise _record_error(f"it is {leaf.what}, not images")


def read_text(leaf: Leaf, record: Record) -> str | None:
    """The string, or the first one of a sequence; None when the record has none."""
    if leaf.kind != "text":
        raise _record_error(f"it is {leaf.what}, not text")
    if leaf.name() not in record:
        return None
    first = next(byte_values(record[leaf.name()]), None)
    try:
        return None if first is None else bytes(first).decode()
    except UnicodeDecodeError as error:
        raise _record_error(f"its text is not UTF-8: {bytes(first or b'')[:40]!r}") from error


def _shaped(flat: npt.NDArray[Any], outer: list[int], shape: Shape) -> npt.NDArray[Any]:
    """flat (n,) → (*outer, *shape), where at most one dimension of `shape` is unknown."""
    known = math.prod(outer) * math.prod(d for d in shape if d is not None)
    free = len(flat) // known if known else 0
    full = (*outer, *(free if d is None else d for d in shape))
    if shape.count(None) > 1 or math.prod(full) != len(flat):
        raise _record_error(f"it holds {len(flat)} numbers where the shape is {(*outer, *shape)}")
    return flat.reshape(full)


def _inflated(data: memoryview, expected: int | None) -> bytes:
    """Decompress; stops one byte after `expected`, so that damaged data cannot fill the memory."""
    try:
        return zlib.decompress(data) if expected is None else zlib.decompressobj().decompress(data, expected + 1)
    except zlib.error as error:
        raise _record_error(f"its zlib data is damaged ({error})") from error


def _equal(lengths: npt.NDArray[np.int64]) -> int:
    """The common length of all rows; 0 when there are none."""
    if len(lengths) and (lengths.min() != lengths.max() or lengths.min() < 0):
        raise _record_error(
            f"it is ragged: its rows have {lengths.min()} to {lengths.max()} values", "rows of one length are needed"
        )
    return int(lengths[0]) if len(lengths) else 0


def _numbers(record: Record, name: str) -> npt.NDArray[np.int64]:
    return int_values(_stored(record, name))


def _stored(record: Record, name: str) -> memoryview:
    if name not in record:
        raise _record_error(f"the record has no feature {name!r}")
    return record[name]


def _schema_error(problem: str) -> SourceError:
    return SourceError(problem, remedy=_SCHEMA_REMEDY, file="features.json")


def _record_error(problem: str, remedy: str = _RECORD_REMEDY) -> SourceError:
    return SourceError(problem, remedy=remedy)
