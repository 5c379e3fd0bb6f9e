"""Embed the instructions of converted stores: what is missing is computed in batches and added, batch by batch.

In: stores and an encoder. Out: embeddings in a folder of each store, or in one that stores share; a pointer in each
store; a report. A text is computed once however many stores need it, and never again: embeddings are known by their
text and all that decides them (`EncoderId`). A batch that is finished is one file that appears whole, so a run that is
killed loses the batches in flight and the next one goes on. Two runs at a time compute the same twice, and harm
nothing. A run with nothing to do imports neither torch nor transformers.
"""

import functools
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Final

from rdt_data.errors import RdtError
from rdt_data.jobs import Holders
from rdt_data.language import pointers, record
from rdt_data.language_folder import EncoderId, Row
from stats.embed_batches import batches, padded_tokens
from stats.embed_targets import Target, copy, pointer_of, survey, url_of
from stats.embed_words import ERROR, Words, collect
from stats.encoder import Encoder, Setup, Tokenizer, device_of
from stats.model_files import fetch, identify, is_directory, name_of

MODEL: Final = "google/t5-v1_1-xxl"
BATCH_TOKENS: Final = {"cpu": 2048, "gpu": 8192}
"""With padding. GPU: 70 MB of bfloat16 embeddings of T5-XXL, and attention that fits 24 GB. CPU: more is slower."""

Progress = Callable[[int, int], None]


@dataclass(frozen=True, slots=True)
class Options:
    """How to embed. See `stats.encoder.Setup` for dtype, device, quantize and offload, `collect` for missing.

    max_length: tokens a text is cut to. batch_tokens: tokens of a batch, padding included;
    None: as BATCH_TOKENS has it. store: a folder (path or
    URL) that stores share; None: each keeps its own. verify: read every stored embedding first, and compute those
    that are damaged again. ray, gpus, workers: see `rdt_data.jobs.Holders`; one encoder for each GPU.
    """

    model: str = MODEL
    revision: str | None = None
    dtype: str = "bf16"
    max_length: int = 1024
    batch_tokens: int | None = None
    device: str = "auto"
    quantize: str | None = None
    offload: str | None = None
    store: str | None = None
    missing: str = ERROR
    verify: bool = False
    ray: str | None = None
    gpus: int = 0
    workers: int = 1


@dataclass(slots=True)
class EmbedReport:
    """What a run found and did.

    stores: url -> episodes, texts, episodes without an instruction (ids), and where its embeddings are. already,
    copied, computed: texts that were there, came from another folder, or were encoded. tokens, padded_tokens: what
    was encoded, without and with padding. truncated: text -> its tokens, of texts longer than max_length. damaged:
    shards that were removed, with the reason.
    """

    encoder: EncoderId
    missing_as: str
    stores: dict[str, dict[str, Any]]
    texts: int = 0
    already: int = 0
    copied: int = 0
    computed: int = 0
    batches: int = 0
    tokens: int = 0
    padded_tokens: int = 0
    truncated: dict[str, int] = field(default_factory=dict)
    damaged: dict[str, str] = field(default_factory=dict)
    seconds: float = 0.0

    def as_json(self) -> dict[str, Any]:
        """Plain data, the key of the encoder with it."""
        return {"key": self.encoder.key, **asdict(self)}


def embed(stores: Sequence[str], options: Options, progress: Progress = lambda done, total: None) -> EmbedReport:
    """Make sure that every text of `stores` has its embedding. progress is told tokens done and all, while encoding.

    Raises RdtError for stores, models and options that cannot be used; what is finished by then stays.
    """
    began = time.monotonic()
    _check(options)
    words, stand_in = collect(stores, options.missing)
    encoder, certain = _encoder(words, options)
    targets, damaged = survey(words, encoder, options.store, verify=options.verify)
    if not certain and any(target.lacking for target in targets):
        encoder = _id(options, fetch(options.model, options.revision))
        targets, damaged = survey(words, encoder, options.store, verify=options.verify)
    report = EmbedReport(encoder, stand_in, {}, damaged=damaged)
    texts = {text for target in targets for text in target.texts}
    lacking = {text for target in targets for text in target.lacking}
    for language in (target.language for target in targets):
        whole = {text: language.tokens(text) for text in texts if text in language}
        report.truncated |= {text: tokens for text, tokens in whole.items() if tokens > encoder.max_length}
    left, unreadable = copy(words, targets)
    report.damaged |= unreadable
    report.texts, report.already, report.copied = len(texts), len(texts) - len(lacking), len(lacking) - len(left)
    _compute(left, targets, options, report, progress)
    for one in words:
        record(one.dataset, pointer_of(one, encoder, options.store, stand_in))
        report.stores[one.dataset.url] = {
            "episodes": one.episodes,
            "texts": len(one.texts),
            "without_instruction": list(one.without),
            "language": url_of(one, encoder, options.store),
        }
    report.seconds = round(time.monotonic() - began, 3)
    return report


