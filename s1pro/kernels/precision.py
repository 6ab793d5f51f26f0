"""Parts of the network that stay in float32 whatever the caller's autocast says (precision policy of the paper)."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext

import torch

_NOTHING = nullcontext()


def without_autocast(device: torch.device) -> AbstractContextManager[object]:
    """Switches autocast off where it is on. Entering `torch.autocast` itself would cost as much as a small product."""
    if device.type != "meta" and torch.is_autocast_enabled(device.type):
        return torch.autocast(device.type, enabled=False)
    return _NOTHING
