"""IFEval's constraint on the language of a reply, by the package langdetect, as upstream.

langdetect draws trial weights at random and upstream sets no seed, so there short replies may be judged otherwise from
run to run; here every text has the same seed. A reply without letters follows any language, as upstream. Without the
package (extra `eval`) the constraint counts as not followed and is reported as unsupported.
"""

from __future__ import annotations

import importlib.util
from functools import lru_cache
from typing import Any


def response_language(text: str, language: str) -> bool:
    return _detected(text) in (language, None)


def in_english(text: str) -> bool:
    """True without the package."""
    return is_missing() or response_language(text, "en")


def is_missing() -> bool:
    """Whether the package is not here."""
    return importlib.util.find_spec("langdetect") is None


@lru_cache(maxsize=20_000)
def _detected(text: str) -> str | None:
    """None for a text without letters. Kept, because intervals count the same replies hundreds of times."""
    from langdetect.lang_detect_exception import LangDetectException

    detector = _profiles().create()
    detector.append(text)
    try:
        return str(detector.detect())
    except LangDetectException:
        return None


@lru_cache(maxsize=1)
def _profiles() -> Any:
    """Of all languages; read once, which takes a second or two."""
    from langdetect.detector_factory import PROFILES_DIRECTORY, DetectorFactory

    factory = DetectorFactory()
    factory.load_profile(PROFILES_DIRECTORY)
    factory.seed = 0
    return factory
