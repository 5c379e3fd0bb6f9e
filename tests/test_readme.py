"""The README is true: its table is the specs', its commands exist."""

from pathlib import Path

from typer.testing import CliRunner

from cli.data import app
from converters import catalog
from converters.spec_table import markdown_row
from rdt_data.mixture_file import load_mixture

README = (Path(__file__).parents[1] / "README.md").read_text()


def test_every_row_of_the_dataset_table_is_that_of_its_spec():
    """A new spec is one new file: its row appears with the next `make docs`. No row is ever wrong."""
    table = README.split("<!-- datasets")[1].split("<!-- end of datasets")[0]
    rows = {line.split("`")[1]: line for line in table.splitlines() if line.startswith("| `")}
    assert rows.keys() >= load_mixture("rdt_pretrain").datasets.keys()
    for name, row in rows.items():
        assert row == markdown_row(catalog.get(name)), "run `make docs`"


def test_every_command_the_readme_shows_exists():
    shown = {line.split()[1] for line in README.splitlines() if line.startswith("rdt-data ")}
    assert shown >= {"convert", "inspect", "verify", "demo-data", "spec"}
    for name in shown:
        result = CliRunner().invoke(app, [name, "--help"])
        assert result.exit_code == 0, result.output
