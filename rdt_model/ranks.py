"""What ranks share: plain data of each on all of them, and tensors that are spread over them.

Plain data goes as bytes of JSON: no pickle crosses a socket. In: an `Accelerator`, a value that JSON can hold. Out: the
values of all ranks, in their order.
"""

import json
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from torch import Tensor
from torch.distributed.tensor import DTensor, distribute_tensor


def gathered(accelerator: Accelerator, value: Any) -> list[Any]:
    """Every rank must call it at the same place."""
    if accelerator.num_processes == 1:
        return [json.loads(json.dumps(value))]
    data = np.frombuffer(json.dumps(value).encode(), np.uint8).copy()
    sizes = accelerator.gather(torch.tensor([len(data)], device=accelerator.device)).tolist()
    padded = np.zeros(max(sizes), np.uint8)
    padded[: len(data)] = data
    every = accelerator.gather(torch.from_numpy(padded).to(accelerator.device)[None]).cpu().numpy()  # (ranks, bytes)
    return [json.loads(row[:size].tobytes()) for row, size in zip(every, sizes, strict=True)]


def full(tensor: Tensor) -> Tensor:
    """A copy on the CPU of a whole tensor, which FSDP may have spread over the ranks; then every rank must call it."""
    whole = tensor.full_tensor() if isinstance(tensor, DTensor) else tensor
    return whole.detach().to("cpu", copy=True)


def placed(value: Tensor, like: Tensor) -> Tensor:
    """A whole tensor, spread as `like` is where it is spread and has the same shape."""
    if isinstance(like, DTensor) and value.shape == like.shape:
        return distribute_tensor(value.to(like.device), like.device_mesh, like.placements)
    return value
