"""Write the embeddings of a store as the `.pt` files that the published RDT code reads.

In: a store whose texts are embedded. Out, in one folder:
    lang_embed_<n>.pt       one text, a tensor (L, D) in the stored dtype, as `scripts/encode_lang_batch.py` of
                            RoboticsDiffusionTransformer saves it; `torch.load(path, weights_only=True)` opens it
    empty_lang_embed.pt     the empty instruction, which its trainer puts in the place of masked language
    instructions.json       for each file its text and the ids of the episodes that it belongs to

<n> counts the texts of the store in the order in which its episodes need them, the phrasings of an episode after its
instruction. So for a store of one task the numbers are the published ones: 0 the instruction, then the simplified, then
the expanded ones. (`scripts/encode_lang.py` saves another form, a dictionary for one robot session; not written here.)
"""

import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import fsspec

from rdt_data.errors import RdtError, unknown
from rdt_data.language import FOLDER, Language, language_of
from rdt_data.staging import replace_file
from rdt_data.store import Dataset, open_dataset
from rdt_data.walk import walk

EMPTY_FILE = "empty_lang_embed.pt"
TABLE = "instructions.json"

_LOCAL = fsspec.filesystem("file")


def check_form(form: str | None, out: Path | None) -> None:
    """Raises RdtError for a form that is not written here, or a folder without a form."""
    if form is not None and form != "pt":
        raise unknown("--export form", form, ("pt",))
    if form is None and out is not None:
        raise RdtError(f"--out {out} without --export", remedy="add --export pt, or leave --out out")


def export_stores(stores: Sequence[str], encoder: str, out: Path | None) -> dict[str, int]:
    """Export each store: folder -> tensors written.

    encoder: a key. out: the folder of one store, with a folder of its name for each of several; None: STORE/language.
    """
    done = {}
    for store in stores:
        dataset = open_dataset(store)
        name = Path(dataset.path).name.removesuffix(".zarr")
        folder = out / name if out and len(stores) > 1 else out or Path(dataset.path) / FOLDER / f"{encoder}-pt"
        if str(folder) in done or (out is None and "file" not in dataset.fs.protocol):
            raise RdtError(f"{store} cannot be exported to {folder}", remedy="give a folder of its own with --out")
        done[str(folder)] = export_pt(dataset, language_of(dataset, encoder), folder)
    return done


def export_pt(dataset: Dataset, language: Language, folder: Path) -> int:
    """Write the files of one store into `folder`, replacing what an earlier export wrote; returns how many tensors.

    Raises RdtError when the folder holds something else, StoreError when a text has no embedding.
    """
    _refuse_foreign(folder)
    episodes: dict[str, list[str]] = {}
    for episode in walk(dataset):
        for text in language.wordings(episode):
            episodes.setdefault(text, []).append(episode.id)
    names = {text: f"lang_embed_{number}.pt" for number, text in enumerate(episodes)}
    folder.mkdir(parents=True, exist_ok=True)
    (folder / TABLE).unlink(missing_ok=True)  # it is written last: with it the folder is whole
    for old in folder.glob("lang_embed_*.pt"):
        old.unlink()
    for text, name in [*names.items(), ("", EMPTY_FILE)]:
        replace_file(_LOCAL, str(folder / name), _saved(language, text))
    table = [{"file": names[text], "instruction": text, "episodes": ids} for text, ids in episodes.items()]
    about = {"model": language.model, "dtype": language.encoder.dtype, "files": table}
    replace_file(_LOCAL, str(folder / TABLE), json.dumps(about, indent=1, ensure_ascii=False).encode())
    return len(names) + 1


def _saved(language: Language, text: str) -> bytes:
    """The bytes that torch.save writes for the embedding of a text."""
    import torch

    stored: Any = language.stored(text).copy()  # torch wants memory that it may write
    tensor = torch.from_numpy(stored.view("<i2")).view(torch.bfloat16) if language.encoder.dtype == "bf16" else None
    file = io.BytesIO()
    torch.save(torch.from_numpy(stored) if tensor is None else tensor, file)
    return file.getvalue()


def _refuse_foreign(folder: Path) -> None:
    if folder.is_file():
        raise RdtError(f"{folder} is a file", remedy="give the path of a folder")
    names = [path.name for path in folder.iterdir()] if folder.is_dir() else []
    foreign = [name for name in names if name != TABLE and "lang_embed" not in name]
    if foreign:
        raise RdtError(f"{folder} holds other files ({foreign[0]})", remedy="give a new folder")
