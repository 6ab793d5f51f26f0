"""Good text that looks odd: equations, lists of genes, chemical names and SMILES, Chinese, tables, sequences.

A filter that was taught English prose throws such text away, and science is full of it. These generators make some of
each kind, reproducibly; the usual ranges of the registers `notation` and `cjk` come from them, and the bench counts how
many of them are rejected. Test and training use different seeds.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

_GENES = [
    "BRCA1", "BRCA2", "TP53", "EGFR", "KRAS", "MYC", "PTEN", "RB1", "AKT1", "PIK3CA", "CDKN2A", "NOTCH1", "VEGFA",
    "STAT3", "JAK2", "IL6", "TNF", "CXCL8", "HIF1A", "GAPDH", "ACTB", "SOX2", "OCT4", "NANOG", "FOXP3", "CD4", "CD8A",
    "MKI67", "ERBB2", "ESR1", "PGR", "MAPK1", "RAF1", "SMAD4", "APC", "CTNNB1", "WNT5A", "SHH", "GLI1", "BCL2", "BAX",
    "CASP3", "MDM2", "ATM", "CHEK2", "RAD51", "MLH1", "MSH2", "TERT", "IDH1", "FLT3", "NPM1", "DNMT3A", "TET2",
    "KMT2A", "HLA-A", "B2M", "CFTR", "DMD", "HTT", "SNCA", "APP", "MAPT",
]  # fmt: skip
_FRAGMENTS = (
    "C", "CC", "CCC", "c1ccccc1", "C(=O)O", "N", "O", "C(=O)N", "Cl", "F", "Br", "S(=O)(=O)N", "c1ccncc1", "C1CCCCC1",
    "OC", "N(C)C", "C#N", "c1ccc(O)cc1", "C(F)(F)F", "C=C", "[C@H](N)", "c1csc(N)n1", "OCC", "C1CCNCC1",
)  # fmt: skip
_STEMS = ("meth", "eth", "prop", "but", "pent", "hex", "hept", "oct", "benz", "phen", "pyrid", "thiophen", "imidazol")
_SYMBOLS = ("x", "y", "\\alpha", "\\beta", "\\sigma", "\\mathbf{r}", "k_B T", "\\hbar", "\\omega_0", "\\Delta E", "v_F")
_CHINESE_THINGS = (
    "样品", "温度", "电导率", "吸收光谱", "晶体结构", "反应速率", "催化剂", "磁场强度", "荧光强度", "蛋白质浓度",
    "薄膜厚度", "载流子迁移率", "溶液的酸碱度", "神经网络模型", "地震波速度", "基因表达水平", "能带结构", "拉曼位移",
)  # fmt: skip
_CHINESE_SAID = (
    "图中横轴表示{a}，纵轴表示{b}。", "随着{a}的升高，{b}逐渐{d}。", "实验结果表明，{a}与{b}之间存在明显的相关性。",
    "我们测量了不同条件下的{a}，并与理论计算进行了比较。", "当{a}超过{n}时，{b}出现了显著的变化。",
    "左图给出了{a}的分布，右图给出了{b}随时间的变化。", "误差棒表示{n}次独立测量的标准差。",
    "从表中可以看出，{a}对{b}的影响不大。", "插图为{a}的局部放大图，比例尺为{n}纳米。",
    "黑色曲线对应{a}，红色曲线对应{b}，二者在{n}附近相交。",
)  # fmt: skip


def hard_text(kind: str, seed: int) -> str:
    """One good text of a kind of `KINDS`; a function of both."""
    return KINDS[kind](np.random.default_rng([list(KINDS).index(kind), 77, seed]))


def _equations(rng: np.random.Generator) -> str:
    def symbol() -> str:
        return str(rng.choice(_SYMBOLS))

    shapes: tuple[Callable[[], str], ...] = (
        lambda: f"$$ {symbol()} = \\frac{{{symbol()}}}{{{symbol()}^{rng.integers(2, 5)}}} + {symbol()} $$",
        lambda: f"\\begin{{equation}} \\int_0^\\infty {symbol()} e^{{-{symbol()} t}} dt = {symbol()} \\end{{equation}}",
        lambda: f"$ \\sum_{{i={rng.integers(0, 3)}}}^N {symbol()}_i \\leq \\sqrt{{{symbol()}}} $",
        lambda: f"$$ \\partial_t {symbol()} = D \\nabla^2 {symbol()} - \\left( 1 + {symbol()} \\right) $$",
        lambda: f"E({rng.integers(1, 9)}) = {rng.normal(0, 5):.3f} \\pm {rng.random():.3f} \\, \\mathrm{{eV}}",
    )
    return " ".join(shapes[int(rng.integers(0, len(shapes)))]() for _ in range(int(rng.integers(3, 8))))


def _genes(rng: np.random.Generator) -> str:
    chosen = rng.choice(_GENES, int(rng.integers(15, 45)), replace=False)
    if rng.random() < 0.4:
        return "; ".join(f"{gene} (log2FC = {rng.normal(0, 2):.2f}, p = {rng.random() / 20:.4f})" for gene in chosen)
    return ("Upregulated genes: " if rng.random() < 0.5 else "") + ", ".join(chosen)


def _smiles(rng: np.random.Generator) -> str:
    lines = []
    for _ in range(int(rng.integers(4, 14))):
        parts = rng.choice(_FRAGMENTS, int(rng.integers(2, 6)))
        lines.append(
            "".join(str(part) for part in parts) + (f"\t{rng.uniform(1, 9):.2f}" if rng.random() < 0.3 else "")
        )
    return "\n".join(lines)


def _names(rng: np.random.Generator) -> str:
    def name() -> str:
        first, second = rng.choice(_STEMS, 2)
        ending = rng.choice(["ane", "anol", "anone", "anoic acid", "ylamine", "ene-1,4-diol", "anamide"])
        group = rng.choice(["chloro", "nitro", "amino", "hydroxy"])
        return f"{rng.integers(1, 6)}-{first}yl-{rng.integers(1, 5)}-{group}{second}{ending}"

    return "; ".join(name() for _ in range(int(rng.integers(8, 20))))


def _chinese(rng: np.random.Generator) -> str:
    said = []
    for _ in range(int(rng.integers(4, 10))):
        a, b = rng.choice(_CHINESE_THINGS, 2, replace=False)
        text = str(rng.choice(_CHINESE_SAID))
        said.append(text.format(a=a, b=b, d=rng.choice(["增大", "减小", "趋于饱和"]), n=rng.integers(2, 400)))
    return "".join(said)


def _table(rng: np.random.Generator) -> str:
    columns = int(rng.integers(3, 7))
    lines = [
        "Sample | "
        + " | ".join(
            f"{s} ({u})" for s, u in zip("TpVnEkq"[:columns], ("K", "Pa", "L", "mol", "J", "1/s", "C"), strict=False)
        )
    ]
    for row in range(int(rng.integers(4, 10))):
        lines.append(f"S{row + 1} | " + " | ".join(f"{rng.normal(20, 15):.2f}" for _ in range(columns)))
    return "\n".join(lines)


def _sequences(rng: np.random.Generator) -> str:
    letters = "ACGT" if rng.random() < 0.5 else "ACDEFGHIKLMNPQRSTVWY"
    size = int(rng.integers(120, 420))
    body = "".join(rng.choice(list(letters), size))
    return f">seq{rng.integers(1, 999)}\n" + "\n".join(body[i : i + 60] for i in range(0, size, 60))


KINDS: Mapping[str, Callable[[np.random.Generator], str]] = {
    "equations": _equations,
    "genes": _genes,
    "smiles": _smiles,
    "chemical_names": _names,
    "chinese": _chinese,
    "tables": _table,
    "sequences": _sequences,
}
