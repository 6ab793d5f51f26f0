"""Which answers of a model may be trained on, and which of several are chosen.

Rejected are: wrong and unreadable answers, cut-off ones (`finish_reason` is not `stop`), chains that state the answer
before they derive it, and chains of fewer than a given number of characters. Of several right answers the one of median
length is chosen, then those that share the fewest runs of three words with what was already chosen.

    pass@k = 1 - C(n - c, k) / C(n, k)      n answers of which c are right: the chance that one of k is right
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from s1pro.base.records import Completion
from s1pro.science.facts.forms import Task
from s1pro.science.facts.verify import Rules, final_answer, states_answer_first, verify


def judge(task: Task, completion: Completion, rules: Rules, *, min_chain: int, reasoning: str = "") -> str:
    """ "right", or the first reason to reject an answer. Raises `InputError` for a gold that cannot be compared."""
    if completion.finish_reason != "stop":
        return "cut_off"
    verdict = verify(completion.text, task.gold, rules, accepted=task.accepted)
    if not verdict.right:
        return verdict.reason
    chain = chain_of(completion.text, reasoning)
    if len(chain) < min_chain:
        return "no_reasoning"
    if states_answer_first(chain, task.gold):
        return "answer_first"
    return "right"


def chain_of(text: str, reasoning: str = "") -> str:
    """What stands before the final answer: the reasoning that the server gave apart, and the text before the answer."""
    think, mark, rest = text.rpartition("</think>")
    if mark:
        reasoning, text = f"{reasoning} {think.replace('<think>', '')}", rest
    answer = final_answer(text)
    before = text[: text.rfind(answer)] if answer else text
    lines = before.splitlines()
    if lines and lines[-1].strip().lower().rstrip("*: ").endswith(("answer", "answer is", "\\boxed{", "boxed{")):
        lines.pop()
    return f"{reasoning}\n{chr(10).join(lines)}".strip()


def pass_at_k(attempts: int, right: int, k: int) -> float:
    """Probability that one of k answers is right, estimated from `attempts` of which `right` are."""
    if attempts < k:
        raise ValueError(f"pass@{k} needs at least {k} attempts, got {attempts}")
    return 1.0 - math.comb(attempts - right, k) / math.comb(attempts, k)


def choose(chains: Sequence[tuple[int, str]], keep: int) -> list[int]:
    """Which of the right answers are kept: median length first, then the most different ones."""
    left = sorted(chains, key=lambda item: (len(item[1]), item[0]))
    if not left:
        return []
    chosen = [left.pop((len(left) - 1) // 2)]
    while left and len(chosen) < keep:
        best = min(left, key=lambda item: (max(alike(item[1], chain) for _, chain in chosen), item[0]))
        left.remove(best)
        chosen.append(best)
    return [number for number, _ in chosen]


def alike(text: str, other: str) -> float:
    """Share of the different runs of three words of two texts that both have."""
    runs, others = _trigrams(text), _trigrams(other)
    return len(runs & others) / max(1, len(runs | others))


def _trigrams(text: str) -> set[tuple[str, ...]]:
    parts = text.lower().split()
    return set(zip(parts, parts[1:], parts[2:], strict=False))
