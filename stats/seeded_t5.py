"""A small T5 encoder with drawn weights on disk, for tests, the demo and benchmarks: no download, the real code path.

In: a directory, a seed, sizes. Out: a directory as `save_pretrained` writes it (config.json, model.safetensors,
tokenizer_config.json of ByT5, whose tokens are bytes, so that it needs no vocabulary; or, given words, a tokenizer of
which each of these is one token, and every other word its bytes). The same arguments give the same bytes: weights are
drawn by NumPy from (seed, number of the tensor), and neither torch nor transformers is used.
Its embeddings mean nothing, but they differ from text to text and from position to position.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from rdt_data import tensor_file
from rdt_data.staging import new_directory

VOCABULARY = 384
"""Of ByT5: padding, end, unknown, 256 bytes, 125 sentinels."""

_BUCKETS = 32  # of relative positions


def write_seeded_t5(
    folder: Path,
    seed: int = 0,
    *,
    d_model: int = 64,
    layers: int = 2,
    heads: int = 4,
    d_ff: int = 128,
    words: Sequence[str] = (),
) -> None:
    """Write the encoder. words: those that are one token, at most 125. Raises StoreError when `folder` exists."""
    width = d_model // heads
    config = {
        "architectures": ["T5EncoderModel"],
        "model_type": "t5",
        "d_model": d_model,
        "d_kv": width,
        "d_ff": d_ff,
        "num_layers": layers,
        "num_heads": heads,
        "vocab_size": VOCABULARY,
        "feed_forward_proj": "gated-gelu",
        "relative_attention_num_buckets": _BUCKETS,
        "relative_attention_max_distance": 128,
        "layer_norm_epsilon": 1e-6,
        "pad_token_id": 0,
        "eos_token_id": 1,
        "is_encoder_decoder": False,
        "tie_word_embeddings": True,
    }
    shapes = _shapes(d_model, layers, heads, width, d_ff)
    weights = {
        name: ("F32", _draw(seed, number, name, shape, width)) for number, (name, shape) in enumerate(shapes.items())
    }
    with new_directory(folder) as new:
        _write_json(new / "config.json", config)
        if words:
            _write_json(new / "tokenizer.json", _tokenizer(words))
            names = {"pad_token": "<pad>", "eos_token": "</s>", "unk_token": "<unk>"}
            _write_json(new / "tokenizer_config.json", {"tokenizer_class": "PreTrainedTokenizerFast", **names})
        else:
            _write_json(new / "tokenizer_config.json", {"tokenizer_class": "ByT5Tokenizer", "extra_ids": 125})
        (new / "model.safetensors").write_bytes(tensor_file.dump(weights, {"format": "pt"}))


def _tokenizer(words: Sequence[str]) -> dict[str, Any]:
    """A tokenizer.json of Hugging Face's tokenizers: words and marks apart, known ones whole, others byte by byte."""
    special = ["<pad>", "</s>", "<unk>"]
    known = [[word, -1.0] for word in words]
    flags = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
    end = {"SpecialToken": {"id": "</s>", "type_id": 0}}
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [{"id": number, "content": name, **flags} for number, name in enumerate(special)],
        "normalizer": {"type": "Lowercase"},
        "pre_tokenizer": {"type": "Whitespace"},
        "post_processor": {
            "type": "TemplateProcessing",
            "single": [{"Sequence": {"id": "A", "type_id": 0}}, end],
            "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 0}}, end],
            "special_tokens": {"</s>": {"id": "</s>", "ids": [1], "tokens": ["</s>"]}},
        },
        "decoder": None,
        "model": {
            "type": "Unigram",
            "unk_id": 2,
            "byte_fallback": True,
            "vocab": [*([name, 0.0] for name in special), *([f"<0x{byte:02X}>", -9.0] for byte in range(256)), *known],
        },
    }


def _shapes(d_model: int, layers: int, heads: int, width: int, d_ff: int) -> dict[str, tuple[int, ...]]:
    """Name -> shape of every tensor, as T5EncoderModel of T5 v1.1 (gated feed-forward) names them."""
    inner = heads * width
    shapes: dict[str, tuple[int, ...]] = {"shared.weight": (VOCABULARY, d_model)}
    for layer in range(layers):
        attention, forward = (f"encoder.block.{layer}.layer.{number}" for number in (0, 1))
        shapes |= {f"{attention}.SelfAttention.{name}.weight": (inner, d_model) for name in "qkv"}
        shapes[f"{attention}.SelfAttention.o.weight"] = (d_model, inner)
        if layer == 0:
            shapes[f"{attention}.SelfAttention.relative_attention_bias.weight"] = (_BUCKETS, heads)
        shapes[f"{attention}.layer_norm.weight"] = (d_model,)
        shapes |= {f"{forward}.DenseReluDense.{name}.weight": (d_ff, d_model) for name in ("wi_0", "wi_1")}
        shapes[f"{forward}.DenseReluDense.wo.weight"] = (d_model, d_ff)
        shapes[f"{forward}.layer_norm.weight"] = (d_model,)
    return {**shapes, "encoder.final_layer_norm.weight": (d_model,)}


def _draw(seed: int, number: int, name: str, shape: tuple[int, ...], width: int) -> tensor_file.Stored:
    """Sizes as T5 begins with: layer norms 1, embeddings 1, matrices keep the size of what they are applied to.

    Queries are smaller by the root of a head's width, since T5 does not scale its attention.
    """
    if "layer_norm" in name:
        return np.ones(shape, np.float32)
    rng = np.random.Generator(np.random.Philox(key=np.array([seed, number], np.uint64)))
    scale = 1.0 if name == "shared.weight" or "bias" in name else shape[1] ** -0.5
    if ".q." in name:
        scale *= width**-0.5
    return np.asarray(rng.normal(0, scale, shape), np.float32)


def _write_json(path: Path, value: dict[str, Any]) -> None:
    path.write_text(json.dumps(value, indent=1))
