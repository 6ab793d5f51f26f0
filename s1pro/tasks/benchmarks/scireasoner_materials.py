"""The LLM4Mat group of SciReasoner: 5 properties that hold or not, 60 numbers, each asked for as a JSON object.

Upstream's files hold all properties of a source, `mp/test/data.json`, and the output of a record says which one it is
of: `{band_gap : 1.2}`. There the reply must name the property (`NAMES`) as a key. A file per task, whose outputs are
bare, is read too, and then the only key of a reply is taken, whatever its name.

* numbers: mean absolute deviation of the golds over the mean absolute error, both of readable replies. The ratio has no
  bound, and for no error at all upstream gives nothing, which counts 0. Strict counts an unreadable reply as the mean
  of the golds, and gives a perfect set of replies the ratio 1000
* yes or no, direct or indirect: area under the curve of hard labels over readable replies; strict counts an unreadable
  reply as wrong
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from s1pro.base.errors import InputError
from s1pro.tasks.benchmarks.extract import answer_part, number_in, upstream_visible
from s1pro.tasks.benchmarks.metrics import equality
from s1pro.tasks.benchmarks.scireasoner_groups import deviation_over_error
from s1pro.tasks.benchmarks.smolinstruct import nearness
from s1pro.tasks.benchmarks.spec import Pair, Profile, Record

LABELS = ("MP_IsStable", "MP_IsGapDirect", "SNUMAT_IsDirect", "SNUMAT_IsDirect_HSE", "SNUMAT_SOC")
_PROPERTIES: Mapping[str, str] = {
    "MP": "FEPA:formation_energy_per_atom Bandgap:band_gap EPA:GGA-PBE-based_energy_per_atom Ehull:energy_above_hull "
    "Efermi:efermi Density:density DensityAtomic:density_atomic Volume:volume",
    "JARVISDFT": "FEPA:formation_energy_peratom Bandgap_OPT:optb88vdw_bandgap TotEn:optb88vdw_total_energy Ehull:ehull "
    "Bandgap_MBJ:mbj_bandgap Kv:bulk_modulus_kv Gv:shear_modulus_gv SLME:slme Spillage:spillage Epsx_OPT:mepsx "
    "Dielectric_DFPT:dfpt_piezo_max_dielectric Max_Piezo_dij:dfpt_piezo_max_dij Max_Piezo_eij:dfpt_piezo_max_eij "
    "MaxEFG:max_efg ExfEn:exfoliation_energy AvgMe:avg_elec_mass nSeebeck:n-Seebeck nPF:n-powerfact "
    "pSeebeck:p-Seebeck pPF:p-powerfact",
    "SNUMAT": "Bandgap_GGA:Band_gap_GGA Bandgap_HSE:Band_gap_HSE Bandgap_GGA_Optical:Band_gap_GGA_optical "
    "Bandgap_HSE_Optical:Band_gap_HSE_optical",
    "GNoME": "FEPA:Formation_Energy_Per_Atom DEPA:Decomposition_Energy_Per_Atom Bandgap:Bandgap TotEn:Corrected_Energy "
    "Volume:Volume Density:Density",
    "hMOF": "MaxCO2:max_co2_adsp MinCO2:min_co2_adsp LCD:lcd PLD:pld VoidFraction:void_fraction "
    "SA_m2g:surface_area_m2g SA_m2cm3:surface_area_m2cm3",
    "Cantor_HEA": "FEPA:Ef_per_atom EPA:e_per_atom Ehull:e_above_hull VPA:volume_per_atom",
    "QMOF": "TotEn:energy_total Bandgap:bandgap LCD:lcd PLD:pld",
    "JARVISQETB": "EPA:TB-based_energy_per_atom IndirBandgap:indir_gap FEPA:f_enp TotEn:final_energy",
    "OQMD": "Bandgap:bandgap FEPA:e_form",
    "OMDB": "Bandgap:bandgap",
}
_LABEL_NAMES = ("is_stable", "is_gap_direct", "Direct_or_indirect", "Direct_or_indirect_HSE", "SOC")
_FOLDERS: Mapping[str, str] = {"JARVISDFT": "jarvis_dft", "JARVISQETB": "jarvis_qetb"}
NAMES: Mapping[str, str] = {
    **dict(zip(LABELS, _LABEL_NAMES, strict=True)),
    **{
        f"{group}_{short}": name
        for group, pairs in _PROPERTIES.items()
        for short, name in (pair.split(":") for pair in pairs.split())
    },
}
"""What upstream calls the property of a task."""
NUMBERS = tuple(task for task in NAMES if task not in LABELS)
ORDER = (*LABELS, *NUMBERS)
PERFECT = 1000.0
_WORDS: Mapping[str, bool] = {
    "direct": True, "true": True, "yes": True, "indirect": False, "false": False, "no": False,
}  # fmt: skip


def object_value(text: str) -> Any:
    """The value of the only key of the object that a reply is, or of the first "{key: value}" in it; None without."""
    bare = re.sub(r"^```(?:json)?\s*|\s*```$", "", text.strip(), flags=re.IGNORECASE | re.MULTILINE)
    try:
        data = json.loads(bare)
    except (ValueError, RecursionError):
        data = None
    if isinstance(data, dict) and len(data) == 1:
        return next(iter(data.values()))
    found = re.search(r"\{[^{}:]*:\s*[\"']?(.*?)[\"']?\s*\}", bare, re.DOTALL)
    return found[1].strip().strip('"') if found else None


def named_value(text: str, name: str) -> Any:
    """The value of a key as upstream reads it: of the object that the reply is, or of the first "{... name: value}" in
    it, whose value is a text. None without."""
    if "<think>" in text and "</think>" not in text:
        return None
    bare = re.sub(r"^```(?:json)?\s*|\s*```$", "", text.strip(), flags=re.IGNORECASE | re.MULTILINE)
    try:
        data = json.loads(bare)
    except (ValueError, RecursionError):
        data = None
    if isinstance(data, dict) and name in data:
        return data[name]
    pattern = rf"\{{[^{{}}]*[\"']?{re.escape(name)}[\"']?\s*:\s*[\"']?(.*?)[\"']?\s*\}}"
    found = re.search(pattern, bare, re.DOTALL | re.IGNORECASE)
    return found[1].strip().strip('"') if found else None


def is_named(record: Record, name: str) -> bool:
    """Whether the output of a record is of this property, in upstream's words."""
    return f"{{{name} :" in str(record.get("output"))


