"""The pretrained encoders: SigLIP (images -> tokens), T5 (instructions -> tokens). rdt_model's owner of transformers.

In: a hub id or a local directory. Out: modules whose sizes, normalisation and colours come from the loaded
configuration; `load_image_encoder` also gives the `keypoints` encoder, which has no files. Weights that are missing are
an error, never drawn. transformers is imported when something is loaded.

Tokens are what the published code feeds its network: the last hidden state, of SigLIP after its final norm and without
the pooling head (`models/multimodal_encoder/siglip_encoder.py`), of T5 with the end of sequence (`t5_encoder.py`).
"""

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import torch
from torch import Tensor, nn

from rdt_data.errors import RdtError
from rdt_model.images import Colour, ImageEncoder, ImageFormat
from rdt_model.keypoints import KeypointConfig, KeypointEncoder

KEYPOINTS: Final = "keypoints"

_T5: Final = {"t5": "T5EncoderModel", "mt5": "MT5EncoderModel", "umt5": "UMT5EncoderModel"}
_SIGLIP: Final = ("siglip", "siglip_vision_model")
_KERNELS: Final = {2: "bilinear", 3: "bicubic"}
"""As Pillow numbers them, which is what `resample` of a preprocessor_config.json means."""


def load_image_encoder(
    name: str,
    *,
    revision: str | None = None,
    dtype: torch.dtype = torch.float32,
    device: torch.device | str = "cpu",
    frozen: bool = True,
    chunk: int = 64,
    keypoints: KeypointConfig | None = None,
) -> ImageEncoder:
    """An image encoder by name. name: "keypoints", or a SigLIP as hub id or directory.

    revision: of a hub model. frozen, chunk: see ImageEncoder; the keypoints encoder is always trained, from drawn
    weights, with sizes `keypoints`. Raises RdtError when it cannot be loaded, or is of another kind.
    """
    if name == KEYPOINTS:
        return KeypointEncoder(keypoints or KeypointConfig()).to(device, dtype)
    return SiglipEncoder.from_pretrained(
        name, revision=revision, dtype=dtype, device=device, frozen=frozen, chunk=chunk
    )


def load_language_encoder(
    name: str,
    *,
    revision: str | None = None,
    dtype: torch.dtype = torch.bfloat16,
    device: torch.device | str = "cpu",
    max_length: int = 1024,
) -> "LanguageEncoder":
    """A T5 encoder by hub id or directory, frozen. max_length: tokens the network takes of an instruction.

    Raises RdtError when it cannot be loaded, or is of another kind.
    """
    return LanguageEncoder.from_pretrained(name, revision=revision, dtype=dtype, device=device, max_length=max_length)


