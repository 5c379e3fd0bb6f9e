"""What an episode is, how it is stored, and how it reaches the trainer. `import rdt_data` is light."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rdt_data.errors import RdtError as RdtError
    from rdt_data.feed import Feed as Feed
    from rdt_data.mixture_file import Mixture as Mixture
    from rdt_data.store import Dataset as Dataset
    from rdt_data.store import open_dataset as open_dataset

_PUBLIC = {
    "Dataset": "rdt_data.store",
    "Feed": "rdt_data.feed",
    "Mixture": "rdt_data.mixture_file",
    "RdtError": "rdt_data.errors",
    "open_dataset": "rdt_data.store",
}
__all__ = ["Dataset", "Feed", "Mixture", "RdtError", "open_dataset"]


def __getattr__(name: str) -> Any:
    """Import the public names when they are first used: the commands must answer `--help` at once."""
    if name not in _PUBLIC:
        raise AttributeError(f"module 'rdt_data' has no attribute {name!r}")
    import importlib

    return getattr(importlib.import_module(_PUBLIC[name]), name)
