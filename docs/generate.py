"""Write what the documentation takes from the code: the README's table of datasets, the schema of the spec format.

    python docs/generate.py        (make docs)

tests/test_readme.py and tests/test_spec_schema.py fail when either is out of date.
"""

from pathlib import Path

from converters import catalog
from converters.spec_table import MARKDOWN_HEAD, markdown_row

ROOT = Path(__file__).parents[1]
BEGIN, END = "<!-- datasets: made by docs/generate.py -->", "<!-- end of datasets -->"


def datasets_table() -> str:
    """The table, with its marks."""
    return "\n".join([BEGIN, "", *MARKDOWN_HEAD, *(markdown_row(catalog.get(n)) for n in catalog.names()), "", END])


def main() -> None:
    readme = ROOT / "README.md"
    text = readme.read_text()
    start, stop = text.index(BEGIN), text.index(END) + len(END)
    readme.write_text(text[:start] + datasets_table() + text[stop:])


if __name__ == "__main__":
    main()
