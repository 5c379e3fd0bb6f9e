"""What a training run on this machine would use: versions of the libraries it rests on, and devices."""

import importlib.metadata
import os

LIBRARIES = ("torch", "torchvision", "transformers", "diffusers", "timm", "ray", "zarr", "numpy")


def describe() -> dict[str, str]:
    """Library -> version, and the devices: CPU cores, and each CUDA device with its memory."""
    import torch

    found = {name: importlib.metadata.version(name) for name in LIBRARIES}
    found["cpu cores"] = str(len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count())
    found["cuda devices"] = str(torch.cuda.device_count())
    for number in range(torch.cuda.device_count()):
        device = torch.cuda.get_device_properties(number)
        found[f"cuda:{number}"] = f"{device.name}, {device.total_memory / 2**30:.0f} GiB"
    found["bf16"] = "yes" if torch.cuda.is_available() and torch.cuda.is_bf16_supported() else "no GPU that has it"
    return found
