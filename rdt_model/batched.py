"""A policy for many robots at once: B observations -> B chunks, denoised as one batch.

Each chunk is the one that `Policy` gives for its observation and index alone, up to rounding. For evaluation in many
environments side by side; one robot is better served by `Policy`, which keeps the projections of what it saw. Here
only image tokens are kept, of the frames that the call before was shown, and those of instructions.
"""

from collections.abc import Hashable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from rdt_data.errors import RdtError
from rdt_model.encoders import LanguageEncoder
from rdt_model.images import ImageEncoder
from rdt_model.keypoints import KeypointEncoder
from rdt_model.network import RDT
from rdt_model.policy import Chunk, Observation, Pixels, Policy, instruction_key
from rdt_model.policy_files import PolicyConfig


class BatchedPolicy(Policy):
    """See the module; made and loaded as `Policy`."""

    def __init__(
        self,
        net: RDT,
        images: ImageEncoder,
        config: PolicyConfig,
        language: LanguageEncoder | None = None,
        **options: Any,
    ) -> None:
        super().__init__(net, images, config, language, **options)
        self._shown: dict[Hashable, Tensor] = {}
        self._said: dict[Hashable, Tensor] = {}

    @property
    def horizon(self) -> int:
        """Actions of a chunk."""
        return self.net.config.pred_horizon

    @property
    def history(self) -> int:
        """Frames of each camera it is shown."""
        return self.config.history

    @property
    def image_size(self) -> int:
        """Pixels of the square images that it encodes."""
        return self.images.form.size

    @torch.inference_mode()
    def chunks(
        self, observations: Sequence[Observation], *, indices: Sequence[int], steps: int | None = None
    ) -> list[Chunk]:
        """What each is to do next. indices: of each call, from which with the seed its noise follows. steps: denoising
        steps, by default the network's. Raises RdtError as `Policy` does.
        """
        if not observations or len(observations) != len(indices):
            problem = f"{len(observations)} observations with {len(indices)} indices"
            raise RdtError(problem, remedy="give one index per observation, and at least one")
        masks = [self._mask(seen) for seen in observations]
        language, language_mask = self._languages(observations)
        config = self.config
        rates = [config.control_hz if seen.control_hz is None else seen.control_hz for seen in observations]
        cond = self.net.encode_conditions(
            language,
            language_mask,
            self._images(observations),
            self._stacked([self._state(seen) for seen in observations]),
            self._stacked([mask.astype(np.float32) for mask in masks]),
            torch.tensor(rates, dtype=torch.float32, device=self.net.device),
        )
        noise = torch.cat([self._noise(index) for index in indices])  # (B, H, 128)
        sampled = self.net.sample(cond, steps, noise)  # (B, H, 128)
        return [self._chunk(one, mask) for one, mask in zip(sampled, masks, strict=True)]

    def clear(self) -> None:
        """As of `Policy`: also needed when weights have changed."""
        super().clear()
        self._shown, self._said = {}, {}

    def _images(self, observations: Sequence[Observation]) -> Tensor:
        """(B, img_cond_len, D); each frame is encoded once, however often it is shown."""
        rows, frames = [], dict[Hashable, Pixels]()
        for seen in observations:
            keys, own = self._slots(seen)
            rows.append(keys)
            frames |= own
        shown = dict.fromkeys(key for keys in rows for key in keys)
        tokens = self._shown | self._tokens([key for key in shown if key not in self._shown], frames)
        self._shown = {key: tokens[key] for key in shown}
        return torch.cat([torch.cat([tokens[key] for key in keys], dim=1) for keys in rows])

    def _languages(self, observations: Sequence[Observation]) -> tuple[Tensor, Tensor]:
        """Tokens of the instructions, (B, L, D) of the longest one, and which are real, (B, L)."""
        found = []
        for seen in observations:
            key = instruction_key(seen.instruction)
            if key not in self._said:
                self._said[key] = self._encoded(seen.instruction)[0]
            found.append(self._said[key])
        lengths = torch.tensor([len(tokens) for tokens in found], device=found[0].device)
        padded = torch.nn.utils.rnn.pad_sequence(found, batch_first=True)
        return padded, torch.arange(padded.shape[1], device=padded.device) < lengths[:, None]

    def _stacked(self, rows: Sequence[Any]) -> Tensor:
        return torch.from_numpy(np.stack(rows)).to(self.net.device)


def untrained(policy: BatchedPolicy, seed: int) -> BatchedPolicy:
    """The same policy with weights as training begins with; a pretrained, frozen image encoder stays."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        net = RDT(policy.net.config).to(policy.net.device, policy.net.dtype)
        images = policy.images
        if isinstance(images, KeypointEncoder):
            images = KeypointEncoder(images.config).to(images.device, images.dtype)
    net, images = net.requires_grad_(False), images.requires_grad_(False)
    return BatchedPolicy(net, images, policy.config, policy.language, seed=policy.seed)
