"""Words for composed papers: sentences, titles, captions and names, drawn from a seeded generator."""

from __future__ import annotations

import random

NOUNS = (
    "sample", "layer", "spectrum", "catalyst", "sediment", "protein", "membrane", "electrode", "lattice", "gradient",
    "residue", "polymer", "receptor", "isotope", "substrate", "coefficient", "temperature", "population", "velocity",
    "pathway", "ligand", "crystal", "precipitation", "concentration", "phase", "sequence", "enzyme", "interface",
)  # fmt: skip
VERBS = (
    "increases", "depends on", "was measured with", "is consistent with", "was normalised to", "exceeds", "controls",
    "is limited by", "correlates with", "was compared with", "reflects", "follows", "dominates",
)  # fmt: skip
ADJECTIVES = (
    "annealed", "seasonal", "thermal", "linear", "soluble", "residual", "apparent", "crystalline", "mean", "local",
    "dissolved", "steady", "catalytic", "ordered", "relative", "marine", "porous", "aqueous",
)  # fmt: skip
FILLERS = (
    "in agreement with earlier work", "at room temperature", "after 24 h of incubation", "within the uncertainty",
    "for all four stations", "under a nitrogen atmosphere", "as expected from theory", "at the 5 % level",
    "in the absence of oxygen", "over the whole range", "once the background was removed",
)  # fmt: skip
SURNAMES = ("Abe", "Brandt", "Costa", "Dubois", "Eriksen", "Farkas", "Gupta", "Haas", "Ito", "Jansen", "Kowal", "Lindt")
UNITS = ("K", "nm", "MPa", "mol/L", "eV", "s", "cm", "kJ/mol", "mg/L", "%")
QUANTITIES = (
    "Temperature",
    "Wavelength",
    "Pressure",
    "Intensity",
    "Time",
    "Depth",
    "Energy",
    "Current",
    "Yield",
    "Dose",
)

CHINESE = (
    "本文研究了温度对样品结构的影响", "实验结果表明反应速率随浓度增加而增大",
    "采用高分辨率显微镜观察了表面形貌",
    "该方法具有较高的精度和稳定性", "沉积物中的有机碳含量与深度呈负相关", "在氮气气氛下进行热处理",
    "数据与理论模型吻合良好",
    "误差主要来自仪器的系统偏差", "蛋白质的活性受到酸碱度的显著影响", "因此可以认为该机制占主导地位",
)  # fmt: skip
CHINESE_CAPTIONS = (
    "不同温度下样品的衍射图谱", "反应速率与浓度的关系", "实验装置示意图",
    "沉积物有机碳含量随深度的变化", "催化剂表面形貌", "各站点主要参数比较",
    "样品的物理性质", "模型参数及其误差",
)  # fmt: skip


def sentence(rng: random.Random) -> str:
    """One sentence of eight to thirty words."""
    parts = [f"the {rng.choice(ADJECTIVES)} {rng.choice(NOUNS)} {rng.choice(VERBS)} the {rng.choice(NOUNS)}"]
    if rng.random() < 0.6:
        parts.append(f"of the {rng.choice(ADJECTIVES)} {rng.choice(NOUNS)}")
    if rng.random() < 0.5:
        parts.append(rng.choice(FILLERS))
    if rng.random() < 0.25:
        parts.append(f"(Fig. {rng.randint(1, 6)})" if rng.random() < 0.5 else f"[{rng.randint(1, 40)}]")
    if rng.random() < 0.2:
        parts.append(f"and reaches {rng.uniform(1, 90):.1f} {rng.choice(UNITS)}")
    text = " ".join(parts)
    return text[0].upper() + text[1:] + "."


def paragraph(rng: random.Random, sentences: int | None = None) -> str:
    """Several sentences; now and then one that begins as a caption does, as papers do: "Figure 3 shows that …"."""
    number = sentences or rng.randint(3, 7)
    text = [sentence(rng) for _ in range(number)]
    if rng.random() < 0.25:
        what = rng.choice(
            ("Figure {} shows that", "Table {} lists how", "Figure {} illustrates how", "Table {} gives what")
        )
        text.insert(rng.choice((0, 0, 1)), what.format(rng.randint(1, 5)) + " " + decapitalised(sentence(rng)))
    return " ".join(text)


def decapitalised(text: str) -> str:
    return text[0].lower() + text[1:]


def title(rng: random.Random) -> str:
    """A title or heading without a full stop."""
    text = f"{rng.choice(ADJECTIVES)} {rng.choice(NOUNS)} and {rng.choice(ADJECTIVES)} {rng.choice(NOUNS)}"
    return text.capitalize()


def caption(rng: random.Random, panels: tuple[str, ...] = ()) -> str:
    """The words of a caption; with panels every letter is explained."""
    text = f"{rng.choice(ADJECTIVES).capitalize()} {rng.choice(NOUNS)} as a function of the {rng.choice(NOUNS)}"
    if panels:
        names = [f"({name}) {rng.choice(ADJECTIVES)} {rng.choice(NOUNS)}" for name in panels]
        return f"{text}: {', '.join(names)}."
    text += "."
    for _ in range(rng.choice((0, 0, 1, 2, 3))):
        text += " " + sentence(rng)
    return text


def chinese_paragraph(rng: random.Random) -> str:
    return "，".join(rng.choice(CHINESE) for _ in range(rng.randint(3, 7))) + "。"


def cell(rng: random.Random) -> str:
    """A value of a table."""
    kind = rng.random()
    if kind < 0.6:
        return f"{rng.uniform(0, 100):.{rng.randint(0, 3)}f}"
    if kind < 0.8:
        return f"{rng.uniform(0, 10):.2f} ± {rng.uniform(0, 1):.2f}"
    return rng.choice(("n.d.", "–", f"{rng.randint(1, 900)}", "yes", "no", f"< {rng.uniform(0, 1):.2f}"))


def table_cells(rng: random.Random, columns: int, rows: int) -> list[list[str]]:
    """Header and rows: names on the left, values on the right."""
    head = ["Sample"] + [f"{rng.choice(QUANTITIES)} ({rng.choice(UNITS)})" for _ in range(columns - 1)]
    body = []
    for row in range(rows):
        name = rng.choice((f"{rng.choice(ADJECTIVES)} {rng.choice(NOUNS)}", f"S{row + 1}", f"Run {row + 1}"))
        body.append([name.capitalize()] + [cell(rng) for _ in range(columns - 1)])
    return [head, *body]
