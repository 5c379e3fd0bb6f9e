"""The diffusion transformer: [timestep, control rate, state, actions] through blocks that attend to the conditions.

In: tokens of the hidden width and the conditions' keys and values. Out: what the network predicts for each action.
Even blocks attend to the language, odd ones to the images. The names of the weights and how they are initialised are
the published ones (RoboticsDiffusionTransformer, `models/rdt/model.py`). Knows nothing of adaptors or noise.
"""

from collections.abc import Sequence
from typing import cast

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from rdt_model.config import ModelConfig
from rdt_model.layers import Block, CrossAttention, FinalLayer, KeysValues, ScalarEmbedder
from rdt_model.positions import condition_positions, sequence_positions

LANGUAGE, IMAGES = 0, 1
"""Which condition a block attends to: its number modulo 2."""


class Transformer(nn.Module):
    """The network between the adaptors, W = hidden_size wide, H = pred_horizon actions.

    gradient_checkpointing: a block's inner values are computed again in the backward pass instead of kept.
    """

    gradient_checkpointing = False

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        width = config.hidden_size
        self.t_embedder = ScalarEmbedder(width)
        self.freq_embedder = ScalarEmbedder(width)
        self.x_pos_embed = nn.Parameter(torch.empty(1, 3 + config.pred_horizon, width))
        self.lang_cond_pos_embed = nn.Parameter(torch.empty(1, config.max_lang_cond_len, width))
        self.img_cond_pos_embed = nn.Parameter(torch.empty(1, config.img_cond_len, width))
        self.blocks = nn.ModuleList(Block(width, config.num_heads) for _ in range(config.depth))
        self.final_layer = FinalLayer(width, config.action_dim)
        self._initialise(config)

    @torch.no_grad()
    def _initialise(self, config: ModelConfig) -> None:
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.xavier_uniform_(module.weight)
                nn.init.zeros_(module.bias)
        for embedder in (self.t_embedder, self.freq_embedder):
            for weight in (embedder.mlp.get_parameter("0.weight"), embedder.mlp.get_parameter("2.weight")):
                nn.init.normal_(weight, std=0.02)
        for name, table in initial_positions(config).items():
            getattr(self, name).copy_(torch.from_numpy(table))
        nn.init.zeros_(self.final_layer.ffn_final.fc2.weight)

    def cross_attentions(self, condition: int) -> list[CrossAttention]:
        """The cross-attention layers of the blocks that attend to LANGUAGE, or to IMAGES."""
        return [cast(CrossAttention, block.cross_attn) for block in list(self.blocks)[condition::2]]

    def forward(
        self, x: Tensor, rate: Tensor, timesteps: Tensor, known: Sequence[KeysValues], lang_mask: Tensor | None
    ) -> Tensor:
        """x: (k B, 1 + H, W), state and actions; rate: (k B, 1, W); timesteps: (k B,) or (1,). returns: (k B, H, A)."""
        t = self.t_embedder(timesteps).expand(x.shape[0], -1, -1)  # (k B, 1, W)
        x = torch.cat([t, rate, x], dim=1) + self.x_pos_embed  # (k B, 3 + H, W)
        for number, block in enumerate(self.blocks):
            mask = lang_mask if number % 2 == LANGUAGE else None
            if self.gradient_checkpointing and torch.is_grad_enabled():
                x = checkpoint(block, x, known[number], mask, use_reentrant=False)  # (k B, 3 + H, W)
            else:
                x = block(x, known[number], mask)  # (k B, 3 + H, W)
        return cast(Tensor, self.final_layer(x[:, 3:]))  # (k B, H, A)


def initial_positions(config: ModelConfig) -> dict[str, npt.NDArray[np.float32]]:
    """The positional embeddings a new network begins with: name -> (1, tokens, W)."""
    width = config.hidden_size
    lang = condition_positions(width, config.max_lang_cond_len, config.lang_pos_embed_config)
    img = condition_positions(width, config.img_cond_len, config.img_pos_embed_config)
    x = sequence_positions(width, config.pred_horizon)
    return {"x_pos_embed": x[None], "lang_cond_pos_embed": lang[None], "img_cond_pos_embed": img[None]}