def _check(options: Options) -> None:
    for name in ("max_length", "batch_tokens", "workers"):
        value, option = getattr(options, name), "--" + name.replace("_", "-")
        if value is not None and value < 1:
            raise RdtError(f"{option} {value}", remedy=f"use {option} 1 or more")
    if options.ray is None and (options.gpus or options.workers > 1):
        raise RdtError("--gpus and --workers are of a Ray cluster", remedy="add --ray ADDRESS, or --ray local")
    if options.gpus and options.workers > 1:
        raise RdtError("--gpus and --workers both say how many encoders there are", remedy="give one of them")
    _setup(options, None)  # raises for what it cannot be, before any work


def _id(options: Options, known: tuple[str, str]) -> EncoderId:
    """The encoder asked for; known: its revision and tokenizer."""
    revision, tokenizer = known
    name = name_of(options.model)
    return EncoderId(name, revision, tokenizer, options.dtype, options.quantize, options.max_length)


def _encoder(words: Sequence[Words], options: Options) -> tuple[EncoderId, bool]:
    """The encoder asked for, and whether that is certain.

    Where the hub's cache is not on this machine, the commit that a store recorded for the model is taken: it is right
    as long as nothing is missing; before anything is computed the hub is asked.
    """
    if (known := identify(options.model, options.revision)) is not None:
        return _id(options, known), True
    recorded = {pointer.encoder for one in words for pointer in pointers(one.dataset)}
    fitting = [encoder for encoder in recorded if encoder == _id(options, (encoder.revision, encoder.tokenizer))]
    if len(fitting) == 1 and options.revision is None:
        return fitting[0], False
    return _id(options, fetch(options.model, options.revision)), True


def _setup(options: Options, revision: str | None) -> Setup:
    return Setup(options.model, revision, options.dtype, options.device, options.quantize, options.offload)


def _budget(options: Options) -> int:
    """Tokens of a batch."""
    if options.batch_tokens is not None:
        return options.batch_tokens
    slow = options.gpus == 0 if options.ray else device_of(options.device) == "cpu"
    return BATCH_TOKENS["cpu" if slow else "gpu"]


def _compute(
    texts: Sequence[str], targets: Sequence[Target], options: Options, report: EmbedReport, progress: Progress
) -> None:
    """Encode texts, longest first, and add each finished batch to the folders that lack it."""
    if not texts:
        return
    if is_directory(options.model):  # workers run elsewhere
        setup = _setup(replace(options, model=os.path.abspath(options.model)), None)
    else:
        setup = _setup(options, report.encoder.revision)
    tokens = Tokenizer(setup, options.max_length)(texts)
    report.truncated |= {text: whole for text, (ids, whole) in zip(texts, tokens, strict=True) if whole > len(ids)}
    lengths = [len(ids) for ids, _ in tokens]
    chosen = batches(lengths, _budget(options))
    make, count = functools.partial(Encoder, setup), options.gpus or options.workers
    holders = Holders(make, count, ray=options.ray, gpus=min(options.gpus, 1))
    for position, embeddings in holders.map([[tokens[at].ids for at in batch] for batch in chosen]):
        batch = chosen[position]
        rows = [Row(texts[at], tokens[at].whole, array) for at, array in zip(batch, embeddings, strict=True)]
        for target in targets:
            target.add(rows)
        report.batches += 1
        report.computed += len(batch)
        report.tokens += sum(lengths[at] for at in batch)
        report.padded_tokens += padded_tokens(lengths, [batch])
        progress(report.tokens, sum(lengths))
