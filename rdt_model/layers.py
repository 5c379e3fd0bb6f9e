"""The layers of RDT. The only owner of timm.

In and out: tensors whose shapes the docstrings give; B observations, k draws of each (see `conditions`), N tokens in
the sequence, L in a condition, W wide. The names of the weights are the published ones (RoboticsDiffusionTransformer,
`models/rdt/blocks.py`).

The published network was trained with timm 1.0.3, whose `RmsNorm` divides by the standard deviation, not by the root
mean square (huggingface/pytorch-image-models#2380). Newer timm calls that `SimpleNorm`; with its corrected `RmsNorm`
the published weights give other actions.
"""

import math
from collections.abc import Iterable
from typing import Any, cast

import torch
from timm.layers.attention import Attention
from timm.layers.mlp import Mlp
from timm.layers.norm import SimpleNorm
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention

from rdt_model.config import ADAPTOR

PIECE = 1024
"""Tokens of a condition that are projected at a time where no gradients are wanted."""

KeysValues = tuple[Tensor, Tensor]
"""What a cross-attention layer needs to know of a condition: two tensors (B, heads, L, W / heads)."""


def wide(x: Tensor) -> Tensor:
    """The same numbers in at least float32."""
    return x.to(torch.promote_types(x.dtype, torch.float32))


class Norm(SimpleNorm):
    """x / standard deviation * weight over the last axis; the mean stays."""

    def forward(self, x: Tensor) -> Tensor:
        """x: (…, n). returns: the same shape."""
        if x.dtype == wide(x).dtype and torch.is_grad_enabled():
            return cast(Tensor, _Normed.apply(x, self.weight, self.eps))
        _, inverse = _moments(wide(x), self.eps) if not torch.is_grad_enabled() else _differentiable(wide(x), self.eps)
        return x * inverse.to(x.dtype) * self.weight


