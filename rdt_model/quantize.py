"""Weights in 8 or 4 bits, for a GPU or a robot's computer with little memory. Uses bitsandbytes, where it is asked for.

In: a network for inference. Out: the same network, the linear layers of its blocks (nine tenths of the weights)
replaced. Adaptors, embedders, norms and the last layer keep their precision. int8: rows of weights, each by its largest
number (LLM.int8, arXiv:2208.07339); the library may round inputs too, by the kernel it has for a device. int4: weights
in blocks of 64 by the 4-bit normal float (QLoRA, arXiv:2305.14314). Knows nothing of files and policies.
"""

import logging
import warnings
from typing import Any, Final

from torch import nn

from rdt_data.errors import RdtError, unknown
from rdt_model.network import RDT

KINDS: Final = ("int8", "int4")


def quantize(net: RDT, kind: str) -> None:
    """Replace the linear layers of the blocks, in place and for good: such a network is neither trained nor saved.

    kind: one of KINDS. Raises RdtError for another one, and without bitsandbytes.
    """
    if kind not in KINDS:
        raise unknown("quantize", kind, KINDS)
    layers = _bitsandbytes()
    make = _int8 if kind == "int8" else _int4
    for block in net.model.blocks:
        for name, linear in list(block.named_modules()):
            if isinstance(linear, nn.Linear):
                block.set_submodule(name, make(layers, linear).to(linear.weight.device))


def _int8(layers: Any, linear: nn.Linear) -> nn.Module:
    made: nn.Module = layers.Linear8bitLt(
        linear.in_features, linear.out_features, device="meta", has_fp16_weights=False
    )
    made.weight = layers.Int8Params(linear.weight.detach().cpu(), requires_grad=False, has_fp16_weights=False)
    made.bias = linear.bias
    return made


def _int4(layers: Any, linear: nn.Linear) -> nn.Module:
    dtype = linear.weight.dtype
    made: nn.Module = layers.Linear4bit(
        linear.in_features, linear.out_features, device="meta", compute_dtype=dtype, quant_type="nf4"
    )
    made.weight = layers.Params4bit(linear.weight.detach().cpu(), requires_grad=False, quant_type="nf4")
    made.bias = linear.bias
    return made


def _bitsandbytes() -> Any:
    """Its layers. It tells every cast, which is not worth a line."""
    try:
        from bitsandbytes import nn as layers
    except ImportError:
        raise RdtError(
            "weights in fewer bits need bitsandbytes, which is not installed",
            remedy="pip install 'rdt-data[quantize]'",
        ) from None
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", message="MatMul8bitLt: inputs will be cast")
    return layers
