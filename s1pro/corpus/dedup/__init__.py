"""De-duplication of figures: `find_duplicates` is the whole of it, `find.py` tells how."""

from s1pro.corpus.dedup.find import find_duplicates
from s1pro.corpus.dedup.settings import DedupSettings, Thresholds

__all__ = ["DedupSettings", "Thresholds", "find_duplicates"]
