"""What is read from the record is what was written last, however the writes were bundled."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from s1pro.model.router import RouterOutput
from s1pro.serve import routing_record
from s1pro.serve.routing_record import RoutingRecord

LAYERS, K, SLOTS = 3, 2, 24


def routers(generator: torch.Generator, rows: int) -> list[RouterOutput]:
    ids = torch.randint(0, 2**16, (LAYERS, rows, K), generator=generator)
    return [RouterOutput(of_layer, torch.ones(rows, K), torch.zeros(rows, 4)) for of_layer in ids]


@pytest.mark.parametrize("bundle", [1, 3, 100])
def test_bundled_steps_read_as_steps_written_at_once(bundle: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(routing_record, "BUNDLE", bundle)
    g = torch.Generator().manual_seed(0)
    record = RoutingRecord(SLOTS, LAYERS, K, torch.device("cpu"))
    experts, tokens = np.zeros((SLOTS, LAYERS, K), np.uint16), np.zeros(SLOTS, np.int32)

    def note(slots: list[int], *, later: bool) -> None:
        given = routers(g, len(slots))
        ids = torch.randint(0, 1000, (len(slots),), generator=g)
        (record.write_later if later else record.write)(torch.tensor(slots), ids, given)
        for row, slot in enumerate(slots):
            tokens[slot] = ids[row]
            experts[slot] = [router.topk_ids_TK[row].numpy() for router in given]

    note(list(range(SLOTS)), later=False)
    for step in range(5):
        note([step, 12 + step], later=True)
    note([2, 3, 20], later=False)  # slots that wait are written before
    note([7, 21], later=True)
    record.copy_blocks(torch.tensor([1, 5]), torch.tensor([3, 0]), block_size=4)
    for memory in (experts, tokens):
        memory[12:16], memory[0:4] = memory[4:8].copy(), memory[20:24].copy()
    note([9], later=True)
    wanted = torch.tensor([9, 0, 1, 2, 3, 7, 12, 13, 21])
    trace = record.trace(wanted, policy_version=5)
    np.testing.assert_array_equal(trace.experts_TLK, experts[wanted])
    np.testing.assert_array_equal(trace.token_ids_T, tokens[wanted])
    assert trace.policy_version == 5
