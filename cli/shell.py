"""What every command shares: how errors, results and progress reach the terminal."""

import json
import sys
from collections.abc import Callable
from dataclasses import asdict, is_dataclass
from typing import Any

from rdt_data.errors import RdtError

FAILED = 1
QUARANTINED = 3
INTERRUPTED = 130


def run(app: Callable[[], Any]) -> None:
    """Run a typer application; an RdtError is printed without a traceback and exits 1."""
    try:
        app()
    except RdtError as error:
        if "--json" in sys.argv:
            print(json.dumps({"error": error.problem, "fix": error.remedy, "message": str(error)}))
        print(f"error: {error}", file=sys.stderr)
        raise SystemExit(FAILED) from None


def print_json(value: Any) -> None:
    """Print a dataclass or plain data as one JSON document."""
    print(as_text(value))


def as_text(value: Any) -> str:
    """The JSON of a dataclass or of plain data."""
    return json.dumps(asdict(value) if is_dataclass(value) and not isinstance(value, type) else value, indent=1)


def human_bytes(count: float) -> str:
    """1536 -> "1.5 kB" (powers of 1000, as disks are sold)."""
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.1f} TB"