class SiglipEncoder(ImageEncoder):
    """SigLIP's vision tower; one token a patch: 27 x 27 for so400m/14 at 384 pixels. Made by `from_pretrained`."""

    def __init__(self, model: nn.Module, form: ImageFormat, *, frozen: bool = True, chunk: int = 64) -> None:
        """model: a `SiglipVisionModel`. Raises RdtError when its image size is not that of `form`."""
        super().__init__()
        config: Any = model.config
        if config.image_size != form.size:
            raise RdtError(
                f"the encoder's images have {config.image_size} pixels, its preprocessor makes {form.size}",
                remedy="give config.json and preprocessor_config.json of the same model",
            )
        self.model, self.form, self.chunk = model, form, chunk
        self.tokens_per_image = (config.image_size // config.patch_size) ** 2
        self.token_dim: int = config.hidden_size
        self.has_positions, self.frozen = True, frozen
        self.requires_grad_(not frozen).train(not frozen)

    @classmethod
    def from_pretrained(
        cls,
        name: str,
        *,
        revision: str | None = None,
        dtype: torch.dtype = torch.float32,
        device: torch.device | str = "cpu",
        frozen: bool = True,
        chunk: int = 64,
    ) -> "SiglipEncoder":
        """The vision tower of a SigLIP, whether the files hold all of it or the tower. See `load_image_encoder`."""
        library = _transformers()
        with _told(name):
            config = library.AutoConfig.from_pretrained(name, revision=revision)
            _refuse_other(name, config.model_type, _SIGLIP, "a SigLIP such as google/siglip-so400m-patch14-384")
            config = getattr(config, "vision_config", config)
            config.vision_use_head = False  # its pooled vector is not used
            form = _image_format(name, library.SiglipImageProcessor.from_pretrained(name, revision=revision))
            model = _load(library.SiglipVisionModel, name, revision=revision, config=config, torch_dtype=dtype)
        return cls(model, form, frozen=frozen, chunk=chunk).to(device)

    def encode(self, images: Tensor) -> Tensor:
        """images: (N, 3, size, size). returns: (N, patches, hidden), patches row by row."""
        tokens: Tensor = self.model(pixel_values=images).last_hidden_state
        return tokens


class LanguageEncoder(nn.Module):
    """T5, frozen. token_dim: width of a token; max_length: most tokens of a text. Made by `from_pretrained`."""

    def __init__(self, model: nn.Module, tokenizer: Any, max_length: int) -> None:
        """model: a T5 encoder. Raises RdtError when its tokenizer has tokens that it lacks."""
        super().__init__()
        config: Any = model.config
        if len(tokenizer) > config.vocab_size:
            raise RdtError(
                f"the tokenizer has {len(tokenizer)} tokens, the weights of T5 have {config.vocab_size}",
                remedy="give a directory whose tokenizer belongs to its weights",
            )
        self.model, self.tokenizer, self.max_length = model, tokenizer, max_length
        self.token_dim: int = config.d_model
        self.requires_grad_(False).train(False)

    @classmethod
    def from_pretrained(
        cls,
        name: str,
        *,
        revision: str | None = None,
        dtype: torch.dtype = torch.bfloat16,
        device: torch.device | str = "cpu",
        max_length: int = 1024,
    ) -> "LanguageEncoder":
        """See `load_language_encoder`. bfloat16 as published; in float16 T5's numbers overflow."""
        library = _transformers()
        with _told(name):
            kind = library.AutoConfig.from_pretrained(name, revision=revision).model_type
            _refuse_other(name, kind, _T5, "a T5 such as google/t5-v1_1-xxl")
            tokenizer = library.AutoTokenizer.from_pretrained(name, revision=revision)
            model = _load(getattr(library, _T5[kind]), name, revision=revision, torch_dtype=dtype)
        return cls(model, tokenizer, max_length).to(device)

    def forward(self, texts: Sequence[str]) -> tuple[Tensor, Tensor]:
        """Tokens and mask of texts. returns: (B, L, token_dim), zeros where padded; (B, L) bool, True is a token.

        L: of the longest text. The empty text, which stands for a masked instruction, is one token, its end. Raises
        RdtError for a text of more than `max_length` tokens, or when its tokenizer does not know a quarter of them.
        """
        batch = self.tokenizer(list(texts), padding="longest", truncation=False, return_tensors="pt", verbose=False)
        ids, mask = batch["input_ids"], batch["attention_mask"].bool()  # (B, L) each
        unknown = (ids == self.tokenizer.unk_token_id).sum(1)
        for text, count, strange in zip(texts, mask.sum(1).tolist(), unknown.tolist(), strict=True):
            self._refuse(text, count, strange)
        device = next(self.parameters()).device
        ids, mask = ids.to(device), mask.to(device)
        with torch.inference_mode():
            states = self.model(input_ids=ids, attention_mask=mask.long()).last_hidden_state  # (B, L, D)
        # Outside of inference mode, so that a trainable adaptor can keep the tokens for its backward pass.
        return states.masked_fill(~mask[..., None], 0), mask

    def train(self, mode: bool = True) -> "LanguageEncoder":
        """Stays in evaluation mode: it is frozen."""
        del mode
        return super().train(False)

    def _refuse(self, text: str, tokens: int, unknown: int) -> None:
        if tokens > self.max_length:
            raise RdtError(
                f"an instruction has {tokens} tokens, the network takes {self.max_length}: {text[:60]!r} …",
                remedy="shorten it",
            )
        # transformers makes a tokenizer without a vocabulary of a directory that lacks it.
        if 4 * unknown > tokens:
            raise RdtError(
                f"the tokenizer does not know {unknown} of the {tokens} tokens of {text[:60]!r}",
                remedy="give a T5 with its tokenizer's files (tokenizer.json or spiece.model), and text it knows",
            )


def _image_format(name: str, processor: Any) -> ImageFormat:
    """What a SiglipImageProcessor does, as data; refuses what `prepare` does not do."""
    height, width = processor.size["height"], processor.size["width"]
    does = {step: getattr(processor, step) for step in ("do_resize", "do_rescale", "do_normalize")}
    if height != width or processor.resample not in _KERNELS or not all(does.values()):
        raise RdtError(
            f"{name}: preprocessor_config.json has size {height} x {width}, resample {processor.resample}, {does}",
            remedy=f"use a model with square images, resample one of {_KERNELS} and every step on",
        )
    mean, std = (_colour(three) for three in (processor.image_mean, processor.image_std))
    return ImageFormat(height, mean, std, _KERNELS[processor.resample], processor.rescale_factor)


def _colour(three: Sequence[float]) -> Colour:
    red, green, blue = three
    return float(red), float(green), float(blue)


def _refuse_other(name: str, kind: str, allowed: Any, example: str) -> None:
    if kind not in allowed:
        raise RdtError(
            f"{name} is a model of type {kind!r}",
            remedy=f"give {example}: types {', '.join(allowed)}",
        )


def _load(model: Any, name: str, **options: Any) -> Any:
    loaded, about = model.from_pretrained(name, output_loading_info=True, **options)
    if missing := sorted(about["missing_keys"]):
        raise RdtError(
            f"{name}: {len(missing)} weights of the encoder are not in its files, {missing[0]} first",
            remedy="give the files of a whole encoder; random weights are never used in their place",
        )
    return loaded


def _transformers() -> Any:
    """The library, silent but for errors; its bars are for people only."""
    import transformers

    logging: Any = transformers.utils.logging
    logging.set_verbosity_error()
    if not sys.stderr.isatty():
        logging.disable_progress_bar()
    return transformers


@contextmanager
def _told(name: str) -> Iterator[None]:
    """Tell what transformers raises while it loads as what the user can mend."""
    try:
        yield
    except ImportError as error:
        raise RdtError(f"{name} needs another package: {error}", remedy="install it with pip") from None
    except (OSError, ValueError) as error:
        local = Path(name).is_dir()
        raise RdtError(
            f"{name} cannot be loaded: {error}",
            remedy="check its files: config.json, weights, and preprocessor_config.json or a tokenizer"
            if local
            else "check the name and the network, or give a directory with its files (`hf download` makes one)",
        ) from None
