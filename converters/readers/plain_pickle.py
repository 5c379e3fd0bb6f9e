"""Plain data out of pickle files, without running anything that they ask for.

In: the bytes of a pickle (protocols 0 to 5), or an .npy file. Out: None, bool, int, float, str, bytes, list, tuple,
dict, set, NumPy arrays, dtypes and scalars, OrderedDict and datetime, as Python's own unpickler would give them. A
pickle is a program for a small stack machine; `pickletools` of the standard library takes it apart into opcodes, and
the machine here knows only those that build such values. Whatever else a file names is refused by its name. This
module knows nothing of datasets; its errors do not name the file: the caller adds it with `SourceError.within`.
"""

import datetime
import pickletools
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from converters.readers.pickled_numpy import UnfinishedDtype, array_of_buffer, empty_array, fill_array, scalar
from rdt_data.errors import SourceError

_BROKEN_REMEDY = "copy the file again, or leave it out"
_REFUSED_REMEDY = "only plain values and NumPy arrays are read from pickles: leave the file out, or store its data anew"
_MALFORMED = (ValueError, TypeError, IndexError, KeyError, OverflowError, RecursionError)


def load(data: bytes) -> Any:
    """The value in a pickle. Raises SourceError for one that is cut, malformed, or wants anything but plain data."""
    machine = _Machine()
    try:
        for opcode, argument, position in pickletools.genops(data):
            try:
                machine.step(opcode.name, argument)
            except _MALFORMED as error:
                raise _broken(f"not a sound pickle: byte {position}, {opcode.name}: {error}") from error
    except _MALFORMED as error:  # what genops raises for bytes that end early or are no opcode
        raise _broken(f"not a sound pickle: {error}") from error
    return machine.result()


