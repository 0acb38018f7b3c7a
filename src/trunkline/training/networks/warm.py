"""What PyTorch loads when it is first used, loaded ahead. A home of torch."""

from __future__ import annotations

import torch

__all__ = ["warm"]


def warm() -> None:
    """Load what the first optimiser and its schedule load (seconds), and start no thread: this process will fork."""
    torch.set_num_threads(1)
    weight = torch.nn.Parameter(torch.zeros(1))
    optimizer = torch.optim.AdamW([weight], lr=1e-3)
    torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1.0)
