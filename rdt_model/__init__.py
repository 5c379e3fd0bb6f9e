"""The policy: network, diffusion, training, sampling (torch).

    net = rdt_model.load_pretrained("robotics-diffusion-transformer/rdt-1b")
    cond = net.encode_conditions(lang_tokens, lang_mask, img_tokens, state, action_mask, ctrl_hz)
    actions = net.sample(cond)

Names are imported when they are first used, so that `import rdt_model` costs nothing.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rdt_model.condition_cache import ConditionCache
    from rdt_model.conditions import Conditions
    from rdt_model.config import SIZES, ModelConfig, NoiseConfig, config_of_size
    from rdt_model.diffusion import diffusion_loss
    from rdt_model.network import RDT
    from rdt_model.policy import Observation, Policy
    from rdt_model.pretrained import load_pretrained, read_config

__all__ = [
    "RDT",
    "SIZES",
    "ConditionCache",
    "Conditions",
    "ModelConfig",
    "NoiseConfig",
    "Observation",
    "Policy",
    "config_of_size",
    "diffusion_loss",
    "load_pretrained",
    "read_config",
]

_HOME = {
    "RDT": "network",
    "SIZES": "config",
    "ConditionCache": "condition_cache",
    "Conditions": "conditions",
    "ModelConfig": "config",
    "NoiseConfig": "config",
    "Observation": "policy",
    "Policy": "policy",
    "config_of_size": "config",
    "diffusion_loss": "diffusion",
    "load_pretrained": "pretrained",
    "read_config": "pretrained",
}


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"rdt_model.{_HOME[name]}"), name)
