from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any

import pytest

from s1pro.serve.http.admission import Admission
from s1pro.serve.http.errors import ApiError


def run(scenario: Coroutine[Any, Any, Any]) -> Any:
    return asyncio.run(asyncio.wait_for(scenario, 10))


class Visitor:
    """Asks for a place and keeps it until it is told to go."""

    def __init__(self, admission: Admission, sequences: int = 1) -> None:
        self.inside, self.go = asyncio.Event(), asyncio.Event()
        self.task = asyncio.create_task(self._visit(admission, sequences))

    async def _visit(self, admission: Admission, sequences: int) -> None:
        async with admission.place(sequences):
            self.inside.set()
            await self.go.wait()

    async def leave(self) -> None:
        self.go.set()
        await self.task


async def settle() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


def test_places_are_given_in_the_order_of_asking() -> None:
    async def scenario() -> None:
        admission = Admission(2, max_at_door=10, patience=60)
        visitors = [Visitor(admission) for _ in range(6)]
        await settle()
        for first in range(4):
            assert [v.inside.is_set() for v in visitors] == [i < first + 2 for i in range(6)]
            await visitors[first].leave()
            late = Visitor(admission)  # does not overtake
            await settle()
            assert not late.inside.is_set()
            late.task.cancel()
            await settle()
        for visitor in visitors[4:]:
            await visitor.leave()
        assert admission.inside == 0

    run(scenario())


def test_patience_ends_and_the_door_is_narrow() -> None:
    async def scenario() -> None:
        admission = Admission(1, max_at_door=1, patience=0.05)
        first = Visitor(admission)
        await settle()
        at_door = Visitor(admission)
        await settle()
        with pytest.raises(ApiError) as caught:  # at once
            async with admission.place(1):
                pass
        assert caught.value.status == 429 and caught.value.retry_after == 1
        with pytest.raises(ApiError):
            await at_door.task
        await first.leave()
        async with admission.place(1):
            assert admission.inside == 1
        assert admission.inside == 0

    run(scenario())


def test_a_large_request_waits_for_an_empty_house_and_is_not_overtaken() -> None:
    async def scenario() -> None:
        admission = Admission(2, max_at_door=10, patience=60)
        one = Visitor(admission)
        await settle()
        large, small = Visitor(admission, 5), Visitor(admission)
        await settle()
        assert not large.inside.is_set() and not small.inside.is_set()
        await one.leave()
        await settle()
        assert large.inside.is_set() and not small.inside.is_set()
        large.task.cancel()  # leaves while inside
        await settle()
        assert small.inside.is_set() and admission.inside == 1
        await small.leave()
        assert admission.inside == 0

    run(scenario())


def test_nothing_is_lost_when_somebody_is_cancelled_as_the_turn_comes() -> None:
    async def scenario() -> None:
        admission = Admission(1, max_at_door=10, patience=60)
        first = Visitor(admission)
        await settle()
        second, third = Visitor(admission), Visitor(admission)
        await settle()
        first.go.set()
        await first.task  # the turn of the second is set, but it has not run yet
        second.task.cancel()
        await settle()
        assert third.inside.is_set()
        await third.leave()
        assert admission.inside == 0

    run(scenario())
