"""A draft as text: YAML with the evidence of each guess above its line and the question of each "?" behind it.

In: a `Sample` and its `Guesses`. Out: the text of a spec. What looks like a question in it is one: `"?"` is the value,
and the comment that begins with `# ?` says what is asked (`converters.drafts.questions` reads both).
"""

import json
import re
import textwrap
from collections.abc import Iterator

from converters.channels import exchanged
from converters.drafts.guess import Guesses, slots_of
from converters.drafts.runs import Run
from converters.drafts.sample import Sample
from converters.drafts.signs import Ops, joined
from converters.drafts.words import WORDS_KEYS, camera_slot, exterior_rank, side_of, words, words_rank

_PLAIN = re.compile(r"[A-Za-z_][A-Za-z0-9_./-]*")
_WIDTH = 118


def draft_text(sample: Sample, found: Guesses) -> str:
    """The whole draft."""
    name = sample.names[0] if sample.names else sample.source.name
    lines = [
        f"# Drafted by `rdt-data spec new` from {sample.looked_at} of {sample.total} episodes, {sample.steps} steps.",
        '# What stands above a line is the evidence for it. Every "?" is a question that the data cannot answer:',
        "# answer them all, then run `rdt-data spec check THIS_FILE --source SOURCE`.",
        *(f"# Not read: {problem}" for problem in sample.problems[:5]),
        *([f"# The readers {', '.join(sample.others)} know this source too (--reader)."] if sample.others else []),
        "",
        f"title: {_scalar(name)}",
        f"reader: {sample.reader}",
        *(
            [f"options: {{{', '.join(f'{k}: {_scalar(v)}' for k, v in sample.options.items())}}}"]
            if sample.options
            else []
        ),
        *_rate(found),
        *_cameras(sample),
        *_instruction(sample),
        *_fields("state", found.state, sample),
        *(_fields("recorded_action", found.commands, sample) if found.commands else []),
        *_unread(found),
    ]
    return "\n".join(lines) + "\n"


def _rate(found: Guesses) -> Iterator[str]:
    rate, why = found.rate
    yield from _comment(why)
    yield 'control_hz: "?"  # ? steps a second' if rate is None else f"control_hz: {rate:g}"
    if (timed := found.timestamps) is not None:
        said = f", unit: {timed.unit}" + (", optional: true" if timed.optional else "")
        yield f"timestamps: {{from: {_scalar(timed.key)}{said}}}  # lint compares control_hz with them"


def _cameras(sample: Sample) -> Iterator[str]:
    """One line a slot; cameras that get none are commented."""
    if not sample.frames:
        yield "cameras: {}  # none was found"
        return
    pair = any(
        side_of(key.split("/")[-1]) == "left" and camera_slot(key, pair=True) == "left_wrist" for key in sample.frames
    )
    yield "cameras:"
    taken: set[str] = set()
    for key in sorted(sample.frames, key=lambda key: (exterior_rank(key), key)):
        slot = camera_slot(key, pair=pair)
        size = (
            f"{sample.frames[key][0].shape[1]}x{sample.frames[key][0].shape[0]}" if sample.frames[key] else "unreadable"
        )
        what = f"{size}, {'encoded' if key in sample.encoded else 'pixels'}"
        if slot in taken:
            yield f"  # {slot}: {_scalar(key)}  # {what}; the layout has one such camera"
        else:
            taken.add(slot)
            yield from _camera(sample, key, slot, what)


def _camera(sample: Sample, key: str, slot: str, what: str) -> Iterator[str]:
    texts = [text for key in _instruction_keys(sample)[:1] for text in sample.texts[key]]
    why = exchanged(sample.frames[key], " ".join(texts)) if key in sample.encoded else None
    named = "" if slot == "exterior" else ", by its name"
    if why is None:
        yield f"  {slot}: {_scalar(key)}  # {what}{named}"
        return
    yield from _comment(f"red and blue look exchanged: {why}", "  ")
    if "instruction names" in why:
        yield f"  {slot}: {{from: {_scalar(key)}, channels: bgr}}  # {what}{named}"
    else:
        yield f'  {slot}: {{from: {_scalar(key)}, channels: "?"}}  # ? rgb, or bgr if the colours are wrong'