def load_npy(path: Path) -> Any:
    """The array in an .npy file; of a single pickled object (`np.save` of a dict) that object.

    Raises SourceError for a file that is missing, cut, no .npy file, or holds other than plain data.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise SourceError(f"it cannot be read: {error.strerror}", remedy=_BROKEN_REMEDY) from error
    if data[:6] != np.lib.format.MAGIC_PREFIX:
        raise _broken(f"no .npy file: it starts with 0x{data[:6].hex()}")
    try:
        with path.open("rb") as file:
            version = np.lib.format.read_magic(file)
            read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
            shape, _, dtype = read(file)
            start = file.tell()
        if not dtype.hasobject:
            return np.load(path, allow_pickle=False)
    except (ValueError, EOFError, OSError) as error:
        raise _broken(f"not a sound .npy file: {error}") from error
    value = load(data[start:])
    if not isinstance(value, np.ndarray) or value.shape != shape:
        raise _broken(f"its header says an array of shape {shape}, it holds {type(value).__name__}")
    return value.item() if shape == () else value


class _Global:
    """A name that a pickle may use, and what is done when it is called."""

    def __init__(self, name: str, call: Callable[..., Any]) -> None:
        self.name, self.call = name, call


def _no_call(*arguments: Any) -> Any:
    raise ValueError("it is called like a function")


def _encode(text: str, encoding: str = "latin1") -> bytes:
    """How protocols 0 to 2 of Python 3 write bytes."""
    if not isinstance(text, str) or encoding not in ("latin1", "latin-1"):
        raise ValueError(f"{type(text).__name__} encoded as {encoding!r}")
    return text.encode("latin-1")


def _datetime(state: bytes) -> datetime.datetime:
    if not isinstance(state, bytes):
        raise ValueError("a datetime is 10 bytes")
    return datetime.datetime(state)  # type: ignore[arg-type,call-arg]  # the form that pickles hold, outside its stubs


def _collected(kind: Callable[..., Any]) -> Callable[..., Any]:
    """A container made of at most one list: what a set or an OrderedDict is in a pickle."""

    def make(*arguments: Any) -> Any:
        if len(arguments) > 1 or not all(type(argument) in (list, tuple, bytes) for argument in arguments):
            raise ValueError("it takes one list")
        return kind(*arguments)

    return make


_GLOBALS: dict[str, Callable[..., Any]] = {
    "numpy.ndarray": _no_call,
    "numpy.dtype": UnfinishedDtype,
    "numpy._core.multiarray._reconstruct": empty_array,
    "numpy._core.multiarray.scalar": scalar,
    "numpy._core.numeric._frombuffer": array_of_buffer,
    "_codecs.encode": _encode,
    "builtins.bytes": _collected(bytes),
    "builtins.bytearray": _collected(bytearray),
    "builtins.set": _collected(set),
    "builtins.frozenset": _collected(frozenset),
    "collections.OrderedDict": _collected(OrderedDict),
    "datetime.datetime": _datetime,
}
"""Every name that a pickle of plain data uses, and our own maker of the value."""

_RENAMED = {"__builtin__.": "builtins.", "numpy.core.": "numpy._core."}  # Python 2, NumPy 1


def _find(module: str, name: str) -> _Global:
    wanted = full = f"{module}.{name}"
    for old, new in _RENAMED.items():
        if full.startswith(old):
            full = new + full.removeprefix(old)
    if full not in _GLOBALS:
        raise SourceError(f"this file wants to run {wanted}", remedy=_REFUSED_REMEDY)
    return _Global(full, _GLOBALS[full])


_MARK = _Global("the mark", _no_call)
_CONSTANTS: dict[str, Callable[[], Any]] = {
    "NONE": lambda: None,
    "NEWTRUE": lambda: True,
    "NEWFALSE": lambda: False,
    "EMPTY_LIST": list,
    "EMPTY_TUPLE": tuple,
    "EMPTY_DICT": dict,
    "EMPTY_SET": set,
    "MARK": lambda: _MARK,
}
_VALUES = {
    *("INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4", "FLOAT", "BINFLOAT"),
    *("STRING", "BINSTRING", "SHORT_BINSTRING", "UNICODE", "SHORT_BINUNICODE", "BINUNICODE", "BINUNICODE8"),
    *("BINBYTES", "SHORT_BINBYTES", "BINBYTES8", "BYTEARRAY8"),
}
_TUPLES = {"TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}
_REMEMBER = {"PUT", "BINPUT", "LONG_BINPUT"}
_RECALL = {"GET", "BINGET", "LONG_BINGET"}


class _Machine:
    """The stack and the memo of the pickle language; see the comments in `pickletools` for what each opcode does."""

    def __init__(self) -> None:
        self.stack: list[Any] = []
        self.memo: dict[int, Any] = {}

    def step(self, opcode: str, argument: Any) -> None:
        if opcode in _VALUES:
            self.stack.append(argument)
        elif opcode in _CONSTANTS:
            self.stack.append(_CONSTANTS[opcode]())
        elif opcode == "MEMOIZE":
            self._remember(len(self.memo))
        elif opcode in _REMEMBER:
            self._remember(argument)
        elif opcode in _RECALL:
            self.stack.append(self.memo[argument])
        elif opcode in _TUPLES:
            self.stack.append(tuple(self.pop(_TUPLES[opcode])))
        elif opcode in _ACTIONS:
            _ACTIONS[opcode](self)
        elif opcode in ("GLOBAL", "INST"):
            module, _, name = argument.partition(" ")
            self.stack.append(_find(module, name))
        elif opcode not in ("PROTO", "FRAME", "STOP"):
            raise SourceError(f"this file uses the pickle opcode {opcode}", remedy=_REFUSED_REMEDY)

    def result(self) -> Any:
        """The value left on the stack, looked through for names that were never used up."""
        if len(self.stack) != 1:
            raise _broken(f"not a sound pickle: it leaves {len(self.stack)} values")
        seen: set[int] = set()
        waiting = list(self.stack)
        while waiting:
            value = waiting.pop()
            if isinstance(value, _Global):
                raise SourceError(f"this file holds {value.name}, which is no data", remedy=_REFUSED_REMEDY)
            if isinstance(value, UnfinishedDtype):
                raise _broken("not a sound pickle: a dtype without its state")
            inner = _inner(value)
            if inner and id(value) not in seen:
                seen.add(id(value))
                waiting.extend(inner)
        return self.stack[0]

    def _remember(self, key: int) -> None:
        self.memo[key] = self.stack[-1]
        if isinstance(self.stack[-1], UnfinishedDtype):
            self.stack[-1].keys.append(key)

    def pop(self, count: int) -> list[Any]:
        if len(self.stack) < count:
            raise IndexError("the stack is empty")
        values = self.stack[-count:]
        del self.stack[-count:]
        return values

    def pop_to_mark(self) -> list[Any]:
        values = []
        while (value := self.stack.pop()) is not _MARK:
            values.append(value)
        return values[::-1]

    def stack_global(self) -> None:
        module, name = self.pop(2)
        if not isinstance(module, str) or not isinstance(name, str):
            raise ValueError("the name of a global is no text")
        self.stack.append(_find(module, name))

    def reduce(self) -> None:
        function, arguments = self.pop(2)
        if not isinstance(function, _Global) or not isinstance(arguments, tuple):
            raise ValueError("there is nothing to call")
        self.stack.append(function.call(*arguments))

    def build(self) -> None:
        value, state = self.pop(2)
        if isinstance(value, np.ndarray):
            fill_array(value, state)
        elif isinstance(value, UnfinishedDtype):
            finished = value.finished(state)
            self.memo.update(dict.fromkeys(value.keys, finished))
            value = finished
        else:
            raise ValueError(f"{type(value).__name__} has no state")
        self.stack.append(value)

    def make_dict(self) -> None:
        values = self.pop_to_mark()
        self.stack.append({})
        self.set_items(values)

    def append(self, values: list[Any]) -> None:
        _expect(self.stack[-1], list)
        self.stack[-1].extend(values)

    def add(self, values: list[Any]) -> None:
        _expect(self.stack[-1], set)
        self.stack[-1].update(values)

    def set_items(self, values: list[Any]) -> None:
        _expect(self.stack[-1], dict)
        self.stack[-1].update(zip(values[::2], values[1::2], strict=True))


_ACTIONS: dict[str, Callable[[_Machine], Any]] = {
    "LIST": lambda m: m.stack.append(m.pop_to_mark()),
    "TUPLE": lambda m: m.stack.append(tuple(m.pop_to_mark())),
    "FROZENSET": lambda m: m.stack.append(frozenset(m.pop_to_mark())),
    "DICT": _Machine.make_dict,
    "APPEND": lambda m: m.append(m.pop(1)),
    "APPENDS": lambda m: m.append(m.pop_to_mark()),
    "ADDITEMS": lambda m: m.add(m.pop_to_mark()),
    "SETITEM": lambda m: m.set_items(m.pop(2)),
    "SETITEMS": lambda m: m.set_items(m.pop_to_mark()),
    "POP": lambda m: m.stack.pop(),
    "POP_MARK": lambda m: m.pop_to_mark(),
    "DUP": lambda m: m.stack.append(m.stack[-1]),
    "STACK_GLOBAL": _Machine.stack_global,
    "REDUCE": _Machine.reduce,
    "BUILD": _Machine.build,
}


def _expect(value: Any, kind: type) -> None:
    if not isinstance(value, kind):
        raise ValueError(f"{type(value).__name__} stands where a {kind.__name__} belongs")


def _inner(value: Any) -> list[Any]:
    """What a container holds."""
    if isinstance(value, dict):
        return [*value.keys(), *value.values()]
    if isinstance(value, list | tuple | set | frozenset):
        return list(value)
    return list(value.flat) if isinstance(value, np.ndarray) and value.dtype == object else []


def _broken(problem: str) -> SourceError:
    return SourceError(problem, remedy=_BROKEN_REMEDY)