def output_value(record: Record, name: str) -> Any:
    return named_value(record["output"], name) if is_named(record, name) else record["output"]


def said_value(text: str, record: Record, name: str) -> Any:
    return named_value(text, name) if is_named(record, name) else object_value(text)


def upstream_value(name: str) -> Callable[[str, Record], float | None]:
    """What Python takes for a number."""

    def read(response: str, record: Record) -> float | None:
        value = said_value(upstream_visible(response), record, name)
        try:
            number = float(value)
        except (TypeError, ValueError, OverflowError):
            return None
        return number if math.isfinite(number) else None

    return read


def strict_value(response: str, record: Record) -> float | None:
    """The object's value, unit and all, else the last number."""
    text = answer_part(response)
    value = object_value(text)
    return number_in(text if value is None else str(value))


def label(name: str) -> Callable[[str, Record], bool | None]:
    """One of the words of the property; as a key of JSON also 1 and 0."""

    def read(response: str, record: Record) -> bool | None:
        value = said_value(upstream_visible(response), record, name)
        if is_named(record, name) and isinstance(value, int | float):
            return {1.0: True, 0.0: False}.get(float(value))
        return _words(record, name).get(str(value).strip().lower())

    return read


def _words(record: Record, name: str) -> Mapping[str, bool]:
    """Upstream's words for directness are no words for a yes, and the other way round."""
    if not is_named(record, name):
        return _WORDS
    direct = name.startswith("Direct")
    return {word: value for word, value in _WORDS.items() if (word in ("direct", "indirect")) == direct}


def gold_value(name: str) -> Callable[[Record], float]:
    def gold(record: Record) -> float:
        output = output_value(record, name)
        number = None if isinstance(output, bool) else number_in(str(output))
        if number is None:
            raise InputError(f"the field 'output' is {record['output']!r:.60}, expected a number")
        return number

    return gold


def gold_label(name: str) -> Callable[[Record], bool]:
    def gold(record: Record) -> bool:
        meant = _WORDS.get(str(output_value(record, name)).strip().lower())
        if meant is None:
            raise InputError(
                f"the field 'output' is {record['output']!r:.60}, expected true, false, direct or indirect"
            )
        return meant

    return gold


def keep(task: str) -> Callable[[Record], bool]:
    """Those of the property; without a gold there is nothing to score."""

    def kept(record: Record) -> bool:
        output = str(record.get("output"))
        if re.search(r"\{[^{}:]+ :", output):
            return is_named(record, NAMES[task]) and str(output_value(record, NAMES[task])) != "Null"
        return output != "Null"

    return kept


def files(task: str) -> tuple[str, ...]:
    """A file of the task alone, else upstream's of its source."""
    group = next(group for group in _PROPERTIES if task.startswith(f"{group}_"))
    source = f"{_FOLDERS.get(group, group.lower())}/test/data.json"
    return (f"LLM4Mat/{task}/test/data.json", f"{task}/test/data.json", f"LLM4Mat/{source}", source)


def upstream_ratio(pairs: Sequence[Pair]) -> Mapping[str, float]:
    ratio = deviation_over_error([p.gold for p in pairs], [p.prediction for p in pairs])
    return {"score": 0.0 if ratio is None else ratio}


def strict_ratio(pairs: Sequence[Pair]) -> Mapping[str, float]:
    golds = [p.gold for p in pairs]
    mean = sum(golds) / len(golds)
    ratio = deviation_over_error(golds, [mean if p.prediction is None else p.prediction for p in pairs])
    return {"score": PERFECT if ratio is None else min(ratio, PERFECT)}


def _area(golds: Sequence[bool], said: Sequence[bool]) -> float:
    """Of hard labels: the mean of the two recalls. NaN with one class."""
    positives, negatives = sum(golds), len(golds) - sum(golds)
    if not positives or not negatives:
        return float("nan")
    hits = sum(g and s for g, s in zip(golds, said, strict=True)) / positives
    rejections = sum(not g and not s for g, s in zip(golds, said, strict=True)) / negatives
    return (hits + rejections) / 2


def upstream_area(pairs: Sequence[Pair]) -> Mapping[str, float]:
    read = [p for p in pairs if p.prediction is not None]
    return {"score": _area([p.gold for p in read], [p.prediction for p in read])}


def strict_area(pairs: Sequence[Pair]) -> Mapping[str, float]:
    said = [(not p.gold) if p.prediction is None else p.prediction for p in pairs]
    return {"score": _area([p.gold for p in pairs], said)}


def profiles(task: str) -> tuple[tuple[Profile, Profile], Any]:
    """Of a task of `ORDER`, and its gold."""
    name = NAMES[task]
    if task in LABELS:
        return (
            Profile(extract=label(name), value=equality, metric=upstream_area),
            Profile(extract=label(name), value=equality, metric=strict_area),
        ), gold_label(name)
    return (
        Profile(extract=upstream_value(name), value=nearness(1.0), metric=upstream_ratio),
        Profile(extract=strict_value, value=nearness(1.0), metric=strict_ratio),
    ), gold_value(name)
