"""The T5 encoder: text -> tokens -> the states of its last layer. The only owner of transformers.

In: a hub id at a commit, or a local directory; where and how to compute. Out: for each text its tokens, and for each
batch of tokens one (L, D) array a text, cut to its own length. A text gives the same embedding alone and beside longer
ones: attention never sees padding (to float rounding: kernels differ with the shape of a batch).

Published embeddings are computed the same way (RoboticsDiffusionTransformer, `scripts/encode_lang_batch.py`): the last
hidden state in bfloat16, the end-of-sequence token included. Knows nothing of stores, files or batching.
"""

import importlib.util
import logging
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

import numpy as np

from rdt_data.errors import RdtError, unknown
from rdt_data.language_folder import KINDS
from rdt_data.tensor_file import Stored
from stats.model_files import is_directory, unreachable

FAMILY: Final = {"t5": "T5EncoderModel", "mt5": "MT5EncoderModel", "umt5": "UMT5EncoderModel"}
"""Model type of a configuration -> its class in transformers. ByT5 and T5 v1.1 are of type t5."""

QUANTIZED: Final = ("8bit", "4bit")
_TORCH = {"fp32": "float32", "fp16": "float16", "bf16": "bfloat16"}
_MOST_UNKNOWN = 0.25  # share of the tokens of all texts


@dataclass(frozen=True, slots=True)
class Setup:
    """Which encoder, and how it computes. Pickles, so that a pool can make one encoder per process.

    revision: commit of a hub model, None for a directory. device: "auto" (a GPU if there is one), or as torch names it.
    quantize: one of QUANTIZED. offload: directory for the weights that fit neither the GPU nor memory.
    """

    model: str
    revision: str | None
    dtype: str
    device: str = "auto"
    quantize: str | None = None
    offload: str | None = None

    def __post_init__(self) -> None:
        if self.dtype not in KINDS:
            raise unknown("--dtype", self.dtype, KINDS)
        if self.quantize is not None and self.quantize not in QUANTIZED:
            raise unknown("--quantize", self.quantize, QUANTIZED)


class Tokens(NamedTuple):
    """One text. ids: what the encoder gets; whole: how many tokens there were before it was cut."""

    ids: list[int]
    whole: int


class Tokenizer:
    """A tokenizer that is loaded: call it with texts. max_length: tokens a text is cut to, its end of sequence kept."""

    def __init__(self, setup: Setup, max_length: int) -> None:
        """Load it. Raises RdtError when it cannot be loaded."""
        self.setup, self.max_length = setup, max_length
        with _told(setup):
            self._tokenizer = _transformers().AutoTokenizer.from_pretrained(setup.model, revision=setup.revision)

    def __call__(self, texts: Sequence[str]) -> list[Tokens]:
        """The tokens of each text. Raises RdtError when it has no vocabulary for them."""
        options = {"padding": False, "return_attention_mask": False, "verbose": False}
        ids: list[list[int]] = self._tokenizer(list(texts), truncation=False, **options)["input_ids"]
        _refuse_unknown(self.setup, self._tokenizer, ids)
        whole = [len(tokens) for tokens in ids]
        long = [number for number, count in enumerate(whole) if count > self.max_length]
        if long:
            again = [texts[number] for number in long]
            cut = self._tokenizer(again, truncation=True, max_length=self.max_length, **options)["input_ids"]
            for number, tokens in zip(long, cut, strict=True):
                ids[number] = tokens
        return [Tokens(tokens, count) for tokens, count in zip(ids, whole, strict=True)]


class Encoder:
    """An encoder that is loaded: call it with a batch. Made by `Encoder(setup)`."""

    def __init__(self, setup: Setup) -> None:
        """Load it. Raises RdtError for what the user can mend: device, packages, names, other kinds of models."""
        import torch

        self.setup = setup
        self._torch = torch
        self._model = _load(setup, device_of(setup.device))

    def __call__(self, batch: Sequence[Sequence[int]]) -> list[Stored]:
        """The embeddings of a batch of token ids, each (L, D) in the setup's dtype (bfloat16 as uint16 bit patterns).

        Raises RdtError when memory does not suffice or a number is not finite.
        """
        torch, longest = self._torch, max(map(len, batch))
        config = self._model.config
        ids = torch.full((len(batch), longest), config.pad_token_id or 0)
        mask = torch.zeros_like(ids)
        for row, tokens in enumerate(batch):
            ids[row, : len(tokens)] = torch.tensor(tokens)
            mask[row, : len(tokens)] = 1
        if int(ids.max()) >= config.vocab_size:
            raise RdtError(
                f"{self.setup.model}: its tokenizer gives token {int(ids.max())}, its weights have {config.vocab_size}",
                remedy="give a directory whose tokenizer belongs to its weights",
            )
        try:
            with torch.inference_mode():
                device = self._model.device
                states = self._model(input_ids=ids.to(device), attention_mask=mask.to(device)).last_hidden_state
                states = states.to(getattr(torch, _TORCH[self.setup.dtype])).cpu()  # (B, longest, D)
        except torch.OutOfMemoryError:
            raise RdtError(
                f"{ids.numel()} tokens ({len(batch)} texts of up to {longest}) do not fit into the memory of the GPU",
                remedy="run the same command again with half the --batch-tokens: what is done stays",
            ) from None
        if not bool(torch.isfinite(states).all()):
            raise RdtError(
                f"{self.setup.model} gives numbers that are not finite in {self.setup.dtype}",
                remedy="use --dtype bf16, which has the range of fp32" if self.setup.dtype == "fp16" else "check it",
            )
        bits = states.view(torch.int16).numpy().view(np.uint16) if self.setup.dtype == "bf16" else states.numpy()
        return [bits[row, : len(tokens)] for row, tokens in enumerate(batch)]


