"""The network without values (meta and fake tensors, for planning) and under torch.compile's front end."""

from __future__ import annotations

import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from s1pro.kernels.attention import PackedContext
from s1pro.model.network import Network
from s1pro.model.presets import tiny

IDS, POSITIONS = list(range(12)), [*range(7), *range(5)]
CONTEXT = PackedContext.from_lengths([7, 5])


def test_meta_and_fake_tensors_give_shapes_and_gradients() -> None:
    with torch.device("meta"):
        meta = Network(tiny())(torch.tensor(IDS), torch.tensor(POSITIONS), CONTEXT)
    assert meta.logits is not None and meta.logits.is_meta and meta.routing_LTK.shape == (2, 12, 2)
    with FakeTensorMode():
        network = Network(tiny())
        output = network(torch.tensor(IDS), torch.tensor(POSITIONS), CONTEXT)
        assert output.logits is not None and output.logits.shape == (12, 512)
        output.logits.sum().backward()
        assert all(p.grad is not None and p.grad.shape == p.shape for p in network.parameters())


def test_compiled_blocks_give_the_same_logits_and_gradients() -> None:
    """With the backend that runs operations as they are: what the tracer sees must be what is computed."""
    plain, compiled = Network(tiny()), Network(tiny())
    for block in compiled.model.language_model.layers:
        block.compile(backend="eager")
    inputs = (torch.tensor(IDS), torch.tensor(POSITIONS), CONTEXT)
    for network in (plain, compiled):
        network(*inputs).logits.square().mean().backward()
    torch.testing.assert_close(compiled(*inputs).logits, plain(*inputs).logits, atol=1e-6, rtol=1e-5)
    for mine, other in zip(compiled.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(mine.grad, other.grad, atol=1e-6, rtol=1e-3)
