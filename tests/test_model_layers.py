"""Layers without gradients take other kernels and go piece by piece: the numbers are those with gradients."""

import pytest
import torch

from rdt_model import layers
from rdt_model.layers import CrossAttention, Norm


def drawn(module):
    torch.manual_seed(0)
    for parameter in module.parameters():
        torch.nn.init.normal_(parameter)
    return module


@pytest.mark.parametrize("shape", [(5, 7, 32), (3, 1024), (2, 2)])
@pytest.mark.parametrize(("spread", "mean"), [(1, 0), (1e-4, 0), (1, 100)])
def test_the_norm_divides_by_the_standard_deviation_with_and_without_gradients(shape, spread, mean):
    norm = drawn(Norm(shape[-1]))
    x = mean + spread * torch.randn(shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    with torch.no_grad():
        expected = x / (x.var(-1, keepdim=True) + norm.eps).sqrt() * norm.weight
        fused = norm(x)
    torch.testing.assert_close(norm(x).detach(), expected)
    torch.testing.assert_close(fused, expected)


def test_the_norm_of_half_precision_is_taken_in_single():
    norm = drawn(Norm(32)).bfloat16()
    x = 300 * torch.randn(64, 32, generator=torch.Generator().manual_seed(1)).bfloat16()
    with torch.no_grad():
        fused = norm(x)
    assert fused.dtype == torch.bfloat16
    torch.testing.assert_close(fused, norm(x).detach())
    wide = x.double()
    torch.testing.assert_close(fused.double(), wide / wide.std(-1, keepdim=True) * norm.weight, rtol=0.02, atol=0.02)


@pytest.mark.parametrize("piece", [1, 5, 12, 100])
def test_keys_and_values_projected_in_pieces_are_those_of_the_whole(monkeypatch, piece):
    attention = drawn(CrossAttention(32, 4))
    tokens = torch.randn(2, 12, 32, generator=torch.Generator().manual_seed(1))
    whole = attention.keys_values(tokens)
    assert all(tensor.requires_grad for tensor in whole)
    monkeypatch.setattr(layers, "PIECE", piece)
    with torch.no_grad():
        pieces = attention.keys_values(tokens)
    for one, other in zip(whole, pieces, strict=True):
        assert one.shape == other.shape == (2, 4, 12, 8)
        torch.testing.assert_close(one.detach(), other)
