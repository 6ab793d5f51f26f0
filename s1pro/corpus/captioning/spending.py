"""What the calls of a route have cost, and that they stay below its price cap: a ledger that all processes share.

    {"route": "scientific", "most": 0.0123}                  before a call: what it may cost at most
    {"route": "scientific", "of": 1840, "cost": 0.0041}      after it: what it did cost; `of` is where its line begins

A call is allowed if everything spent, the most of every call under way, and its own most stay within the cap. So the
cap holds with any number of calls and processes at once (a lock on the file keeps them apart), and after any kill:
calls that were under way then may have been paid for, so they count with their most for ever. The same goes for calls
that ended without an answer or whose answer names no tokens. Prices are those of the endpoint at the time of the call,
in its currency.

The most of a call: every character of the prompt is a token and every 14 x 14 pixels of the picture are one, but not
less than the longest prompt of the route so far; and the answer takes all tokens that it may. A refused prompt costs
nothing. What retries of one call cost whose answers never came is not known to anybody but the server.
"""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from s1pro.base.endpoint import EndpointSettings
from s1pro.base.errors import InputError
from s1pro.base.records import Completion

PATCH = 14
"""Pixels of the side of a patch: no known model of today cuts pictures finer."""
_EXTRA_TOKENS = 256  # template of the conversation, borders of the picture


@dataclass(kw_only=True)
class RouteSpending:
    """Of one route.

    Attributes:
        spent: costs that are known, and the most of calls whose cost is not.
        calls: that were begun; `unknown` is how many of them have no known cost.
        longest: tokens of the longest prompt.
    """

    spent: float = 0.0
    calls: int = 0
    unknown: int = 0
    longest: int = 0


@dataclass(kw_only=True)
class _Ledger:
    """What the file says up to `end`."""

    routes: dict[str, RouteSpending] = field(default_factory=dict)
    open: dict[int, float] = field(default_factory=dict)
    end: int = 0

    def take(self, line: dict[str, Any], place: int) -> None:
        route = self.routes.setdefault(str(line["route"]), RouteSpending())
        if "of" in line:
            route.spent += float(line["cost"]) - self.open.pop(int(line["of"]))
            route.unknown -= 1
            route.longest = max(route.longest, int(line.get("prompt", 0)))
        else:
            most = self.open[place] = float(line["most"])
            route.spent += most
            route.calls += 1
            route.unknown += 1


class RouteBudget:
    """The purse of one route.

    Args:
        path: the ledger; created if it is missing.
        cap: highest sum of all calls of the route, in the currency of the prices; 0 for no limit.
        endpoint: names the prices.

    Attributes:
        under_way: calls of this process that may still turn out cheaper than their most.
    """

    def __init__(self, path: Path, route: str, cap: float, endpoint: EndpointSettings) -> None:
        self.path, self.route, self.cap, self.endpoint = path, route, cap, endpoint
        self._ledger = _Ledger()
        self.under_way: set[int] = set()
        path.parent.mkdir(parents=True, exist_ok=True)

    def reserve(self, characters: int, pixels: int, max_tokens: int) -> int | None:
        """Notes that a call begins and gives its name; None if it could exceed the cap.

        Args:
            characters, pixels: of the prompt; `max_tokens` of the answer.
        """
        with self._locked() as ledger:
            route = ledger.routes.setdefault(self.route, RouteSpending())
            prompt = max(characters + pixels // PATCH**2 + _EXTRA_TOKENS, route.longest)
            most = self._cost(prompt, max_tokens)
            if self.cap and route.spent + most > self.cap:
                return None
            call = self._append({"route": self.route, "most": most})
        self.under_way.add(call)
        return call

    def settle(self, call: int, answer: Completion | None) -> None:
        """Notes what a call did cost: by the tokens of its answer, nothing without one."""
        if answer is not None and answer.usage is None:
            return
        line: dict[str, Any] = {"route": self.route, "of": call, "cost": 0.0}
        if answer is not None and answer.usage is not None:
            prompt = answer.usage.num_prompt_tokens
            line |= {"cost": self._cost(prompt, answer.usage.num_tokens), "prompt": prompt}
        with self._locked():
            self._append(line)

    def _cost(self, prompt: int, tokens: int) -> float:
        return (prompt * self.endpoint.price_prompt + tokens * self.endpoint.price_completion) / 1e6

    @contextmanager
    def _locked(self) -> Iterator[_Ledger]:
        """The ledger as it is now; nobody else changes it meanwhile."""
        with self.path.open("a+b") as self._file:
            fcntl.flock(self._file, fcntl.LOCK_EX)
            whole = _read(self._file, self.path, self._ledger)
            self._file.truncate(whole)  # a line that a kill has cut in two: its call had not begun
            yield self._ledger

    def _append(self, line: dict[str, Any]) -> int:
        place = self._ledger.end
        data = json.dumps(line, ensure_ascii=False, separators=(",", ":")).encode() + b"\n"
        self._file.write(data)
        self._file.flush()
        os.fsync(self._file.fileno())
        self._ledger.take(line, place)
        self._ledger.end = place + len(data)
        return place


def spending(path: Path) -> dict[str, RouteSpending]:
    """What every route has spent, by its name; empty without a ledger."""
    ledger = _Ledger()
    if path.exists():
        with path.open("rb") as file:
            _read(file, path, ledger)
    return dict(sorted(ledger.routes.items()))


def _read(file: Any, path: Path, ledger: _Ledger) -> int:
    """Adds what is new in the file; gives where its last whole line ends."""
    file.seek(ledger.end)
    data = file.read()
    for text in data[: data.rfind(b"\n") + 1].splitlines(keepends=True):
        try:
            ledger.take(json.loads(text), ledger.end)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise InputError(f"{path}: byte {ledger.end}: no line of a ledger of costs ({error})") from error
        ledger.end += len(text)
    return ledger.end