def _instruction_keys(sample: Sample) -> list[str]:
    """Keys of texts that read like instructions, the likeliest first."""

    def likely(key: str) -> bool:
        spoken = any(" " in text for text in sample.texts[key]) or words_rank(key) < len(WORDS_KEYS)
        return spoken and not {"path", "id"} & set(words(key))

    keys = [key for key in sample.texts if any(text.strip() for text in sample.texts[key]) and likely(key)]
    return sorted(keys, key=lambda key: (words_rank(key), key))


def _instruction(sample: Sample) -> Iterator[str]:
    keys = _instruction_keys(sample)
    if not keys:
        yield from _comment("no text that reads like an instruction")
        yield 'instruction: {from: "?"}  # ? the key of the words, or write {text: What the robot does.}'
        return
    for key in keys:
        texts = sample.texts[key]
        yield from _comment(
            f"{key}: {len(set(texts))} different in {len(texts)} episodes, {next(t for t in texts if t.strip())!r}"
        )
    blank = sum(not text.strip() for text in sample.texts[keys[0]]) + sample.looked_at - len(sample.texts[keys[0]])
    also = (", code_points: true" if keys[0] in sample.codes else "") + (", missing: empty" if blank else "")
    said = f"  # {blank} of {sample.looked_at} episodes have none" if blank else ""
    yield f"instruction: {{from: {_scalar(keys[0])}{also}}}{said}"


def _fields(section: str, runs: list[Run], sample: Sample) -> Iterator[str]:
    yield f"{section}:"
    if not runs:
        yield from _comment("nothing was recognised; the values that there are stand below", "  ")
        yield '  - {from: "?", unit: "?", to: "?"}  # ? which value, its unit and its slots'
    before = ""
    for run in runs:
        values = sample.values[run.key]
        if run.key != before:
            yield f"  # {run.key}: {values}"
            before = run.key
        yield from _comment(run.sign.why, "  ")
        x = joined(values.cols(run.start, run.stop))
        shown = f"in [{x.min():.4g}, {x.max():.4g}]"
        cols = "" if run.width == values.width and _fills(run) else f", cols: [{run.start}, {run.stop}]"
        ops = f", ops: {_ops(run.sign.ops)}" if run.sign.ops else ""
        gaps = ", gaps: true" if values.gaps else ""
        asked = f"  # ? {run.sign.question}" if run.sign.question else f"  # {shown}"
        to = slots_of(run)
        unit, to = (_scalar(word) if word != "1" else word for word in (run.sign.unit, to))
        yield f"  - {{from: {_scalar(run.key)}{cols}, unit: {unit}{ops}, to: {to}{gaps}}}{asked}"


def _fills(run: Run) -> bool:
    """Whether without `cols` the same columns are meant: groups of joints take fewer, so they have to say."""
    return run.role not in ("joints", "joint_vel", "")


def _ops(ops: Ops) -> str:
    shown = (
        _scalar(op) if isinstance(op, str) else "{" + ", ".join(f"{name}: {value}" for name, value in op.items()) + "}"
        for op in ops
    )
    return f"[{', '.join(shown)}]"


def _unread(found: Guesses) -> Iterator[str]:
    if found.unread:
        yield ""
        yield "# Not used. A line of its own would be: - {from: KEY, cols: [0, 3], unit: UNIT, ops: [], to: SLOTS}"
        for key, what in sorted(found.unread.items()):
            yield f"#   {key}: {what}"


def _comment(text: str, indent: str = "") -> Iterator[str]:
    yield from textwrap.wrap(text, _WIDTH, initial_indent=f"{indent}# ", subsequent_indent=f"{indent}#   ")


def _scalar(text: str) -> str:
    """A text as YAML takes it for a text, quoted where it has to be."""
    plain = _PLAIN.fullmatch(text) and text.lower() not in ("null", "true", "false", "yes", "no", "on", "off", "y", "n")
    return text if plain else json.dumps(text, ensure_ascii=False)
