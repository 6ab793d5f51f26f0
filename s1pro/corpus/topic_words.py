"""Vocabularies of eight fields, and texts made of them: enough to start sorting figures before anyone has labelled any.

A made-up text has the words that captions share ("shows", "as a function of"), several words of its field and a few of
others, because real captions borrow. Replace this with labels of your own (`topic.train`) when you have them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np

TOPICS: Mapping[str, tuple[str, ...]] = {
    "chemistry": (
        "reaction", "molecule", "catalyst", "synthesis", "solvent", "yield", "ligand", "bond", "oxidation", "reduction",
        "NMR", "spectrum", "chromatography", "polymer", "acid", "base", "compound", "organic", "reagent", "product",
        "selectivity", "hydrogenation", "substrate", "enantiomer", "scheme", "mechanism", "intermediate", "titration",
        "pH", "electrolyte", "anion", "cation", "solution", "concentration", "aqueous", "mass", "spectrometry", "HPLC",
        "infrared", "absorption", "functional", "group", "amine", "ester", "ketone", "alkene", "aromatic", "coupling",
        "palladium", "stereochemistry", "kinetics", "equilibrium", "activation", "complex", "crystallization", "mol",
        "equiv", "retrosynthesis", "protecting",
    ),
    "materials": (
        "alloy", "microstructure", "grain", "steel", "tensile", "stress", "strain", "hardness", "fracture", "lattice",
        "crystal", "XRD", "diffraction", "pattern", "thin", "film", "SEM", "TEM", "micrograph", "ceramic", "perovskite",
        "battery", "electrode", "cathode", "anode", "lithium", "conductivity", "semiconductor", "doping", "band", "gap",
        "nanoparticle", "nanowire", "graphene", "composite", "coating", "annealing", "sintering", "porosity", "phase",
        "diagram", "defect", "dislocation", "creep", "fatigue", "corrosion", "oxide", "deposition", "substrate",
        "thermoelectric", "piezoelectric", "magnetization", "hysteresis", "superconductor", "capacity", "cycling",
        "photovoltaic", "solar", "cell",
    ),
    "biology": (
        "gene", "expression", "protein", "cell", "cells", "mutant", "mice", "mouse", "tissue", "western", "blot",
        "fluorescence", "staining", "DNA", "RNA", "transcription", "sequencing", "genome", "phylogenetic", "tree",
        "species", "bacteria", "strain", "antibody", "receptor", "enzyme", "pathway", "kinase", "phosphorylation",
        "apoptosis", "membrane", "nucleus", "mitochondria", "neurons", "embryo", "zebrafish", "Drosophila", "yeast",
        "CRISPR", "knockout", "plasmid", "PCR", "alignment", "residues", "domain", "structure", "binding", "affinity",
        "heatmap", "differentially", "expressed", "clusters", "single-cell", "microscopy", "population", "evolution",
        "ecology", "plant", "root", "leaf",
    ),
    "medicine": (
        "patients", "clinical", "trial", "survival", "Kaplan-Meier", "hazard", "ratio", "cohort", "treatment",
        "placebo", "dose", "therapy", "tumor", "cancer", "diagnosis", "MRI", "CT", "scan", "lesion", "symptoms",
        "disease", "risk", "mortality", "hospital", "blood", "pressure", "serum", "insulin", "diabetes", "cardiac",
        "ECG", "infection", "vaccine", "epidemiology", "incidence", "odds", "confidence", "interval", "follow-up",
        "surgery", "biopsy", "pathology", "prognosis", "adverse", "events", "randomized", "age", "sex", "baseline",
        "screening", "chronic", "acute",
    ),
    "earth": (
        "seismic", "earthquake", "fault", "sediment", "ocean", "sea", "surface", "temperature", "precipitation",
        "climate", "rainfall", "atmosphere", "aerosol", "wind", "map", "latitude", "longitude", "basin", "river",
        "groundwater", "soil", "erosion", "glacier", "ice", "core", "isotope", "volcanic", "magma", "mantle", "crust",
        "tectonic", "plate", "stratigraphy", "borehole", "well", "log", "geological", "elevation", "satellite",
        "remote", "sensing", "vegetation", "drought", "flood", "monsoon", "El", "salinity", "current", "tide", "carbon",
        "flux", "emissions", "model", "resolution", "anomaly", "station", "magnitude", "epicenter", "waveform",
    ),
    "physics": (
        "quantum", "energy", "spectrum", "laser", "photon", "electron", "spin", "magnetic", "field", "collision",
        "cross", "section", "mass", "boson", "decay", "detector", "events", "GeV", "TeV", "likelihood", "galaxy",
        "redshift", "star", "luminosity", "telescope", "plasma", "wave", "resonance", "cavity", "optical", "wavelength",
        "interference", "scattering", "polarization", "entanglement", "qubit", "Hamiltonian", "ground", "state",
        "phase", "transition", "critical", "exponent", "lattice", "simulation", "Monte", "Carlo", "dispersion",
        "relation", "velocity", "turbulence", "Reynolds", "flow", "gravitational", "black", "hole", "cosmological",
        "dark", "matter", "neutrino",
    ),
    "computing": (
        "accuracy", "training", "validation", "loss", "epochs", "neural", "network", "architecture", "layer",
        "attention", "transformer", "dataset", "benchmark", "baseline", "method", "proposed", "ablation", "precision",
        "recall", "ROC", "classification", "segmentation", "images", "input", "output", "encoder", "decoder",
        "embedding", "convolution", "GPU", "latency", "throughput", "memory", "runtime", "algorithm", "nodes", "graph",
        "queries", "server", "parallel", "speedup", "cores", "language", "model", "tokens", "prompts", "learning",
        "rate", "gradient", "reinforcement", "agent", "reward", "policy", "overview", "pipeline", "framework",
        "hyperparameters",
    ),
    "society": (
        "respondents", "survey", "income", "households", "GDP", "inflation", "market", "price", "policy", "countries",
        "unemployment", "education", "students", "schools", "gender", "migration", "election", "voters", "trade",
        "firms", "wages", "regression", "coefficients", "estimates", "economic", "growth", "poverty", "urban", "rural",
        "tax", "government", "institutions", "questionnaire", "participants", "ratings", "scale", "attitudes",
        "behavior", "social", "media", "users", "interviews", "percent", "population", "census", "year", "demand",
        "supply", "bank",
    ),
}  # fmt: skip
_SHARED = [
    "shows", "comparison", "function", "figure", "data", "values", "error", "bars", "different", "results", "panel",
    "measured", "left", "right", "top", "bottom", "line", "dashed", "solid", "red", "blue", "black", "green", "using",
    "obtained", "from", "with", "between", "each", "the", "and", "for", "after", "before", "time", "total", "mean",
    "standard", "deviation", "respectively", "example", "distribution", "curve", "plot", "dependence", "effect",
    "increase",
]  # fmt: skip


def made_up_texts(topic: str, number: int, *, seed: int = 0) -> Iterator[str]:
    """Texts of a topic; a function of topic, number and seed."""
    names = list(TOPICS)
    rng = np.random.default_rng([names.index(topic), seed])
    for _ in range(number):
        own = rng.choice(TOPICS[topic], int(rng.integers(3, 12)))
        shared = rng.choice(_SHARED, int(rng.integers(4, 16)))
        borrowed = rng.choice(TOPICS[names[int(rng.integers(0, len(names)))]], int(rng.integers(0, 3)))
        words = [str(word) for word in (*own, *shared, *borrowed)]
        yield " ".join(str(word) for word in rng.permutation(words))


def common_texts(number: int, *, seed: int = 0) -> Iterator[str]:
    """Texts of the words that all fields share, and of nothing else; a few have one word of a field."""
    rng = np.random.default_rng([len(TOPICS), seed])
    names = list(TOPICS)
    for _ in range(number):
        words = [str(word) for word in rng.choice(_SHARED, int(rng.integers(3, 20)))]
        if rng.random() < 0.3:
            words.append(str(rng.choice(TOPICS[names[int(rng.integers(0, len(names)))]])))
        yield " ".join(words)
