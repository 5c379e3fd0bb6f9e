"""RDT: adaptors, transformer and sampler as one network with the published weights' names.

In: an observation as token embeddings (what T5 and SigLIP gave), the 128-slot state and its mask. Out: a chunk of
actions in the 128-slot layout. Robots' units, encoders and files are other modules' business.
"""

from pathlib import Path
from typing import cast

import torch
from torch import Tensor, nn

from rdt_data.errors import RdtError
from rdt_model import checkpoint_files, sampler
from rdt_model.conditions import Conditions
from rdt_model.config import ModelConfig
from rdt_model.inpaint import Known
from rdt_model.layers import KeysValues, adaptor
from rdt_model.transformer import IMAGES, LANGUAGE, Transformer


class RDT(nn.Module):
    """The Robotics Diffusion Transformer (Liu et al. 2024, arXiv:2410.07864).

    B observations, W = hidden_size, H = pred_horizon, A = action_dim. Inputs are brought to the network's dtype.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        width = config.hidden_size
        self.model = Transformer(config)
        self.lang_adaptor = adaptor(config.lang_adaptor, config.lang_token_dim, width)
        self.img_adaptor = adaptor(config.img_adaptor, config.img_token_dim, width)
        self.state_adaptor = adaptor(config.state_adaptor, 2 * config.state_token_dim, width)

    @property
    def dtype(self) -> torch.dtype:
        """What the weights are kept in."""
        return self.model.x_pos_embed.dtype

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self.model.x_pos_embed.device

    def encode_conditions(
        self,
        lang_tokens: Tensor,
        lang_mask: Tensor | None,
        img_tokens: Tensor,
        state: Tensor,
        action_mask: Tensor,
        ctrl_hz: Tensor,
    ) -> Conditions:
        """Everything about an observation that denoising steps and noise draws share; differentiable.

        lang_tokens: (B, L, lang_token_dim), mask (B, L), True where real (at least one per row), None for all.
        img_tokens: (B, img_cond_len, img_token_dim), all frames and cameras, older frames first.
        state, action_mask: (B, 1, A) or (B, A); mask 1 for slots the robot has. ctrl_hz: (B,), 0 when unknown.
        Raises RdtError for tokens that do not fit the network.
        """
        lang, lang_mask = self.adapt_language(lang_tokens, lang_mask)
        images = self.adapt_images(img_tokens)
        return self.join(
            self.project(LANGUAGE, lang), self.project(IMAGES, images), lang_mask, state, action_mask, ctrl_hz
        )

    def adapt_language(self, tokens: Tensor, mask: Tensor | None) -> tuple[Tensor, Tensor | None]:
        """(B, L, lang_token_dim) and (B, L) -> (B, L, W) with positions, and (B, 1, 1, L) bool."""
        self._check("lang_tokens", tokens, self.config.lang_token_dim)
        if tokens.shape[1] > self.config.max_lang_cond_len:
            raise RdtError(
                f"lang_tokens: an instruction of {tokens.shape[1]} tokens, and the network takes at most "
                f"{self.config.max_lang_cond_len}",
                remedy="embed it cut to that length",
            )
        lang = self.lang_adaptor(tokens.to(self.dtype)) + self.model.lang_cond_pos_embed[:, : tokens.shape[1]]
        return lang, None if mask is None else mask.bool()[:, None, None]

    def adapt_images(self, tokens: Tensor) -> Tensor:
        """(B, img_cond_len, img_token_dim) -> (B, img_cond_len, W) with positions."""
        self._check("img_tokens", tokens, self.config.img_token_dim)
        if tokens.shape[1] != self.config.img_cond_len:
            raise RdtError(
                f"img_tokens: {tokens.shape[1]} image tokens, and the network takes {self.config.img_cond_len}",
                remedy="use the encoder, frames and cameras it was trained with, or load it with adapt=True",
            )
        return cast(Tensor, self.img_adaptor(tokens.to(self.dtype)) + self.model.img_cond_pos_embed)

    def project(self, condition: int, tokens: Tensor) -> list[KeysValues]:
        """Keys and values of LANGUAGE or IMAGES, (B, L, W) with positions, for each block that attends to it."""
        return [layer.keys_values(tokens) for layer in self.model.cross_attentions(condition)]

    def join(
        self,
        lang: list[KeysValues],
        images: list[KeysValues],
        lang_mask: Tensor | None,
        state: Tensor,
        action_mask: Tensor,
        ctrl_hz: Tensor,
    ) -> Conditions:
        """Conditions of projected language and images, with state, mask and rate as `encode_conditions` takes them."""
        known = tuple((lang if number % 2 == LANGUAGE else images)[number // 2] for number in range(self.config.depth))
        state, action_mask = (self._token(vector) for vector in (state, action_mask))  # (B, 1, A)
        token = self.state_adaptor(torch.cat([state, action_mask], dim=-1))  # (B, 1, W)
        return Conditions(known, lang_mask, token, self.model.freq_embedder(ctrl_hz), action_mask)

    def denoise(self, noisy: Tensor, timesteps: Tensor, cond: Conditions) -> Tensor:
        """One forward: the clean actions, or the noise, by `prediction_type`.

        noisy: (k B, H, A), rows as `Conditions` lays them out; timesteps: (k B,), (1,) or (). returns: (k B, H, A).
        """
        mask = cond.rows(cond.action_mask).expand(-1, noisy.shape[1], -1)  # (k B, H, A)
        actions = self.state_adaptor(torch.cat([noisy.to(self.dtype), mask], dim=-1))  # (k B, H, W)
        x = torch.cat([cond.rows(cond.state), actions], dim=1)  # (k B, 1 + H, W)
        rate = cond.rows(cond.rate)  # (k B, 1, W)
        return cast(Tensor, self.model(x, rate, timesteps.reshape(-1), cond.keys_values, cond.lang_mask))  # (k B, H, A)

    forward = denoise

    def sample(
        self,
        cond: Conditions,
        steps: int | None = None,
        noise: Tensor | None = None,
        generator: torch.Generator | None = None,
        known: Known | None = None,
    ) -> Tensor:
        """Action chunks, (k B, H, A) float32, 0 in slots the robot does not have; see `sampler.sample`."""
        return sampler.sample(self, cond, steps, noise, generator, known)

    def save_pretrained(self, folder: str | Path) -> None:
        """Write config.json and model.safetensors, which `load_pretrained` and the hub read."""
        checkpoint_files.save(Path(folder), self.config, self.state_dict())

    def push_to_hub(self, repo_id: str, *, private: bool = False, token: str | None = None) -> str:
        """Upload what `save_pretrained` writes; returns the commit's URL."""
        return checkpoint_files.push(repo_id, self.config, self.state_dict(), private=private, token=token)

    def _token(self, vector: Tensor) -> Tensor:
        vector = vector.to(self.dtype)
        return vector[:, None] if vector.dim() == 2 else vector

    def _check(self, name: str, tokens: Tensor, width: int) -> None:
        if tokens.dim() != 3 or tokens.shape[2] != width:
            raise RdtError(
                f"{name} of shape {tuple(tokens.shape)}; the network takes (batch, tokens, {width})",
                remedy="give what the encoder it was trained with returns",
            )
