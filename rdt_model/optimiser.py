"""AdamW for a run, and its state by the names of the weights, so that it is saved and restored as plain tensors.

In: parameters. Out: an optimiser; name -> {key: tensor}, the same again later. Knows nothing of files and schedules.
"""

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from rdt_data.errors import RdtError
from rdt_model.ranks import placed
from rdt_model.run_config import OptimiserPart


def make_optimiser(
    config: OptimiserPart, parameters: Iterable[nn.Parameter], device: torch.device
) -> torch.optim.Optimizer:
    """AdamW, of torch or with 8-bit state of bitsandbytes. Raises RdtError when that is asked for and not there."""
    options: dict[str, Any] = {
        "lr": config.learning_rate,
        "betas": config.betas,
        "weight_decay": config.weight_decay,
        "eps": config.eps,
    }
    if not config.eight_bit:
        return torch.optim.AdamW(list(parameters), **options, fused=True)
    try:
        from bitsandbytes.optim import AdamW8bit
    except ImportError:
        raise RdtError("bitsandbytes is not installed", remedy="pip install 'rdt-data[quantize]'") from None
    if device.type != "cuda":
        raise RdtError("optimiser.eight_bit without a GPU", remedy="leave it out: 8-bit AdamW runs on CUDA devices")
    made: torch.optim.Optimizer = AdamW8bit(list(parameters), **options)
    return made


def named_state(optimiser: torch.optim.Optimizer, parameters: Mapping[str, nn.Parameter]) -> dict[str, dict[str, Any]]:
    """Weight -> the optimiser's tensors of it."""
    return {
        name: {key: value for key, value in optimiser.state[parameter].items() if isinstance(value, Tensor)}
        for name, parameter in parameters.items()
    }


def restore_optimiser(
    optimiser: torch.optim.Optimizer,
    parameters: Mapping[str, nn.Parameter],
    state: Mapping[str, Mapping[str, Tensor]],
) -> None:
    """Put the state of every weight back. Raises RdtError when it is of other weights."""
    if state.keys() != parameters.keys():
        other = sorted(state.keys() ^ parameters.keys())
        raise RdtError(
            f"the optimiser's state is of other weights: {', '.join(other[:5])}",
            remedy="go on with the configuration that the checkpoint was saved with",
        )
    numbered = {
        number: {key: placed(value, parameter) for key, value in state[name].items()}
        for number, (name, parameter) in enumerate(parameters.items())
    }
    optimiser.load_state_dict({"state": numbered, "param_groups": optimiser.state_dict()["param_groups"]})
