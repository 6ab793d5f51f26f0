"""Collections that installed packages carry, by name: real data without a download.

elements          pymatgen's table of the elements (Wikipedia and CRC values)
crystals          the structures that pymatgen bundles for its tests and examples
co2               weekly CO2 at Mauna Loa, 1958 to 2001 (statsmodels; C. D. Keeling and T. P. Whorf, public domain)
sea-temperature   monthly surface temperature of the Niño 1+2 region, 1950 to 2010 (statsmodels; NOAA)
sunspots          yearly sunspot numbers, 1700 to 2008 (statsmodels; SIDC); windows of 22 years
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from s1pro.base.errors import MissingExtraError
from s1pro.corpus.narrative.files import read
from s1pro.corpus.narrative.sources import Loaded, SourceSettings, collect
from s1pro.science.facts.crystal_table import ELEMENTS, element_rows
from s1pro.science.facts.series_table import series_schema, signal_rows, signal_schema, year_rows


def elements(settings: SourceSettings) -> Loaded:
    return collect(ELEMENTS, ((row, "pymatgen", None) for row in element_rows()), "elements", settings)


def crystals(settings: SourceSettings) -> Loaded:
    import importlib.util

    found = importlib.util.find_spec("pymatgen.util")
    if found is None or not found.submodule_search_locations:
        raise MissingExtraError("pymatgen", "materials")
    return read(Path(next(iter(found.submodule_search_locations))) / "structures", settings)


def co2(settings: SourceSettings) -> Loaded:
    frame = _statsmodels("co2")
    dates = np.array(frame.index.values, "datetime64[D]")
    years = [int(year) + 1970 for year in dates.astype("datetime64[Y]").astype(int)]
    fractions = 1970 + dates.astype(np.int64) / 365.2425
    rows = year_rows("Mauna Loa", years, fractions, np.asarray(frame["co2"], float))
    schema = series_schema("mole fraction of CO2 in air", "ppm", "earth")
    return collect(schema, ((row, "co2", group) for row, group in rows), "co2", settings)


def sea_temperature(settings: SourceSettings) -> Loaded:
    frame = _statsmodels("elnino")
    years = np.repeat(np.asarray(frame["YEAR"], int), 12)
    values = np.asarray(frame.iloc[:, 1:], float).ravel()
    fractions = years + np.tile((np.arange(12) + 0.5) / 12, len(frame))
    rows = year_rows("Niño 1+2 region", years.tolist(), fractions, values)
    schema = series_schema("sea surface temperature", "°C", "earth")
    return collect(schema, ((row, "sea-temperature", group) for row, group in rows), "sea-temperature", settings)


def sunspots(settings: SourceSettings) -> Loaded:
    values = np.asarray(_statsmodels("sunspots")["SUNACTIVITY"], float)
    per_second = 1 / 31_556_952.0
    rows = signal_rows("yearly sunspot number since 1700", values, per_second, window=22, block=2)
    schema = signal_schema("sunspot number", "")
    return collect(schema, ((row, "sunspots", group) for row, group in rows), "sunspots", settings)


def _statsmodels(name: str) -> Any:
    import importlib

    try:
        datasets = importlib.import_module("statsmodels.datasets")
    except ImportError as error:
        raise MissingExtraError("statsmodels", "signals") from error
    return getattr(datasets, name).load_pandas().data


NAMED: Mapping[str, Callable[[SourceSettings], Loaded]] = {
    "elements": elements,
    "crystals": crystals,
    "co2": co2,
    "sea-temperature": sea_temperature,
    "sunspots": sunspots,
}