class _Normed(torch.autograd.Function):
    """`Norm` with its gradient written out: a third of the passes over memory that autograd's own would take."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, eps: float) -> Tensor:
        mean, inverse = _moments(x, eps)
        ctx.save_for_backward(x, weight, mean, inverse)
        return x * inverse * weight

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor, None]:
        x, weight, mean, inverse = ctx.saved_tensors
        scaled = gradients[0] * x
        of_weight = (scaled * inverse).flatten(0, -2).sum(0)
        pull = (scaled * weight).sum(-1, keepdim=True) * inverse**3 / (x.shape[-1] - 1)
        return torch.addcmul(gradients[0] * (inverse * weight), pull, mean - x), of_weight, None


def _moments(x: Tensor, eps: float) -> tuple[Tensor, Tensor]:
    """Mean and 1 / standard deviation of the last axis, (…, 1) each, from one kernel, which divides by n, not n - 1."""
    share = (x.shape[-1] - 1) / x.shape[-1]
    _, mean, inverse = torch.native_layer_norm(x, x.shape[-1:], None, None, eps * share)
    return mean, inverse * math.sqrt(share)


def _differentiable(x: Tensor, eps: float) -> tuple[Tensor, Tensor]:
    """The same for autograd, to which that kernel gives no gradient of these two."""
    mean = x.mean(-1, keepdim=True)
    variance = (x - mean).square().sum(-1, keepdim=True) / (x.shape[-1] - 1)
    return mean, torch.rsqrt(variance + eps)


class TanhGelu(nn.GELU):
    """GELU by its tanh approximation, as published."""

    def __init__(self) -> None:
        super().__init__(approximate="tanh")


def adaptor(kind: str, in_width: int, out_width: int) -> nn.Module:
    """'linear', or 'mlp<n>x_gelu': n linear layers with GELU between, (…, in_width) -> (…, out_width)."""
    if kind == "linear":
        return nn.Linear(in_width, out_width)
    match = ADAPTOR.fullmatch(kind)
    assert match, "ModelConfig lets no other name pass"
    layers: list[nn.Module] = [nn.Linear(in_width, out_width)]
    for _ in range(1, int(match[1])):
        layers += [TanhGelu(), nn.Linear(out_width, out_width)]
    return nn.Sequential(*layers)


class ScalarEmbedder(nn.Module):
    """A number (diffusion timestep, or control rate in Hz) as a token."""

    FREQUENCIES = 128

    def __init__(self, width: int) -> None:
        super().__init__()
        self.mlp = nn.Sequential(nn.Linear(2 * self.FREQUENCIES, width), nn.SiLU(), nn.Linear(width, width))

    def forward(self, number: Tensor) -> Tensor:
        """number: (B,). returns: (B, 1, W)."""
        steps = torch.arange(self.FREQUENCIES, dtype=torch.float32, device=number.device)
        frequencies = torch.exp(-math.log(10000.0) / self.FREQUENCIES * steps)
        phases = number.float()[:, None] * frequencies  # (B, 128)
        waves = torch.cat([phases.cos(), phases.sin()], dim=-1)  # (B, 256)
        return cast(Tensor, self.mlp(waves.to(next(self.parameters()).dtype)))[:, None]


class CrossAttention(nn.Module):
    """Attention over a condition whose keys and values are computed apart, once for all denoising steps and draws."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.q = nn.Linear(width, width)
        self.kv = nn.Linear(width, 2 * width)
        self.q_norm = Norm(width // heads)
        self.k_norm = Norm(width // heads)
        self.proj = nn.Linear(width, width)

    def keys_values(self, tokens: Tensor) -> KeysValues:
        """tokens: (B, L, W), positions added. A head's rows lie together: attention on a CPU is 1.6 times faster so."""
        batch, length, width = tokens.shape
        if torch.is_grad_enabled():
            keys, values = self.kv(tokens).view(batch, length, 2, self.heads, -1).unbind(2)  # (B, L, heads, W / heads)
            keys, values = torch.stack([self.k_norm(keys).transpose(1, 2), values.transpose(1, 2)]).unbind()
            return keys, values
        # One piece of memory for both keeps the heap from fragmenting, and pieces of PIECE tokens stay in the cache.
        keys, values = tokens.new_empty(2, batch, self.heads, length, width // self.heads).unbind()
        for start in range(0, length, PIECE):
            part = slice(start, start + PIECE)
            self.write(self.kv(tokens[:, part]).chunk(2, dim=-1), keys[:, :, part], values[:, :, part])
        return keys, values

    def write(self, projected: Iterable[Tensor], keys: Tensor, values: Tensor) -> None:
        """Norm the projected keys and put them and the projected values where they belong.

        projected: keys and values, (B or 1, l, W) each. keys, values: (B, heads, l, W / heads), overwritten.
        """
        new_keys, new_values = (new.view(*new.shape[:2], self.heads, -1) for new in projected)
        keys.copy_(self.k_norm(new_keys).transpose(1, 2))
        values.copy_(new_values.transpose(1, 2))

    def forward(self, x: Tensor, known: KeysValues, mask: Tensor | None) -> Tensor:
        """x: (k B, N, W), draw by draw; mask: (B, 1, 1, L), True where a token is real. returns: (k B, N, W).

        The draws of an observation attend side by side, as one longer sequence, so that `known` is never copied.
        """
        keys, values = known
        (rows, count, width), batch = x.shape, keys.shape[0]
        q = self.q_norm(self.q(x).view(rows // batch, batch, count, self.heads, -1))  # (k, B, N, heads, W / heads)
        q = q.permute(1, 3, 0, 2, 4).flatten(2, 3)  # (B, heads, k N, W / heads)
        y = scaled_dot_product_attention(q, keys, values, attn_mask=mask)  # (B, heads, k N, W / heads)
        y = y.view(batch, self.heads, -1, count, width // self.heads).permute(2, 0, 3, 1, 4)  # (k, B, N, heads, …)
        return cast(Tensor, self.proj(y.reshape(rows, count, width)))


class Block(nn.Module):
    """Self-attention, cross-attention to one condition, feed-forward; each normed before and added after."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.norm1 = Norm(width)
        self.attn = Attention(width, heads, qkv_bias=True, qk_norm=True, norm_layer=Norm)
        self.norm2 = Norm(width)
        self.cross_attn = CrossAttention(width, heads)
        self.norm3 = Norm(width)
        self.ffn = Mlp(width, width, act_layer=TanhGelu)

    def forward(self, x: Tensor, known: KeysValues, mask: Tensor | None) -> Tensor:
        """x: (k B, N, W). returns: the same shape."""
        x = x + self.attn(self.norm1(x))  # (k B, N, W)
        x = x + self.cross_attn(self.norm2(x), known, mask)  # (k B, N, W)
        return cast(Tensor, x + self.ffn(self.norm3(x)))  # (k B, N, W)


class FinalLayer(nn.Module):
    """Norm and feed-forward to the width of an action."""

    def __init__(self, width: int, out_width: int) -> None:
        super().__init__()
        self.norm_final = Norm(width)
        self.ffn_final = Mlp(width, width, out_width, act_layer=TanhGelu)

    def forward(self, x: Tensor) -> Tensor:
        """x: (…, W). returns: (…, out_width)."""
        return cast(Tensor, self.ffn_final(self.norm_final(x)))
