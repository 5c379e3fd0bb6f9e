"""Low-rank adapters (Hu et al. 2021, arXiv:2106.09685) in place of training all of a network, by peft.

In: a network and which of its layers get adapters. Out: the same network with all else frozen; and its weights with the
adapters added to them, under the names they had before. The owner of peft, an extra (`rdt-data[lora]`).
"""

from typing import Any

from torch import Tensor, nn

from rdt_data.errors import RdtError
from rdt_model.run_config import LoraPart

_ADAPTER, _BASE = "lora_", "base_layer."


def add_adapters(net: nn.Module, config: LoraPart) -> None:
    """Give every layer whose name ends with one of the targets an adapter, and freeze the rest.

    Raises RdtError when peft is not installed, or when no layer has such a name.
    """
    try:
        from peft import LoraConfig, inject_adapter_in_model
    except ImportError:
        raise RdtError("peft is not installed", remedy="pip install 'rdt-data[lora]'") from None
    about: Any = LoraConfig(r=config.rank, lora_alpha=config.alpha, target_modules=list(config.targets))  # type: ignore[arg-type]  # alpha may be a fraction
    try:
        inject_adapter_in_model(about, net)
    except ValueError as error:
        names = sorted({name.rpartition(".")[2] for name, layer in net.named_modules() if isinstance(layer, nn.Linear)})
        raise RdtError(
            f"lora.targets {config.targets}: {error}", remedy=f"layers end with {', '.join(names)}"
        ) from None


def merged_state(net: nn.Module) -> dict[str, Tensor]:
    """The network's weights as if its adapters had been trained into them; its `state_dict` where it has none."""
    state: dict[str, Tensor] = {}
    for name, value in net.state_dict().items():
        if _ADAPTER in name:
            continue
        if name.endswith(f"{_BASE}weight"):
            layer: Any = net.get_submodule(name.removesuffix(f".{_BASE}weight"))
            value = value + layer.get_delta_weight("default")
        state[name.replace(_BASE, "")] = value
    return state
