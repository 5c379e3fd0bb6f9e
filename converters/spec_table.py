"""A spec as text for people: what is read from where, in which unit, and where it ends up."""

import textwrap
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from converters.spec_model import Correction, FieldSpec, Instruction, Timestamps
from rdt_data import layout

if TYPE_CHECKING:
    from converters.spec import DatasetSpec


def as_table(spec: "DatasetSpec") -> str:
    """The whole spec, a line per fact and a row per field."""
    lines = [
        f"{spec.name}: {spec.title}",
        *_facts(spec),
        *(["", "refused", *_wrapped(spec.refused)] if spec.refused else []),
        *(["", "state", *_rows(spec.state), "", *_action(spec)] if spec.state else []),
        *(line for number, fix in enumerate(spec.corrections) for line in _correction(f"correction {number}", fix)),
        *(line for fix in spec.applied for line in _correction("corrected", fix)),
    ]
    if irreversible := spec.irreversible():
        lines += ["", "cannot be turned back into the robot's own values", *(f"  {line}" for line in irreversible)]
    if spec.notes:
        lines += ["", "notes", *_wrapped(spec.notes)]
    return "\n".join(line.rstrip() for line in lines)


def _facts(spec: "DatasetSpec") -> list[str]:
    facts = [
        ("robot", spec.robot or "-"),
        ("reader", " ".join([spec.reader, *(f"{key}={value}" for key, value in spec.options.items())])),
        *([("patch", f"{spec.patch}: {spec.patch.reason}")] if spec.patch is not None else []),
        ("control rate", f"{spec.control_hz:g} Hz"),
        *([("timestamps", _timestamps(spec.timestamps))] if spec.timestamps is not None else []),
        *(
            (
                slot,
                " or ".join(camera.from_)
                + (", optional" if camera.optional else "")
                + (", encoded frames are B, G, R" if camera.channels == "bgr" else ""),
            )
            for slot, camera in spec.cameras.items()
        ),
        ("instruction", _instruction(spec.instruction)),
        *(("keep only if", f"{rule}; else: {rule.reason}") for rule in spec.keep_if),
        *([("source of facts", " ".join(spec.source.split()))] if spec.source else []),
    ]
    return [f"  {name:15}  {value}" for name, value in facts]


def _timestamps(timestamps: Timestamps) -> str:
    return f"{timestamps.from_} in {timestamps.unit}" + (", optional" if timestamps.optional else "")


def _instruction(instruction: Instruction) -> str:
    where = [*instruction.from_, *([f'"{instruction.text}"'] if instruction.text is not None else [])]
    if instruction.text is None:
        where.append("an error" if instruction.missing == "error" else "empty")
    cleaned = "cleaned as published" if instruction.clean == "rdt" else "not cleaned"
    replaced = "".join(f', "{old}" becomes "{new}"' for old, new in instruction.replace)
    where[-1] += f", also {', '.join(instruction.also)}" if instruction.also else ""
    return f"{' or '.join(where)}{', as code points' if instruction.code_points else ''}; {cleaned}{replaced}"


def _action(spec: "DatasetSpec") -> list[str]:
    follows = "the state of the next step, the last one repeated"
    if spec.recorded_action is None:
        return [f"action: {follows} (recorded commands do not fit the layout)"]
    default = follows if spec.action == "next_state" else "as recorded"
    return [f"action: by default {default}", "", "recorded action", *_rows(spec.recorded_action)]


def _correction(label: str, fix: Correction) -> list[str]:
    match, change = (_said(part) for part in (fix.match, fix.set))
    where = f" where {match}" if match else ""
    does = [*([f"set {change}"] if change else []), *(f"add {_said(field)}" for field in fix.add)]
    why = [*_wrapped(fix.reason), *_wrapped(f"Evidence: {fix.evidence}")]
    return ["", f"{label}: {fix.section}{where}: {'; '.join(does)}", *why]


def _said(part: Mapping[str, object]) -> str:
    return ", ".join(f"{key}: {_plain(value)}" for key, value in part.items())


def _wrapped(text: str) -> list[str]:
    return textwrap.wrap(" ".join(text.split()), 110, initial_indent="  ", subsequent_indent="  ")


def _plain(value: object) -> str:
    if isinstance(value, Mapping):
        return f"{{{_said(value)}}}"
    return f"[{', '.join(map(_plain, value))}]" if isinstance(value, list) else str(value)


def _rows(fields: Sequence[FieldSpec]) -> list[str]:
    rows = [("slots", "to", "from", "unit", "ops"), *map(_row, fields)]
    widths = [max(len(row[i]) for row in rows) for i in range(5)]
    return ["  " + "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in rows]


def _row(field: FieldSpec) -> tuple[str, str, str, str, str]:
    indices = field.indices
    mask = np.zeros(layout.DIM, np.bool_)
    mask[list(indices)] = True
    run = indices == tuple(range(indices[0], indices[-1] + 1))
    slots = f"{indices[0]}-{indices[-1]}" if run and len(indices) > 1 else ", ".join(map(str, indices))
    to = ", ".join(layout.describe(mask) if run else map(layout.preferred_name, indices))
    cols = f"[{':'.join(map(str, field.cols))}]" if field.cols else ""
    marks = [word for word, on in (("optional", field.optional), ("gaps", field.gaps)) if on]
    ops = ", ".join(map(str, field.ops)) + (f" ({', '.join(marks)})" if marks else "")
    return slots, to, field.from_ + cols, field.unit, ops.strip()


def markdown_row(spec: "DatasetSpec") -> str:
    """A row of the README's table: name, reader, rate, cameras, what the state fills, corrections, title."""
    cameras = ", ".join(spec.cameras) or "none"
    fills = "refused, see `spec show`" if spec.refused else ", ".join(_families(spec))
    fixes = str(len(spec.corrections)) if spec.corrections else ""
    return f"| `{spec.name}` | {spec.reader} | {spec.control_hz:g} | {cameras} | {fills} | {fixes} | {spec.title} |"


MARKDOWN_HEAD = (
    "| spec | reader | Hz | cameras | the state holds | corrections | what |",
    "| --- | --- | --- | --- | --- | --- | --- |",
)


def _families(spec: "DatasetSpec") -> list[str]:
    """The kinds of slots a state fills, in a word each."""
    words = {"arm_joint_pos": "joints", "gripper": "gripper", "arm_joint_vel": "joint velocities", "eef_pos": "pose"}
    words |= {
        "eef_ortho6d": "pose",
        "eef_rot6d": "pose",
        "eef_lin_vel": "velocity",
        "eef_ang_vel": "velocity",
        "base": "base",
    }
    ranges = layout.describe(spec.mask("state"))
    found = [word for name in ranges for part, word in words.items() if part in name]
    return list(dict.fromkeys(found))
