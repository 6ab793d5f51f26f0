"""Text quality: `judge` is the whole of it, `judge.py` tells how."""

from s1pro.corpus.quality.judge import Judge, Text, judge, shipped_judge

__all__ = ["Judge", "Text", "judge", "shipped_judge"]
