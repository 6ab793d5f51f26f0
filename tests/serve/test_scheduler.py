from __future__ import annotations

from collections import Counter

from hypothesis import given, settings
from hypothesis import strategies as st

from s1pro.base.records import Sampling
from s1pro.serve.request import Request
from s1pro.serve.scheduler import Scheduler, Share

SIZE, BLOCKS = 4, 14


def request(prompt: list[int], limit: int) -> Request:
    return Request(prompt, Sampling(max_new_tokens=max(limit, 1)), limit=limit, stop_ids=frozenset())


def scheduler(**options: int) -> Scheduler:
    return Scheduler(**{"num_blocks": BLOCKS, "block_size": SIZE, "max_batch": 4, "step_tokens": 8, **options})  # type: ignore[arg-type]


def run_step(plan: Scheduler, shares: list[Share]) -> list[Request]:
    """What the engine does after a step, with 7 for every sampled token."""
    finished = []
    plan.copied()
    for share in shares:
        asked = share.request
        if share.samples and asked.push(7, 0.0):
            finished.append(asked)
        plan.computed(share, share.count)
    plan.leave(finished)
    return finished


def test_decoding_goes_first_then_prompts_share_the_rest() -> None:
    plan = scheduler()
    old, long, late = request([1, 2, 3], 8), request(list(range(20)), 4), request([9] * 6, 2)
    plan.inbox.append(old)
    run_step(plan, plan.schedule())
    plan.inbox.extend([long, late])
    shares = plan.schedule()
    assert [(s.request, s.start, s.count) for s in shares] == [(old, 3, 1), (long, 0, 4), (late, 0, 3)]
    run_step(plan, shares)
    shares = plan.schedule()
    assert [(s.request, s.start, s.count) for s in shares] == [(old, 4, 1), (long, 4, 4), (late, 3, 3)]
    assert run_step(plan, shares) == []
    shares = plan.schedule()  # the late one has been read, and the long one is alone
    assert [(s.request, s.start, s.count) for s in shares] == [(old, 5, 1), (late, 6, 1), (long, 8, 6)]


def test_the_youngest_gives_way_and_comes_back_first() -> None:
    plan = scheduler(num_blocks=5, step_tokens=32)
    first, second, third = request([1] * 8, 8), request([2] * 7, 8), request([3] * 4, 8)
    plan.inbox.extend([first, second, third])
    order, steps = [], 0
    while plan.has_work:
        order += run_step(plan, plan.schedule())
        steps += 1
        assert steps < 100
    assert order == [first, second, third]
    assert plan.counters.preemptions > 0
    assert [len(r.token_ids) for r in (first, second, third)] == [8, 8, 8]


def test_a_request_waits_for_one_that_computes_the_same_beginning() -> None:
    plan = scheduler(step_tokens=64)
    leader, follower, other = (request(p, 2) for p in ([1] * 9, [1] * 8 + [2], [3] * 4))
    plan.inbox.extend([leader, follower, other])
    shares = plan.schedule()
    assert [s.request for s in shares] == [leader, other]
    run_step(plan, shares)
    share = next(s for s in plan.schedule() if s.request is follower)
    assert (share.start, share.count) == (8, 1)
    assert follower.cached_tokens == 8


def test_blocks_for_guesses_are_given_back_with_them() -> None:
    plan = scheduler(step_tokens=32)
    one, two = request([1] * 7, 9), request([2] * 7, 9)
    plan.inbox.extend([one, two])
    run_step(plan, plan.schedule())
    shares = plan.schedule(lambda asked, room: [5] * min(room, 6))
    assert [len(s.draft) for s in shares] == [6, 6] and [len(r.blocks) for r in (one, two)] == [4, 4]
    one.push(5, 0.0), one.push(6, 0.0), two.push(6, 0.0)
    plan.computed(shares[0], 2)
    plan.computed(shares[1], 1)
    assert [(r.num_computed, len(r.blocks)) for r in (one, two)] == [(9, 3), (8, 2)]
    assert plan.pool.num_free == BLOCKS - 5
    shares = plan.schedule()
    assert plan.grown == [two] and [s.start for s in shares] == [9, 8]


def test_no_guess_without_room_for_all_of_it() -> None:
    plan = scheduler(num_blocks=4, step_tokens=32)
    asked = request([1] * 7, 20)
    plan.inbox.append(asked)
    run_step(plan, plan.schedule())
    shares = plan.schedule(lambda asked, room: [5] * 12)
    assert [(s.start, s.count, s.draft) for s in shares] == [(7, 1, ())]
    assert len(asked.blocks) == 2 and plan.pool.num_free == 2


ARRIVALS = st.lists(
    st.tuples(st.integers(0, 2), st.integers(1, 22), st.integers(0, 16), st.integers(0, 25), st.integers(0, 60)),
    max_size=14,
)


@settings(max_examples=100, deadline=None)
@given(ARRIVALS, st.booleans(), st.integers(4, 20))
def test_blocks_are_accounted_for_whatever_comes(
    arrivals: list[tuple[int, int, int, int, int]], sharing: bool, step_tokens: int
) -> None:
    plan = scheduler(step_tokens=step_tokens, share_prefixes=sharing)
    asked = [request([kind] * length, limit + 1) for kind, length, limit, _, _ in arrivals]
    ended: list[Request] = []
    for step in range(1000):
        for (_, _, _, arrives, leaves), wanted in zip(arrivals, asked, strict=True):
            if step == arrives:
                plan.inbox.append(wanted)
            wanted.aborted = wanted.aborted or step == arrives + leaves
        ended += plan.take_aborted()
        shares = plan.schedule()
        check(plan, shares, step_tokens)
        ended += run_step(plan, shares)
        if len(ended) == len(asked):
            break
    assert len(ended) == len(asked) and not plan.has_work
    assert plan.pool.num_free == BLOCKS


def check(plan: Scheduler, shares: list[Share], step_tokens: int) -> None:
    pool = plan.pool
    holders = Counter(block for running in plan.running for block in running.blocks)
    holders.update(block for source, _ in plan.copies for block in source)
    for source, target in plan.copies:
        assert len(source) == len(target) and all(pool.holders(block) == 1 for block in target)
    assert all(pool.holders(block) == holders[block] for block in range(BLOCKS))
    assert len(plan.running) <= plan.max_batch
    assert sum(share.count for share in shares) <= step_tokens
    assert len({share.request for share in shares}) == len(shares)
    if plan.running or plan.waiting:
        assert shares, "somebody always gets on"
    for share in shares:
        blocks = share.request.blocks
        written = blocks[share.start // SIZE : (share.start + share.count - 1) // SIZE + 1]
        assert written and share.start + share.count <= len(blocks) * SIZE
        assert all(pool.holders(block) == 1 for block in written), "nobody writes into a shared block"
