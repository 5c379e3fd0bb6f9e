"""What lint found in a dataset, grouped by check, worst first; and what it looked at.

In: `About`. Out: an HTML section. Severity is told by a word and a sign, not by colour alone.
"""

from rdt_data.markup import Content, Html, element, joined
from stats.lint_check import SEVERITIES, Check, Finding, Severity
from stats.lint_table import CHECKS
from stats.report_data import About
from stats.report_html import counted, folded, four, number, said, table

SHOWN, LISTED = 10, 100
"""The findings of one check that are shown, and the most that are listed."""

SIGNS = {"error": "✕", "warning": "▲", "info": "i"}

_COLUMNS = ("Where", "Step", "Slot or camera", "Found", "Expected")


def findings(one: About) -> Html:
    """Findings by check."""
    report = one.lint
    by_check: dict[str, list[Finding]] = {}
    for finding in report.findings:
        by_check.setdefault(finding.check, []).append(finding)
    order = sorted(by_check, key=lambda name: (SEVERITIES.index(CHECKS[name].severity), -len(by_check[name])))
    words = f"{len(report.checks)} checks: {counts(one)} found. {_sentence(report.sample)}"
    clean = [name for name in report.checks if name not in by_check and name not in report.not_applicable]
    return element(
        "figure",
        element("figcaption", words),
        [_group(CHECKS[name], by_check[name], position == 0) for position, name in enumerate(order)],
        _clean(clean),
        _without(report.not_applicable),
        data_figure="findings",
    )


def counts(one: About) -> str:
    """ "2 errors, 1 warning", or "nothing"."""
    found = [(severity, one.lint.count(severity)) for severity in SEVERITIES]
    words = [counted(count, name, "info" if name == "info" else None) for name, count in found if count]
    return ", ".join(words) or "nothing"


def _group(check: Check, found: list[Finding], opened: bool) -> Html:
    rows = [_row(finding) for finding in found[:LISTED]]
    rest = rows[SHOWN:]
    left = len(found) - LISTED
    more = f"{left:,} more are not listed here: rdt-data lint STORE --only {check.name} --json lists all."
    remedies = dict.fromkeys(finding.remedy for finding in found)
    return folded(
        joined([_badge(check.severity, check.name), element("span", counted(len(found), "finding"), class_="count")]),
        element("p", _sentence(check.about)),
        element("p", "From where on: ", f"{check.threshold}.", class_="note"),
        (element("p", element("strong", "To do: "), said(remedy)) for remedy in list(remedies)[:3]),
        _grid(f"{check.name}: findings", rows[:SHOWN]),
        folded(f"{len(rest)} more", _grid(f"{check.name}: more findings", rest), class_="more") if rest else None,
        element("p", more, class_="note") if left > 0 else None,
        opened=opened,
        class_="finding",
    )


def _badge(severity: Severity, words: str) -> Html:
    sign = element("i", SIGNS[severity], aria_hidden="true")
    return element("span", sign, f" {severity}: {words}", class_=f"badge {severity}")


def _grid(label: str, rows: list[list[Content]]) -> Html:
    """A table without the columns that are empty in every row."""
    used = [column for column in range(len(_COLUMNS)) if any(row[column] != "" for row in rows)]
    head = [_COLUMNS[column] for column in used]
    return table(label, head, [[row[column] for column in used] for row in rows], "findings")


def _row(finding: Finding) -> list[Content]:
    where: Content = "the store"
    if finding.episode is not None:
        where = joined([f"episode {finding.episode} ", element("span", said(str(finding.id)), class_="id")])
    steps = "" if finding.step is None else f"{finding.step}"
    if finding.step is not None and finding.count > 1:
        steps = f"{finding.step} and {finding.count - 1} more"
    value = said(finding.value) if isinstance(finding.value, str) else number(finding.value, four(finding.value))
    return [where, steps, finding.slot or finding.camera or "", value, said(finding.expected)]


def _clean(names: list[str]) -> Html | None:
    if not names:
        return None
    rows = [(element("code", name), CHECKS[name].about) for name in names]
    grid = table("Checks that found nothing", ("Check", "It would have found"), rows)
    return folded(f"{counted(len(names), 'check')} found nothing", grid, class_="more")


def _without(needs: dict[str, str]) -> Html | None:
    if not needs:
        return None
    rows = [(element("code", name), f"needs {words}") for name, words in needs.items()]
    grid = table("Checks that do not apply", ("Check", "Why not"), rows)
    return folded(f"{counted(len(needs), 'check')} without what they need in this dataset", grid, class_="more")


def _sentence(words: str) -> str:
    return f"{words[:1].upper()}{words[1:]}."
