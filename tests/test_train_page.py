"""docs/train.md is true: it lists every key of a run with its default, every flag, and what a resumed run may change."""

from pathlib import Path
from typing import Any

import typer.main
import yaml

from cli.train import app
from rdt_model.run_config import LoraPart, RunConfig
from rdt_model.train import MAY_CHANGE

PAGE = (Path(__file__).parents[1] / "docs/train.md").read_text()


def test_every_key_is_listed_with_its_default():
    rows = (line.split("|") for line in PAGE.split("## The configuration")[1].split("\n## ")[0].splitlines())
    listed = {row[1].strip(" `"): row[2].strip() for row in rows if len(row) > 3 and row[1].startswith(" `")}
    run = RunConfig(data=("a.zarr",), out="run").model_dump(mode="json")
    defaults = flat({**run, "data": None}) | flat(LoraPart(rank=1).model_dump(mode="json"), "lora.")
    assert listed.keys() == defaults.keys()
    required = {key for key, told in listed.items() if told == "required"}
    assert required == {"out", "lora.rank"}
    for key in listed.keys() - required:
        assert yaml.safe_load(listed[key].strip("`")) == defaults[key], key


def test_every_flag_is_told():
    command: Any = typer.main.get_command(app)
    flags = [name for option in command.commands["train"].params for name in option.opts if name.startswith("--")]
    assert "--resume" in flags
    assert [flag for flag in flags if f"`{flag}" not in PAGE] == []


def test_what_a_resumed_run_may_change_is_told():
    told = PAGE.split("These may change:")[1].split("For anything else")[0]
    assert [key for key in MAY_CHANGE if f"`{key.removesuffix('.')}`" not in told] == []


def flat(data: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Every key of nested sections, and its value."""
    found: dict[str, Any] = {}
    for key, value in data.items():
        found |= flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {prefix + key: value}
    return found
