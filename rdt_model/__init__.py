"""The policy: network, diffusion, training, sampling (torch)."""
