"""Which distribution the draws of an engine come from: the one whose log-probabilities it reports, or another one.

An engine that reports raw log-probabilities shows nothing of its sampler in them; what was drawn does. Servers fill in
the defaults of a `generation_config.json`: this is how a policy that nobody asked for shows. p is the trainer's
distribution behind each prefix.

* **z.** The sum of `log p(token) - E[log p]` has mean 0 and a known variance; z far from 0 says that something else was
  drawn from. The temperature that makes the draws most likely says what.
* **Cuts.** top_p, top_k and min_p leave most of the mass where it is, and z small; but nothing is ever drawn beyond
  them. The tightest cut that holds all draws makes them more likely by the gain

      G = - sum over tokens of log (mass that the cut keeps)

  For an engine that does not cut, something is drawn right up to where the next draw would be expected, and G is about
  1, above 14 once in a million. Temperatures are tried with the cuts, since servers apply both; another temperature has
  to be worth `PRICE` nats.
* **Repetition.** Tokens that stand in the prefix already, drawn more rarely or more often than their mass says: a
  repetition, presence or frequency penalty. Looked at where the draws fit otherwise.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from s1pro.rl.parity.probes import Probe
from s1pro.rl.parity.trainer_side import Floats, TrainerSide

Z_LIMIT = 4.5
LEAST_GAIN = 14.0
PRICE = 10.0
TEMPERATURES = np.exp(np.linspace(np.log(0.25), np.log(4.0), 113))
COARSE = 8
CUT_TEMPERATURES = (1.0, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.1, 1.2, 1.5, 2.0)
KINDS = ("top_p", "top_k", "min_p")
_ROWS = 256  # worked on at once


@dataclass(frozen=True, kw_only=True)
class Cut:
    """All draws lie within; `at` is the tightest value, `gain` how many nats likelier they are than without."""

    kind: str
    at: float
    temperature: float
    gain: float

    def __str__(self) -> str:
        value = f"{self.at:.0f}" if self.kind == "top_k" else f"{self.at:.3g}"
        return f"temperature {self.temperature:.2f} cut at {self.kind} {value}"


@dataclass(frozen=True, kw_only=True)
class SamplerFinding:
    """See the module docstring.

    Attributes:
        z: of the draws under the trainer's distribution; beyond +-4.5 it is another one.
        drawn_at: temperature that makes the draws most likely.
        reported_at: temperature after which the reported log-probabilities fit best; 1 is the raw distribution.
        cut: None if nothing is cut off.
        repeated_z: of tokens that stood in the prefix; None where the draws do not fit otherwise.
    """

    z: float
    drawn_at: float
    reported_at: float
    cut: Cut | None = None
    repeated_z: float | None = None

    def fault(self) -> str | None:
        """A sentence, if draws do not come from the distribution that was asked for."""
        wrong = "draws do not come from the distribution that was asked for"
        if self.cut is not None:
            return (
                f"{wrong} (z = {self.z:+.1f}); they fit {self.cut}, {self.cut.gain:.0f} nats better than without a cut"
            )
        if abs(self.z) > Z_LIMIT:
            return f"{wrong} (z = {self.z:+.1f}); they fit temperature {self.drawn_at:.2f}"
        if self.repeated_z is not None and abs(self.repeated_z) > Z_LIMIT:
            how = "rarely" if self.repeated_z < 0 else "often"
            return (
                f"{wrong}: tokens that were there before come too {how} (z = {self.repeated_z:+.1f}), as with a "
                "repetition, presence or frequency penalty"
            )
        return None


def examine_sampler(side: TrainerSide, probes: Sequence[Probe], engine: Floats) -> SamplerFinding:
    """Compares the draws with the trainer's side.

    Args:
        side: with its logits.
        engine: log-probabilities that were reported.
    """
    deviation = side.logprobs - side.mean_logprob
    z = float(deviation.sum() / np.sqrt(max(side.variance.sum(), 1e-12)))
    drawn_at, reported_at, likeliest = fitted_temperatures(side, probes, engine)
    raw = float(logprobs_at(side, probes, 1.0).sum())
    cut = _best_cut(side, probes, raw, likeliest - raw)
    fits = cut is None and abs(z) <= Z_LIMIT
    return SamplerFinding(
        z=z,
        drawn_at=drawn_at,
        reported_at=reported_at,
        cut=cut,
        repeated_z=_repeated(side, probes) if fits else None,
    )


def fitted_temperatures(side: TrainerSide, probes: Sequence[Probe], engine: Floats) -> tuple[float, float, float]:
    """At which the draws are likeliest, after which the reported log-probabilities fit best, and how likely the draws
    are at the first.

    Every temperature is a pass over all logits, so a few of them are tried, and then those beside the best. For the
    draws that is exact: their log-likelihood is concave in 1 / temperature.
    """

    @functools.cache
    def at(place: int) -> Floats:
        return logprobs_at(side, probes, float(TEMPERATURES[place]))

    def best(cost: Callable[[int], float]) -> int:
        middle = min(range(0, len(TEMPERATURES), COARSE), key=cost)
        return min(range(max(middle - COARSE + 1, 0), min(middle + COARSE, len(TEMPERATURES))), key=cost)

    drawn = best(lambda place: -float(at(place).sum()))
    reported = best(lambda place: float(np.abs(at(place) - engine).mean()))
    return float(TEMPERATURES[drawn]), float(TEMPERATURES[reported]), float(at(drawn).sum())


def logprobs_at(side: TrainerSide, probes: Sequence[Probe], temperature: float) -> Floats:
    """Of the sampled tokens after a temperature."""
    logits, sampled = _logits(side), _sampled(probes)
    return (logits.double() / temperature).log_softmax(-1).gather(1, sampled[:, None])[:, 0].numpy()


def _logits(side: TrainerSide) -> Tensor:
    assert side.logits is not None
    return side.logits


def _sampled(probes: Sequence[Probe]) -> Tensor:
    return torch.tensor([token for probe in probes for token in probe.completion.token_ids])


def _best_cut(side: TrainerSide, probes: Sequence[Probe], raw: float, warmed: float) -> Cut | None:
    """The cut that makes the draws likeliest, if it is worth more than another temperature alone.

    Args:
        raw: log-likelihood of the draws at temperature 1; warmed: how much the best temperature adds to it.
    """
    best, found = max(0.0, warmed - PRICE) + LEAST_GAIN, None
    for cut in _cuts(side, probes):
        price = 0.0 if cut.temperature == 1.0 else PRICE
        score = float(logprobs_at(side, probes, cut.temperature).sum()) - raw - price + cut.gain
        if cut.gain > LEAST_GAIN and score > best:
            best, found = score, cut
    return found


def _cuts(side: TrainerSide, probes: Sequence[Probe]) -> list[Cut]:
    """The tightest cut of every kind at every temperature, and what it is worth.

    What is likelier than a draw can be counted; only for the mass that a cut keeps are the rows sorted.
    """
    tightest = dict.fromkeys(CUT_TEMPERATURES, (0.0, 0, 1.0))
    for logits_NV, sampled_N1 in _rows(side, probes):
        likelier_NV = logits_NV > logits_NV.gather(1, sampled_N1)
        for temperature, (before, rank, share) in tightest.items():
            p_NV = (logits_NV / temperature).softmax(-1)
            own_N1, first_N1 = p_NV.gather(1, sampled_N1), p_NV.amax(1, keepdim=True)
            tightest[temperature] = (
                max(before, float((p_NV * likelier_NV).sum(1).max())),
                max(rank, int(likelier_NV.sum(1).max())),
                min(share, float((own_N1 / first_N1).min())),
            )
    gains = {temperature: [0.0, 0.0, 0.0] for temperature in CUT_TEMPERATURES}
    for logits_NV, _ in _rows(side, probes):
        sorted_NV = logits_NV.sort(dim=1, descending=True).values
        for temperature, (before, rank, share) in tightest.items():
            p_NV = (sorted_NV / temperature).softmax(-1)
            kept = (
                p_NV.cumsum(1) - p_NV <= before + 1e-9,
                torch.arange(p_NV.shape[1])[None] <= rank,
                p_NV >= share * (1 - 1e-9) * p_NV[:, :1],
            )
            for kind, kept_NV in enumerate(kept):
                gains[temperature][kind] -= float((p_NV * kept_NV).sum(1).clamp(max=1.0).log().sum())
    return [
        Cut(kind=kind, at=at, temperature=temperature, gain=gain)
        for temperature, (before, rank, share) in tightest.items()
        for kind, at, gain in zip(KINDS, (before, rank + 1.0, share), gains[temperature], strict=True)
    ]


def _rows(side: TrainerSide, probes: Sequence[Probe]) -> Iterator[tuple[Tensor, Tensor]]:
    """Logits of some rows, and the token that was sampled in each."""
    for logits_NV, sampled_N in zip(_logits(side).split(_ROWS), _sampled(probes).split(_ROWS), strict=True):
        yield logits_NV.double(), sampled_N[:, None]


def _repeated(side: TrainerSide, probes: Sequence[Probe]) -> float:
    """z of how often a token was drawn that stood in its prefix."""
    p_NV, row, over, variance = _logits(side).double().softmax(-1), 0, 0.0, 0.0
    for probe in probes:
        seen = set(probe.prompt)
        for token in probe.completion.token_ids:
            mass = float(p_NV[row, list(seen)].sum()) if seen else 0.0
            over += (token in seen) - mass
            variance += max(mass * (1 - mass), 0.0)
            seen.add(token)
            row += 1
    return over / float(np.sqrt(max(variance, 1e-12)))
