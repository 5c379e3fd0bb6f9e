"""What a run that continues a store must find unchanged: its command, and the sources of the parts it has finished.

In: what was written down then and what holds now. Out: nothing, or a StoreError that shows both. Plain data only: where
the store lies is not known here.
"""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from rdt_data.errors import StoreError


def refuse_other_command(dest: object, now: Mapping[str, Any], then: Mapping[str, Any]) -> None:
    """now: the header of a run; then: the attributes of the store. Raises StoreError with every value that differs."""
    lines = []
    for key in now:
        for name, new, old in _leaves(key, now[key], then.get(key)):
            lines.append(f"  {name}: then {old!r}, now {new!r}")
    if lines:
        differences = "\n".join(line if len(line) < 300 else line[:300] + " …" for line in lines)
        raise StoreError(
            f"{dest} was begun by a different command:\n{differences}",
            remedy="repeat the first command to continue it, choose another destination, or use --overwrite",
        )


def refuse_changed_source(
    dest: object, part: int, now: Mapping[str, Any] | None, then: Mapping[str, Any] | None
) -> None:
    """now, then: what a finished part is made from, entries of two plans; None where a plan has no such part."""
    if now != then:
        raise StoreError(
            f"{dest}: the source of part {part} has changed since it was converted:\n"
            f"  then {_only_in(then, now)}\n  now  {_only_in(now, then)}",
            remedy="convert to another destination, or start again with --overwrite",
        )


def _leaves(name: str, now: Any, then: Any) -> list[tuple[str, Any, Any]]:
    """The innermost values that differ, with their dotted names."""
    if isinstance(now, dict) and isinstance(then, dict):
        keys = list(now) + [key for key in then if key not in now]
        return [leaf for key in keys for leaf in _leaves(f"{name}.{key}", now.get(key), then.get(key))]
    return [] if now == then else [(name, now, then)]


def _only_in(entry: Mapping[str, Any] | None, other: Mapping[str, Any] | None) -> str:
    """The sources of one part that differ from those of another plan, in words."""
    if entry is None:
        return "nothing (the source has fewer files)"
    differing = [row for row in entry["sources"] if other is None or row not in other["sources"]]
    lines = [f"{file}, episodes {a}:{b}, {size} bytes, of {_time(ns)}" for file, a, b, size, ns in differing[:3]]
    return "; ".join(lines) + (f"; and {len(differing) - 3} more" if len(differing) > 3 else "")


def _time(ns: int) -> str:
    return f"{datetime.fromtimestamp(ns // 10**9):%Y-%m-%d %H:%M:%S}.{ns % 10**9:09}"
