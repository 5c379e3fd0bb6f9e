"""The table of checks, and what is chosen of it.

A new check is a function in a `lint_*` file and a row there; its test is a row in `tests/test_lint.py`, which fails for
a check that has none.
"""

from collections.abc import Iterable

from rdt_data.errors import RdtError, unknown
from stats.lint_check import SEVERITIES, Check
from stats.lint_duplicates import DUPLICATES
from stats.lint_gripper import GRIPPER
from stats.lint_images import IMAGES
from stats.lint_motion import MOTION
from stats.lint_rotation import ROTATION
from stats.lint_rotation_order import ORDER
from stats.lint_timestamps import TIMESTAMPS
from stats.lint_values import VALUES
from stats.lint_velocity import VELOCITY
from stats.lint_words import WORDS

CHECKS: dict[str, Check] = {
    check.name: check
    for check in (*VALUES, *GRIPPER, *ROTATION, *ORDER, *VELOCITY, *TIMESTAMPS, *MOTION, *WORDS, *DUPLICATES, *IMAGES)
}
"""Every check by name, in the order they are reported in."""


def choose(only: Iterable[str] = (), skip: Iterable[str] = ()) -> tuple[Check, ...]:
    """The checks named in `only` (all, when it is empty) without those in `skip`. Raises RdtError for unknown names."""
    only, skip = tuple(only), set(skip)
    for name in (*only, *skip):
        if name not in CHECKS:
            raise unknown("check", name, CHECKS)
    chosen = tuple(check for name, check in CHECKS.items() if name not in skip and (not only or name in only))
    if not chosen:
        raise RdtError("every check is skipped", remedy="leave one of the names in --skip out")
    return chosen


def as_markdown() -> str:
    """The table as `docs/lint.md` shows it, worst first."""
    rows = ["| check | what | from where on | why there | what to do |", "| --- | --- | --- | --- | --- |"]
    for severity in SEVERITIES:
        for check in CHECKS.values():
            if check.severity == severity:
                cells = (f"**{check.name}** ({severity})", check.about, check.threshold, check.source, check.remedy)
                rows.append(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |")
    return "\n".join(rows)
