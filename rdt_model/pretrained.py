"""Published or own weights -> a network.

In: a directory, a file of weights, or a hub id. Out: an RDT with exactly these weights. Missing, unexpected or
misshapen weights are an error that lists them; with `adapt`, lengths may change and each change is told. The formats
of files belong to `checkpoint_files`, what can be resized to `adapt`.
"""

import logging
import re
from collections.abc import Callable, Mapping
from pathlib import Path

import torch
from torch import Tensor

from rdt_data.errors import RdtError
from rdt_model.adapt import refuse_misfits, resize
from rdt_model.checkpoint_files import find
from rdt_model.config import ModelConfig
from rdt_model.network import RDT

_log = logging.getLogger(__name__)


def load_pretrained(
    source: str | Path,
    *,
    config: ModelConfig | None = None,
    adapt: bool = False,
    dtype: torch.dtype | None = None,
    device: torch.device | str = "cpu",
    revision: str | None = None,
    tell: Callable[[str], None] = _log.warning,
) -> RDT:
    """The network whose weights `source` holds, e.g. "robotics-diffusion-transformer/rdt-1b", in eval mode.

    config: the network to put them into, by default the one that config.json beside them describes, or, where there is
    none (DeepSpeed), the one their shapes tell, with the published noise schedule. adapt: let the horizon, the image
    tokens and the longest instruction differ from the weights; `tell` gets a line for each change.
    dtype: of the weights, by default as saved. Raises RdtError that lists every weight that does not fit.
    """
    files = find(source, revision)
    weights = files.read_weights()
    described = files.read_config()
    if described is None and config is None:
        tell(f"{files.weights}: no config.json beside it; sizes are read from the weights, noise schedule as published")
    config = config or described or infer_config(weights, str(files.weights))
    with torch.device("meta"):  # nothing is initialised only to be overwritten
        net = RDT(config)
    shapes = {name: tensor.shape for name, tensor in net.state_dict().items()}
    if adapt:
        weights = resize(weights, described or config, config, tell)
    refuse_misfits(weights, shapes, str(files.weights))
    kept = dtype or weights["model.x_pos_embed"].dtype
    net.load_state_dict({name: tensor.to(device, kept) for name, tensor in weights.items()}, assign=True)
    return net.eval()


def read_config(source: str | Path, revision: str | None = None) -> ModelConfig:
    """The configuration of a checkpoint, to change and pass to `load_pretrained`."""
    files = find(source, revision)
    return files.read_config() or infer_config(files.read_weights(), str(files.weights))


def infer_config(weights: Mapping[str, Tensor], source: str) -> ModelConfig:
    """The configuration that the shapes of weights tell; the noise schedule is the published one.

    Raises RdtError when these are not the weights of an RDT.
    """
    try:
        width = weights["model.x_pos_embed"].shape[2]
        head = weights["model.blocks.0.cross_attn.q_norm.weight"].shape[0]
        numbers = [int(match[1]) for name in weights if (match := re.match(r"model\.blocks\.(\d+)\.", name))]
        lang, img, state = (_adaptor(weights, f"{name}_adaptor") for name in ("lang", "img", "state"))
        return ModelConfig(
            hidden_size=width,
            depth=max(numbers) + 1,
            num_heads=width // head,
            action_dim=weights["model.final_layer.ffn_final.fc2.weight"].shape[0],
            state_token_dim=state[1] // 2,
            pred_horizon=weights["model.x_pos_embed"].shape[1] - 3,
            lang_token_dim=lang[1],
            img_token_dim=img[1],
            max_lang_cond_len=weights["model.lang_cond_pos_embed"].shape[1],
            img_cond_len=weights["model.img_cond_pos_embed"].shape[1],
            lang_pos_embed_config=None,
            img_pos_embed_config=None,
            lang_adaptor=lang[0],
            img_adaptor=img[0],
            state_adaptor=state[0],
        )
    except KeyError as error:
        raise RdtError(
            f"{source}: these are not the weights of an RDT, {error.args[0]} is not among them",
            remedy="its weights begin with model., lang_adaptor., img_adaptor. and state_adaptor.",
        ) from None


def _adaptor(weights: Mapping[str, Tensor], name: str) -> tuple[str, int]:
    """(kind, width of the input) of an adaptor."""
    if f"{name}.weight" in weights:
        return "linear", weights[f"{name}.weight"].shape[1]
    layers = sum(key.startswith(f"{name}.") and key.endswith(".weight") for key in weights)
    return f"mlp{layers}x_gelu", weights[f"{name}.0.weight"].shape[1]
