"""docs/add-a-robot.md is true: its commands are run in order, and what it shows is what they print.

A line "…" stands for any lines, "…" within a line for any text.
"""

import re
import shlex
from pathlib import Path

import pytest

PAGE = (Path(__file__).parents[1] / "docs" / "add-a-robot.md").read_text()


def shown_in(expected: list[str], printed: str) -> str:
    """What of the shown lines does not follow in what was printed; "" when all is there."""
    lines = printed.splitlines()
    at, skip = 0, False
    for line in expected:
        if line == "…":
            skip = True
            continue
        pattern = ".*".join(re.escape(part) for part in line.split("…"))
        there = [
            n for n in range(at, len(lines) if skip else min(at + 1, len(lines))) if re.fullmatch(pattern, lines[n])
        ]
        if not there:
            return f"{line!r} is not in\n{printed}"
        at, skip = there[0] + 1, False
    return "" if skip or at == len(lines) else f"{lines[at]!r} is printed, but not shown"


def commands() -> list[tuple[str, list[str]]]:
    """Each command of the page with the lines shown below it."""
    found: list[tuple[str, list[str]]] = []
    for block in re.findall(r"```console\n(.+?)```", PAGE, re.S):
        for line in block.splitlines():
            if line.startswith("$ "):
                found.append((line.removeprefix("$ rdt-data "), []))
            else:
                found[-1][1].append(line)
    return found


def answer(folder: Path) -> None:
    """What the page says to do between the steps: answer the questions; make a typo and a wrong rate to show."""
    draft = (folder / "my_robot.yaml").read_text()
    gone = re.search(r'`(ops: \["\?"\], )` is taken out', PAGE)[1]
    assert draft.count(gone) == 4
    spec = draft.replace(gone, "")
    (folder / "my_robot.yaml").write_text(spec)
    (folder / "typo.yaml").write_text(spec.replace("to: left_arm_joint_pos", "to: left_arm_joint_position", 1))
    (folder / "rate.yaml").write_text(spec.replace("control_hz: 10", "control_hz: 50"))


def test_the_page_shows_what_its_commands_print(tmp_path, monkeypatch, command):
    monkeypatch.chdir(tmp_path)
    ran = [text for text, _ in commands()]
    assert [text.split()[0] for text in ran] == [
        "demo-data",
        "spec",
        "spec",
        "spec",
        "spec",
        "convert",
        "verify",
        "lint",
    ]
    for text, expected in commands():
        arguments, _, file = text.partition(" > ")
        done = command(*shlex.split(arguments))
        printed = done.out
        if file:
            (tmp_path / file).write_text(done.out)
            printed = done.err
        elif done.code:
            printed = done.err
        assert shown_in(expected, printed) == "", text
        if file:
            body = re.search(rf"```yaml {re.escape(file)}\n(.+?)```", PAGE, re.S)[1].splitlines()
            assert shown_in(["…", *body], done.out) == ""
            answer(tmp_path)


@pytest.mark.parametrize(
    ("expected", "missing"), [(["a", "…", "c"], ""), (["a", "b…"], "'c' is printed"), (["b"], "'b' is not in")]
)
def test_what_is_not_printed_is_found(expected, missing):
    assert shown_in(expected, "a\nb1\nc").startswith(missing)
    assert bool(shown_in(expected, "a\nb1\nc")) == bool(missing)
