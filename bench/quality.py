"""The discriminator of damaged text: fit the shipped model, and measure it.

    python bench/quality.py fit --folder DIR [--papers DIR]       writes the model files of the package
    python bench/quality.py evaluate --folder DIR [--papers DIR]  the same fit, measured on held-out collections
    python bench/quality.py language --folder DIR --run RUN       trains the network of the third tier

`DIR` holds unpacked Debian documentation packages with PDFs. The results were made with:

    apt-get download octave-doc gnuplot-doc graphviz-doc asymptote-doc pari-doc maxima-doc gap-doc \\
        libmpfr-doc lammps-doc
    for f in *.deb; do dpkg -x $f DIR; done

together with the PDFs under /usr/share/doc, the papers of `--papers` and the English documentation of the installed
packages that `s1pro/corpus/general.py` reads. Which collection is for training, calibration or test stands in
`s1pro/corpus/quality/passages.py`.
"""

from __future__ import annotations

import argparse
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from s1pro.corpus.quality.anomaly import write_model
from s1pro.corpus.quality.features import FEATURES
from s1pro.corpus.quality.hard_texts import KINDS
from s1pro.corpus.quality.judge import MODEL_FILE, NGRAM_FILE, Judge, Text, judge
from s1pro.corpus.quality.passages import Passage, collection_passages, documentation_passages, split_of
from s1pro.corpus.quality.training import (
    Evaluation,
    Measured,
    calibration_error,
    evaluate,
    fit_judge,
    hard_rows,
    labelled,
    leave_one_out,
    measure_rows,
    ngram_models,
    scores,
)


def corpus(arguments: argparse.Namespace) -> list[Passage]:
    def found() -> Iterator[Passage]:
        yield from collection_passages(arguments.folder)
        if arguments.system.is_dir():
            yield from collection_passages(arguments.system)
        if arguments.papers:
            yield from collection_passages(arguments.papers)
        yield from documentation_passages()

    passages = list(dict.fromkeys(found()))
    counts = Counter((split_of(p.document), p.document.partition("/")[0]) for p in passages)
    for part in ("train", "calibration", "test"):
        print(f"* {part}: " + ", ".join(f"{name} {n}" for (where, name), n in sorted(counts.items()) if where == part))
    return passages


def measured(passages: list[Passage]) -> tuple[Measured, Measured, Measured, Judge]:
    whole, model_of = ngram_models(passages)
    train = measure_rows([*labelled(passages, "train", per_document=150, damaged=2), *hard_rows("train", 60)], model_of)
    calibration = measure_rows(
        [*labelled(passages, "calibration", per_document=150, damaged=2), *hard_rows("calibration", 10)], model_of
    )
    test = measure_rows(labelled(passages, "test", per_document=120, damaged=4), model_of)
    return train, calibration, test, fit_judge(train, calibration, whole)


def show(title: str, found: Evaluation, left_out: dict[str, float] | None = None) -> None:
    print(f"\n{title}: AUC {found.auc:.4f}, recall at 1 % false rejects {found.recall:.3f}", end="")
    print(f", leave one family out: mean AUC {np.mean(list(left_out.values())):.4f}" if left_out else "")
    print("\n| family | AUC | recall at 1 % | AUC when left out |\n|---|---|---|---|")
    for family, (area, recall) in found.families.items():
        print(f"| {family} | {area:.3f} | {recall:.2f} | {f'{left_out[family]:.3f}' if left_out else ''} |")


def measure(judged: Judge, train: Measured, test: Measured) -> None:
    left_out = leave_one_out(train, test, tuple(FEATURES))
    for rules in (True, False):
        title = "rules and features" if rules else "features alone"
        found = evaluate(scores(judged.features, test, rules=rules), test)
        show(title, found, {family: both[1 - rules] for family, both in left_out.items()})
    probabilities = judged.features.probabilities(judged.features.anomalies(test.registers, test.values))
    good = probabilities[test.damaged == 0]
    print(f"\nfalse rejects of good test passages at the threshold: {(good > judged.features.threshold).mean():.4f}")
    print(f"expected calibration error on the test part: {calibration_error(probabilities, test.damaged):.3f}")
    hard = hard_rows("test", 200)
    start = time.process_time()
    rows = judge([Text(text_id=str(i), text=row.text) for i, row in enumerate(hard)], judged)
    seconds = time.process_time() - start
    for kind in KINDS:
        verdicts = [row for row, made in zip(rows, hard, strict=True) if made.document == f"hard/{kind}"]
        wrong = [row for row in verdicts if not row.keep]
        print(
            f"false rejects of {kind}: {len(wrong)} of {len(verdicts)} {Counter(r for w in wrong for r in w.reasons)}"
        )
    print(f"{len(hard) / seconds:.0f} hard texts per second of one core")
    some = [Text(text_id=str(i), text=row.text) for i, row in enumerate(test.rows[:1000])]
    start = time.process_time()
    judge(some, judged)
    print(f"{len(some) / (time.process_time() - start):.0f} passages per second of one core")


def language(passages: list[Passage], folder: Path, seconds: float, number: int) -> None:
    """The third tier on samples of calibration and test: the same texts are scored by the second for comparison."""
    from s1pro.recipes import quality as recipe

    start = time.process_time()
    model = folder / "train" / "model"
    if not model.is_dir():
        model = recipe.train_language_model(folder, passages, recipe.QualitySettings(max_seconds=seconds))
        print(f"training: {time.process_time() - start:.0f} s of processor time", flush=True)
    _, calibration, test, judged = measured(passages)
    client = recipe.client_of(model)
    calibration, test = _some(calibration, number), _some(test, number)
    show(f"second tier on {len(test.rows)} texts", evaluate(scores(judged.features, test), test))
    start = time.process_time()
    asked, asked_test = (recipe.with_surprisals(client, judged, each) for each in (calibration, test))
    spent = time.process_time() - start
    print(f"asking: {(len(asked.rows) + len(asked_test.rows)) / spent:.0f} texts per second of one core", flush=True)
    tiers = recipe.fit_language_tier(judged, asked)
    assert tiers.language is not None
    show("three tiers", evaluate(scores(tiers.language, asked_test), asked_test))
    recipe.save_judge(tiers, folder)


def _some(measured_rows: Measured, number: int) -> Measured:
    order = np.random.default_rng(0).permutation(len(measured_rows.rows))
    return measured_rows.only(np.isin(np.arange(len(order)), order[:number]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("fit", "evaluate", "language"))
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--system", type=Path, default=Path("/usr/share/doc"))
    parser.add_argument("--papers", type=Path)
    parser.add_argument("--run", type=Path, default=Path("runs/quality"))
    parser.add_argument("--seconds", type=float, default=400.0, help="of training the network")
    parser.add_argument("--texts", type=int, default=2000, help="of each part that the network is asked about")
    arguments = parser.parse_args()
    if arguments.what == "language":
        language(corpus(arguments), arguments.run, arguments.seconds, arguments.texts)
        return
    train, _, test, judged = measured(corpus(arguments))
    if arguments.what == "fit":
        write_model(judged.features, MODEL_FILE)
        judged.ngrams.save(NGRAM_FILE)
        print(f"{MODEL_FILE} {MODEL_FILE.stat().st_size} bytes, {NGRAM_FILE} {NGRAM_FILE.stat().st_size} bytes")
    measure(judged, train, test)


if __name__ == "__main__":
    main()