def _transformers() -> Any:
    """The library, silent but for errors; its bars are for people only."""
    import transformers

    voice: Any = transformers.utils.logging
    voice.set_verbosity_error()
    if not sys.stderr.isatty():
        voice.disable_progress_bar()
    return transformers


def device_of(name: str) -> str:
    """The device that a name means here: "auto" is a GPU where there is one. Raises RdtError where there is no such."""
    import torch

    if name == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    try:
        torch.empty(0, device=name)
    except (RuntimeError, AssertionError, NotImplementedError) as error:  # torch raises all three for a wrong device
        raise RdtError(
            f"--device {name} cannot be used: {str(error).splitlines()[0]}",
            remedy="use --device auto, cpu, or a GPU of this machine such as cuda:0",
        ) from None
    return name


def _load(setup: Setup, device: str) -> Any:
    import torch

    library = _transformers()
    options: dict[str, Any] = {"revision": setup.revision, "torch_dtype": getattr(torch, _TORCH[setup.dtype])}
    if setup.quantize:
        _need("bitsandbytes", f"--quantize {setup.quantize}")
        logging.getLogger("bitsandbytes").setLevel(logging.ERROR)  # it tells every cast
        compute = {"bnb_4bit_compute_dtype": options["torch_dtype"]} if setup.quantize == "4bit" else {}
        options["quantization_config"] = library.BitsAndBytesConfig(**{f"load_in_{setup.quantize}": True}, **compute)
    if setup.offload:
        os.makedirs(setup.offload, exist_ok=True)
        options |= {"offload_folder": setup.offload}
    if setup.offload or setup.quantize:
        _need("accelerate", "--offload" if setup.offload else "--quantize")
        options["device_map"] = "auto" if setup.offload else {"": device}
    with _told(setup):
        kind = library.AutoConfig.from_pretrained(setup.model, revision=setup.revision).model_type
        if kind not in FAMILY:
            raise RdtError(
                f"{setup.model} is a model of type {kind!r}",
                remedy=f"give a T5 encoder: types {', '.join(FAMILY)} (ByT5 is t5)",
            )
        loader = getattr(library, FAMILY[kind])
        model, about = loader.from_pretrained(setup.model, output_loading_info=True, **options)
    if missing := sorted(about["missing_keys"]):
        raise RdtError(
            f"{setup.model}: {len(missing)} weights of the encoder are not in its files, {missing[0]} first",
            remedy="give the files of a whole encoder; random weights are never used in their place",
        )
    return model.eval() if "device_map" in options else model.eval().to(device)


def _need(package: str, option: str) -> None:
    if importlib.util.find_spec(package) is None:
        raise RdtError(f"{option} needs {package}, which is not installed", remedy=f"pip install {package}")


@contextmanager
def _told(setup: Setup) -> Iterator[None]:
    """Tell what transformers raises while it loads as what the user can mend."""
    from safetensors import SafetensorError

    try:
        yield
    except ImportError as error:
        raise RdtError(f"{setup.model} needs another package: {error}", remedy="install it with pip") from None
    except OSError as error:
        if not is_directory(setup.model):
            raise unreachable(setup.model, setup.revision, error) from None
        raise RdtError(f"{setup.model} cannot be loaded: {error}", remedy="check the files in it") from None
    except (ValueError, SafetensorError) as error:
        raise RdtError(
            f"{setup.model} cannot be loaded: {error}",
            remedy="check its files; a vocabulary in spiece.model needs `pip install sentencepiece`",
        ) from None


def _refuse_unknown(setup: Setup, tokenizer: Any, ids: Sequence[Sequence[int]]) -> None:
    """transformers makes a tokenizer without a vocabulary of a directory that lacks it; every word is unknown then."""
    count = sum(map(len, ids)) - len(ids)  # without the ends of sequences
    unknown_tokens = sum(tokens.count(tokenizer.unk_token_id) for tokens in ids)
    if count and unknown_tokens > _MOST_UNKNOWN * count:
        raise RdtError(
            f"{setup.model}: its tokenizer does not know {unknown_tokens} of {count} tokens",
            remedy="give a model with the tokenizer's files (tokenizer.json or spiece.model) and of this language",
        )
