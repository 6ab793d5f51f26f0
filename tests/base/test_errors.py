from __future__ import annotations

import copy

from s1pro.base.errors import InputError, MissingExtraError


def test_an_error_of_another_process_arrives_whole() -> None:
    """Copies are made as pipes between processes make them."""
    error = copy.copy(MissingExtraError("ray", "ray"))
    assert (error.package, error.extra) == ("ray", "ray") and isinstance(error, InputError)
    assert "pip install 's1pro[ray]'" in str(error)
