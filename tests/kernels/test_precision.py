"""Where autocast is switched off, and that asking is safe on every device."""

from __future__ import annotations

import torch

from s1pro.kernels.precision import without_autocast


def test_autocast_is_off_inside_and_on_again_afterwards() -> None:
    x = torch.ones(4, 4)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert (x @ x).dtype == torch.bfloat16
        with without_autocast(x.device):
            assert (x @ x).dtype == torch.float32
        assert (x @ x).dtype == torch.bfloat16


def test_without_autocast_nothing_happens() -> None:
    for device in ("cpu", "meta"):
        with without_autocast(torch.device(device)):
            assert not torch.is_autocast_enabled("cpu")
