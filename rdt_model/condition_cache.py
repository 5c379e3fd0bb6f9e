"""Conditions of a control loop, where most of an observation is known from the call before.

In: per image slot a key that says which image it is, and the tokens of the images not seen before. Out: Conditions.
An image's keys and values are linear in its positional embedding up to the norm of the keys. So an image is projected
once without positions, and when it comes again in another slot (the newer frame of a camera is the older one of the
next call; an absent camera's background fills several slots) only the slot's projected positions are added and keys
are normed. A slot that shows the same image as before is not touched.

Memory, at hidden width W, per block that attends to images: 2 W numbers for each image token (its keys and values), as
much for the projected positions, and as much for each image that the last call showed.
"""

from collections.abc import Collection, Hashable, Mapping, Sequence

import torch
from torch import Tensor

from rdt_data.errors import RdtError
from rdt_model.conditions import Conditions
from rdt_model.layers import KeysValues
from rdt_model.network import RDT
from rdt_model.transformer import IMAGES, LANGUAGE


class ConditionCache:
    """One control loop's memory; not differentiable. `clear` it when the weights change.

    images: image slots of an observation, frames x cameras, in the order of the image tokens.
    """

    def __init__(self, net: RDT, images: int) -> None:
        if net.config.img_cond_len % images:
            raise RdtError(
                f"{net.config.img_cond_len} image tokens do not make {images} images",
                remedy="give the number of frames times the number of cameras the network was trained with",
            )
        self.net = net
        self.images = images
        self.clear()

    @torch.inference_mode()
    def clear(self) -> None:
        """Forget everything; positions are projected anew."""
        layers = self.net.model.cross_attentions(IMAGES)
        # What positions add: the whole projection less its bias, for a layer in few bits has no plain matrix.
        self._positions = [layer.kv(self.net.model.img_cond_pos_embed) - layer.kv.bias for layer in layers]
        self._projected: dict[Hashable, list[Tensor]] = {}
        self._shown: list[Hashable] = []
        self._known: list[KeysValues] = []
        self._language: tuple[Hashable, list[KeysValues], Tensor | None] | None = None

    def missing(self, images: Sequence[Hashable]) -> list[Hashable]:
        """Of the images, given by key, those whose tokens `conditions` needs; each once."""
        return [key for key in dict.fromkeys(images) if key not in self._projected]

    def knows_language(self, language: Hashable) -> bool:
        """Whether `conditions` can do without the tokens of this instruction."""
        return self._language is not None and self._language[0] == language

    @torch.inference_mode()
    def conditions(
        self,
        images: Sequence[Hashable],
        tokens: Mapping[Hashable, Tensor],
        *,
        language: Hashable,
        lang_tokens: Tensor | None = None,
        lang_mask: Tensor | None = None,
        state: Tensor,
        action_mask: Tensor,
        ctrl_hz: Tensor,
    ) -> Conditions:
        """As `RDT.encode_conditions`, of images known by key.

        images: a key per slot; the same key is the same image. tokens: key -> (B or 1, patches, img_token_dim), for at
        least the `missing` ones. language: a key of the instruction; its tokens are needed when it is a new one.
        The conditions hold until the next call, which writes over them.
        """
        if not self.knows_language(language):
            self._language = (language, *self._encode_language(lang_tokens, lang_mask))
        self._project(images, tokens)
        self._place(images, batch=state.shape[0])
        assert self._language is not None
        _, lang, mask = self._language
        return self.net.join(lang, self._known, mask, state, action_mask, ctrl_hz)

    @property
    def nbytes(self) -> int:
        """Bytes it holds, conditions included."""
        pairs = [tensor for pair in self._known for tensor in pair]
        projected = [tensor for layers in self._projected.values() for tensor in layers]
        return sum(tensor.nbytes for tensor in (*self._positions, *pairs, *projected))

    def _encode_language(self, tokens: Tensor | None, mask: Tensor | None) -> tuple[list[KeysValues], Tensor | None]:
        if tokens is None:
            raise RdtError(
                "a new instruction without its tokens", remedy="pass lang_tokens, or ask knows_language first"
            )
        lang, mask = self.net.adapt_language(tokens, mask)
        return self.net.project(LANGUAGE, lang), mask

    def _project(self, images: Sequence[Hashable], tokens: Mapping[Hashable, Tensor]) -> None:
        """Project the new images, without positions, and forget those that no slot shows."""
        needed = self.missing(images)
        self._refuse(images, [key for key in needed if key not in tokens])
        for key in needed:
            image = self.net.img_adaptor(tokens[key].to(self.net.device, self.net.dtype))  # (B or 1, patches, W)
            self._projected[key] = [layer.kv(image) for layer in self.net.model.cross_attentions(IMAGES)]
        self._projected = {key: self._projected[key] for key in dict.fromkeys(images)}

    def _refuse(self, images: Sequence[Hashable], lacking: Collection[Hashable]) -> None:
        if len(images) != self.images or lacking:
            raise RdtError(
                f"{len(images)} images for {self.images} slots, tokens lacking for {sorted(map(str, lacking))}",
                remedy="give a key per slot, and the tokens of what `missing` returns",
            )

    def _place(self, images: Sequence[Hashable], batch: int) -> None:
        """Write keys and values of the slots whose image changed."""
        if not self._known or self._known[0][0].shape[0] != batch:
            self._known, self._shown = self._empty(batch), [None] * self.images
        patches = self.net.config.img_cond_len // self.images
        layers = self.net.model.cross_attentions(IMAGES)
        for slot, key in enumerate(images):
            if slot < len(self._shown) and self._shown[slot] == key:
                continue
            part = slice(slot * patches, (slot + 1) * patches)
            for number, (layer, (keys, values)) in enumerate(zip(layers, self._known, strict=True)):
                projected, positions = self._projected[key][number], self._positions[number][:, part]
                new = map(torch.add, projected.chunk(2, dim=-1), positions.chunk(2, dim=-1))  # (B or 1, patches, W)
                layer.write(new, keys[:, :, part], values[:, :, part])
        self._shown = list(images)

    def _empty(self, batch: int) -> list[KeysValues]:
        config = self.net.config
        shape = (batch, config.num_heads, config.img_cond_len, config.hidden_size // config.num_heads)

        def empty() -> Tensor:
            return torch.empty(shape, dtype=self.net.dtype, device=self.net.device)

        return [(empty(), empty()) for _ in self.net.model.cross_attentions(IMAGES)]
