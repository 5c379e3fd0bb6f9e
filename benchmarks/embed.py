"""How much faster embed-lang is than one instruction at a time, and than batches of a fixed number of texts.

    python benchmarks/embed.py [--texts 5000] [--width 128] [--layers 4] [--threads N] [--repeats 3] [--json]

Instructions have the lengths of real ones in tokens (T5's tokenizer makes 1.3 a word): most are short commands (median
12 tokens), one in six is an expanded phrasing (median 45), a few are long. The encoder is a seeded T5; its tokens are
bytes, so a text of n - 1 letters has n tokens. All three ways use the same texts in the same order, in fp32, and keep
what they compute:

one      a text at a time, tokenized and encoded alone, saved as one .pt file each, as the published script does
fixed    32 texts at a time in the given order, padded to the longest of them, saved as one .pt file each
ours     `embed` as the command runs it: texts from a store, tokens, batches, loading the model, committing

Every figure is the best of `--repeats` runs in turn, in seconds. `padding` is the share of tokens that were padding.
The largest difference between `ours` and `one` is printed; it must be below 1e-4.
"""

import argparse
import json
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch

from rdt_data.episode import Episode
from rdt_data.language import language_of
from rdt_data.ledger import Ledger, commit
from rdt_data.parts import PartWriter
from stats.embed import EmbedReport, Options, embed
from stats.encoder import Encoder, Setup, Tokenizer
from stats.seeded_t5 import write_seeded_t5

LETTERS = np.frombuffer(b"abcdefghijklmnopqrstuvwxyz     ", np.uint8)
FIXED = 32
MAX_LENGTH = 1024


def instructions(count: int) -> list[str]:
    """Different texts with the lengths of real ones."""
    rng = np.random.default_rng(0)
    expanded = rng.random(count) < 1 / 6
    tokens = np.exp(rng.normal(np.where(expanded, np.log(45), np.log(12)), np.where(expanded, 0.35, 0.45)))
    lengths = np.clip(np.rint(tokens).astype(int), 4, MAX_LENGTH) - 1
    texts = dict.fromkeys(bytes(rng.choice(LETTERS, length)).decode() for length in lengths)
    return list(texts)


def write_store(dest: Path, texts: list[str]) -> None:
    """A finished store without cameras, an episode of one step for each text."""
    header = {"dataset": "made_up", "control_hz": 5.0, "cameras": {}, "request": {}, "spec": {}, "spec_text": ""}
    zeros, mask = np.zeros((1, 128), np.float32), np.zeros(128, np.bool_)
    with Ledger(dest, header, [{"sources": ["0"]}]) as ledger:
        writer = PartWriter(ledger.path(0), {})
        for number, text in enumerate(texts):
            writer.add(Episode(str(number), "none", zeros, zeros, mask, mask, text, text, 5.0), {})
        writer.close({"filtered": [], "quarantined": []})
        commit(ledger.path(0), dest, 0)
        ledger.finish({"parts": [[len(texts), len(texts)]]})


def in_groups(
    size: int, tokenizer: Tokenizer, encoder: Encoder, texts: list[str], folder: Path
) -> Iterator[tuple[str, np.ndarray]]:
    """Encode `size` texts at a time, in their order, and save each embedding as a file."""
    for start in range(0, len(texts), size):
        group = texts[start : start + size]
        ids = [one.ids for one in tokenizer(group)]
        for number, array in enumerate(encoder(ids), start):
            torch.save(torch.from_numpy(array.copy()), folder / f"lang_embed_{number}.pt")
            yield texts[number], array


def seconds(run: Callable[[], object]) -> float:
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


def measure(texts: list[str], model: Path, device: str, repeats: int, work: Path) -> dict[str, float]:
    """Name -> figure."""
    setup, options = Setup(str(model), None, "fp32", device), Options(str(model), dtype="fp32", device=device)
    loaded = Tokenizer(setup, MAX_LENGTH), Encoder(setup)
    alone: dict[str, np.ndarray] = {}
    taken: dict[str, list[float]] = {"one": [], "fixed": [], "ours": [], "ours again": []}
    for repeat in range(repeats):
        store, files = work / f"{repeat}.zarr", work / f"{repeat}"
        write_store(store, texts)
        files.mkdir()
        list(in_groups(FIXED, *loaded, texts[:256], files))  # warms up
        taken["one"].append(seconds(lambda files=files: alone.update(in_groups(1, *loaded, texts, files))))
        taken["fixed"].append(seconds(lambda files=files: list(in_groups(FIXED, *loaded, texts, files))))
        reports: list[EmbedReport] = []
        taken["ours"].append(seconds(lambda store=store, to=reports: to.append(embed([str(store)], options))))
        taken["ours again"].append(seconds(lambda store=store: embed([str(store)], options)))
    language = language_of(str(store))
    lengths = [len(alone[text]) for text in texts]
    groups = [lengths[start : start + FIXED] for start in range(0, len(lengths), FIXED)]
    best = {name: min(values) for name, values in taken.items()}
    return {
        "texts": len(texts),
        "tokens": sum(lengths),
        **{f"{name}, s": value for name, value in best.items()},
        "padding of fixed": 1 - sum(lengths) / sum(len(group) * max(group) for group in groups),
        "padding of ours": 1 - reports[0].tokens / reports[0].padded_tokens,
        "one / ours": best["one"] / best["ours"],
        "fixed / ours": best["fixed"] / best["ours"],
        "largest difference": max(float(np.abs(language.embedding(text) - alone[text]).max()) for text in texts),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--texts", type=int, default=5000)
    parser.add_argument("--model", type=Path, help="a T5 encoder; default: the seeded one")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--threads", type=int, help="of torch; fewer than CPUs where others use them too")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--width", type=int, default=128)
    parser.add_argument("--layers", type=int, default=4)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    with tempfile.TemporaryDirectory() as work:
        model = arguments.model or Path(work) / "t5"
        if not arguments.model:
            write_seeded_t5(model, d_model=arguments.width, layers=arguments.layers, heads=4, d_ff=4 * arguments.width)
        found = measure(instructions(arguments.texts), model, arguments.device, arguments.repeats, Path(work))
    if arguments.json:
        print(json.dumps(found, indent=1))
        return
    for name, value in found.items():
        print(f"{name:20} {value:12.6g}")


if __name__ == "__main__":
    main()
