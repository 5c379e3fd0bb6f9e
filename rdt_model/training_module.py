"""What is trained as one torch module: image encoder and network, from a batch to its loss.

In: a `TrainingBatch`. Out: the mean loss of its numbers, or action chunks. One module, so that one forward is what
torch wraps for several GPUs and mixed precision. Knows nothing of optimisers, files and stores.
"""

import torch
from torch import Tensor, nn

from rdt_model.conditions import Conditions
from rdt_model.diffusion import diffusion_loss
from rdt_model.images import ImageEncoder
from rdt_model.network import RDT
from rdt_model.training_batch import TrainingBatch
from rdt_model.transformer import IMAGES, LANGUAGE


class TrainingModule(nn.Module):
    """See the module. loss: a mode of `diffusion_loss`."""

    def __init__(self, net: RDT, encoder: ImageEncoder, loss: str) -> None:
        super().__init__()
        self.net, self.encoder, self.loss = net, encoder, loss

    def forward(self, batch: TrainingBatch) -> Tensor:
        """The loss, a scalar in float32: the mean over `batch.numbers` numbers."""
        return diffusion_loss(
            self.net,
            self.conditions(batch),
            batch.action,
            batch.valid,
            noise=batch.noise,
            timesteps=batch.timesteps,
            mode=self.loss,
            draws=len(batch.noise),
        )

    def conditions(self, batch: TrainingBatch) -> Conditions:
        """The batch's observations, encoded; an instruction that several rows share only once."""
        tokens = self.encoder(batch.images, batch.image_mask)  # (B, history * cameras * P, D)
        words, mask = self.net.adapt_language(batch.lang_tokens, batch.lang_mask)  # (U, L, W), (U, 1, 1, L)
        language = [
            (keys[batch.lang_rows], values[batch.lang_rows]) for keys, values in self.net.project(LANGUAGE, words)
        ]
        images = self.net.project(IMAGES, self.net.adapt_images(tokens))
        rows = None if mask is None else mask[batch.lang_rows]
        return self.net.join(language, images, rows, batch.state, batch.action_mask, batch.ctrl_hz)

    @torch.no_grad()
    def sample(self, batch: TrainingBatch, steps: int) -> Tensor:
        """Action chunks, (B, H, 128) float32, from the batch's first noise."""
        return self.net.sample(self.conditions(batch), steps, batch.noise[0])
