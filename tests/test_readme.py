"""The README is true: its table is the specs', its commands exist."""

import re
from pathlib import Path

from typer.testing import CliRunner

from cli.data import app
from converters import catalog

README = (Path(__file__).parents[1] / "README.md").read_text()


def test_the_dataset_table_lists_every_spec_as_it_is():
    rows = re.findall(r"^\| `(\w+)` \| (\w+) \| ([\d.]+) \| (.+) \|$", README, re.MULTILINE)
    specs = [catalog.get(name) for name in catalog.names()]
    assert rows == [(spec.name, spec.reader, f"{spec.control_hz:g}", spec.title) for spec in specs]


def test_every_command_the_readme_shows_exists():
    shown = {line.split()[1] for line in README.splitlines() if line.startswith("rdt-data ")}
    assert shown >= {"convert", "inspect", "verify", "demo-data", "spec"}
    for name in shown:
        result = CliRunner().invoke(app, [name, "--help"])
        assert result.exit_code == 0, result.output
