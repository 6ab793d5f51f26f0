"""The page of real small runs: what it must say, what it must not load, and what is refused."""

from __future__ import annotations

import itertools
import json
import re
import shutil
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

from s1pro.base.errors import InputError
from s1pro.cli import main
from s1pro.recipes.claims.runner import ClaimRun, run_claim
from s1pro.recipes.run_report import claims, curves, folders, positions, routers
from s1pro.recipes.run_report.copies import copies_section
from s1pro.recipes.run_report.folders import Run, read_runs
from s1pro.recipes.run_report.page import build, legend_of, write_report
from s1pro.recipes.run_report.rollouts import rewards_section
from s1pro.recipes.run_report.rounding import rounding_section
from s1pro.recipes.run_report.samples import samples_section
from s1pro.recipes.run_report.surroundings import differences, environment_section
from s1pro.report.blocks import Figure, Report, Rollouts, Samples, Section, Table
from s1pro.train.metrics import read_metrics
from s1pro.train.stage import train
from tests.recipes.claims.test_frame import CLAIM
from tests.recipes.run_report.conftest import training
from tests.train.conftest import CopySource


def section(report: Report, title: str) -> Section:
    return next(one for one in report.sections if one.title == title)


@pytest.mark.parametrize(
    ("kept", "said"),
    [
        ([{}], "greedily."),
        ([{"drawn": {}, "greedy": {}}], "as the policy draws, several times each."),
        ([{}, {"drawn": {}}], "greedily in some of the runs, as the policy draws in others."),
    ],
)
def test_how_held_out_questions_are_answered(kept: list[dict[str, object]], said: str) -> None:
    runs = [
        Run(
            label="a",
            folder=Path("a"),
            kind="rl",
            config={},
            records={"rollout": [{"step": 1, "reward": 0.5}], "validation": [{"step": 0, "items": items}]},
        )
        for items in kept
    ]
    found = rewards_section(runs)
    assert found is not None and found.intro.endswith(said)


def titles(report: Report) -> list[str]:
    return [one.title for one in report.sections]


def table(found: Section, first_column: str) -> Table:
    return next(b for b in found.blocks if isinstance(b, Table) and b.columns[0] == first_column)


class Text(HTMLParser):
    """Visible text, links, and what an assistive program would say of drawings."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.text, self.links, self.tags, self.drawings = "", [], [], []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        self.tags.append(tag)
        self.links += [value or "" for key, value in given.items() if key in ("href", "src", "xlink:href")]
        if given.get("role") == "img":
            self.drawings.append(given.get("aria-label") or "")

    def handle_data(self, data: str) -> None:
        self.text += data


def test_a_training_run_in_one_file(trained: Path, tmp_path: Path) -> None:
    runs = write_report([trained], tmp_path / "page.html")
    page = (tmp_path / "page.html").read_text(encoding="utf-8")
    seen = Text(page)
    last = read_metrics(trained, "train")[-1]
    for wanted in (
        "Learning",
        "Optimisation",
        "Router",
        "Position encoding",
        "Environment",
        "Commands",
        "gradient norm",
    ):
        assert wanted in seen.text, wanted
    assert f"{last['loss']:.3f}" in seen.text and f"{last['total_tokens']:,}" in seen.text
    assert f"s1pro train --recipe {trained}/config.json" in seen.text
    assert seen.drawings and all(seen.drawings)
    assert all(link.startswith(("#", "data:image/")) for link in seen.links)
    assert not {"script", "link", "iframe", "object", "img"} & set(seen.tags)
    assert not re.search(r"@import|url\((?!#)|https?://(?!www\.w3\.org)", page)
    assert [run.kind for run in runs] == ["train"] and [p.name for p in tmp_path.iterdir()] == ["page.html"]


def test_numbers_of_the_page_are_those_of_the_run(trained: Path) -> None:
    (run,) = read_runs([trained])
    records = read_metrics(trained, "train")
    learning = curves.learning_section([run])
    (row,) = table(learning, "run").rows
    validation = [record["loss"] for record in read_metrics(trained, "validation")]
    assert row[1:3] == [40, records[-1]["total_tokens"]]
    assert row[5:8] == [records[-1]["loss"], min(validation), validation[-1]]
    sources = {r[0]: r[1] for r in table(learning, "source").rows}
    skipped = {r["step"] for r in read_metrics(trained, "skip")}
    applied = [r for r in records if r["step"] not in skipped]
    wanted = {name: round(sum(r["source_tokens"].get(name, 0) for r in applied)) for name in sources}
    assert sources == wanted and set(sources) == {"plain", "digit_in_scan"}


def test_router_maps_by_domain_add_up_to_the_whole(trained: Path) -> None:
    (run,) = read_runs([trained])
    found = routers.router_section([run])
    assert found is not None
    captions = [block.caption for block in found.blocks if isinstance(block, Figure)]
    assert any(caption.startswith("By domain, steps 1 to 40") for caption in captions)
    assert any("digit_in_scan (pictures)" in block.alt for block in found.blocks if isinstance(block, Figure))
    counts = routers.summed(run, "source")
    loads = [np.array([layer["load"] for layer in r["layers"].values()]) for r in run.of("router")]
    whole = sum(counts.values())
    top_k = whole[0].sum() / sum(
        r["tokens"] for r in run.of("train") if r["step"] in {s["step"] for s in run.of("routing")}
    )
    assert top_k == int(top_k)  # every row counted once for each of its experts
    assert np.allclose(whole / whole.sum(axis=1, keepdims=True), np.mean(loads, axis=0), atol=1e-5)


def test_distance_and_preference_of_parts_against_a_hand_made_case() -> None:
    counts = {"a": np.array([[8, 0, 2, 0]]), "b": np.array([[0, 10, 0, 0]])}
    apart = routers.divergence(counts)
    assert apart["a"] == pytest.approx((abs(0.8 - 0.4) + 0.5 + abs(0.2 - 0.1)) / 2)
    assert apart["b"] == pytest.approx((0.4 + 0.5 + 0.1) / 2)
    rows = routers.preferences(counts, "modality", caption="c").rows
    assert [row[:4] for row in rows[:3]] == [
        ["layer 0, expert 0", "a", "100 %", "50 %"],
        ["layer 0, expert 2", "a", "100 %", "50 %"],
        ["layer 0, expert 1", "b", "100 %", "50 %"],
    ]


def test_spectra_are_those_of_the_stored_coefficients(trained: Path) -> None:
    from s1pro.checkpoint.released import load_network

    spectrum = positions.read_spectrum("x", trained / "model")
    assert spectrum is not None
    rotary = load_network(trained / "model").model.language_model.rotary_emb
    assert np.allclose(spectrum.sin_JDD, rotary.sin_coef.detach().numpy())
    assert np.allclose(spectrum.periods_D, 2 * np.pi / rotary._inv_freq_D.numpy(), rtol=1e-5)
    assert np.allclose(positions.mixed(np.eye(4)[None]), 0)
    turned = np.array([[[3.0, 0.0], [4.0, 1.0]]])  # pair 0 has 16 of 25 from the frequency of pair 1
    assert np.allclose(positions.mixed(turned), [[16 / 25, 0.0]])


def test_copies_are_followed_from_the_expansion_on(grown: Path) -> None:
    found = copies_section(read_runs([grown]))
    assert found is not None
    rows = table(found, "run").rows
    assert [row[1:3] for row in rows] == [["first", 0], ["last", 20]]
    assert rows[0][3] == pytest.approx(1.0) and rows[0][6] == 1.0  # equal in every bit at first
    assert rows[1][3] < 0.9999 and rows[1][6] == 0.0


def test_rollouts_with_their_rewards(learned: Path) -> None:
    report = build(read_runs([learned]), "t")
    groups = next(b for b in section(report, "Rollouts").blocks if isinstance(b, Rollouts)).groups
    records = read_metrics(learned, "rollout")
    assert len(groups) == 6 and {g.title for g in groups} >= {"learned, step 1: vowels", "learned, step 6: more"}
    first = records[0]["examples"][0]
    assert [(a.text, a.reward) for a in groups[0].attempts] == [(a["text"], a["reward"]) for a in first["answers"]]
    alts = [b.alt for b in section(report, "Engine against trainer").blocks if isinstance(b, Figure)]
    assert any("by layer and round" in alt for alt in alts)
    assert {"Rewards", "Rollouts", "Router"} <= set(titles(report))
    assert any(tile.label == "mean reward" and len(tile.course) == 6 for tile in report.tiles)


def test_a_contrastive_run_shows_retrieval_beside_chance(contrasted: Path) -> None:
    report = build(read_runs([contrasted]), "t")
    assert {"Learning", "Retrieval", "Commands"} <= set(titles(report))
    assert "Router" not in titles(report) and "Position encoding" not in titles(report)
    last = read_metrics(contrasted, "validation")[-1]
    rows = table(section(report, "Retrieval"), "run").rows
    first = last["image_to_text"]["recall_at_1"]
    assert rows[0][1:3] == ["image to text", "recall at 1"] and rows[0][4] == first["chance"] == 1 / 32
    assert str(rows[0][3]).startswith(f"{first['value']:.3f} [") and len(rows) == 6


def test_rounding_to_fp8_by_operand(tmp_path: Path) -> None:
    stage = training(tmp_path / "fp8", steps=4, expert_precision="fp8", router_every=2, export=False)
    train(stage, sources={"copy": CopySource()})
    found = rounding_section(read_runs([stage.folder]))
    assert found is not None
    row, *others = table(found, "run").rows
    layers = read_metrics(stage.folder, "fp8")[-1]["layers"].values()
    assert row[1] == "weights, gate and up" and len(others) == 6
    for place, number in enumerate(("error", "underflow", "clipped"), start=2):
        assert row[place] == pytest.approx(np.mean([layer["gate_up"][number] for layer in layers]))
    assert 0.005 < float(row[2] or 0) < 0.1  # an e4m3 mantissa of three bits


def test_an_evaluation_shows_a_right_and_a_wrong_answer(examined: Path, tmp_path: Path) -> None:
    write_report([examined], tmp_path / "page.html")
    text = Text((tmp_path / "page.html").read_text(encoding="utf-8")).text
    assert "Is 0 even?" in text and "Is 1 even?" in text and "Is 2 even?" not in text
    assert "✓ right" in text and "✗ wrong" in text and "yes-man" in text


def test_runs_side_by_side_keep_their_colour_and_show_what_differs(trained: Path, grown: Path, learned: Path) -> None:
    runs = read_runs([grown, learned, trained])
    assert [entry.series for entry in legend_of(runs)] == [0, 1, 2]
    reward = curves.panel([runs[1]], "rollout", "reward", title="r", y_label="r")
    loss = curves.panel([runs[0], runs[2]], "train", "loss", title="l", y_label="l")
    assert reward is not None and [c.series for c in reward.curves] == [1]
    assert loss is not None and [c.series for c in loss.curves] == [0, 2]
    rows = {row[0]: row[1:] for row in table(environment_section(runs), "setting").rows}
    assert rows["optimizer.lr"] == ["0.01", "0.003", "0.003"] and rows["steps"] == [20, 6, 40]
    assert "folder" not in rows and "export" in rows and "dtype" not in rows


def test_sources_are_one_setting_with_their_weights() -> None:
    found = {"data": {"sources": [{"name": "a", "path": "a.jsonl", "weight": 2.5}, {"name": "b", "path": "b.jsonl"}]}}
    runs = [Run(label=x, folder=Path(x), kind="train", config=found | {"steps": i}) for i, x in enumerate("xy")]
    (differing,) = differences(runs)
    assert isinstance(differing, Table) and [row[0] for row in differing.rows] == ["steps"]
    other = Run(label="z", folder=Path("z"), kind="train", config={"data": {"sources": []}, "steps": 0})
    (differing,) = differences([runs[0], other])
    assert isinstance(differing, Table) and differing.rows == [["data.sources", "a (2.5), b (1)", "[]"]]


def test_samples_come_from_the_files_of_the_configuration(trained: Path, tmp_path: Path) -> None:
    (run,) = read_runs([trained])
    assert samples_section([run]) is None  # data in memory
    np.save(tmp_path / "wave.npy", np.sin(np.arange(200) / 9))
    lines = [
        {"source": "s", "prompt_group": "science", "text": "A long story. " * 99},
        {"source": "s", "prompt_group": "science", "messages": [
            {"role": "user", "content": [{"type": "time_series", "time_series": "wave.npy", "sampling_rate": 50},
                                         {"type": "text", "text": "What <b>is</b> it?"}]},
            {"role": "assistant", "content": "a wave"}]},
    ]  # fmt: skip
    (tmp_path / "s.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    sources = [{"name": "s", "path": str(tmp_path / "s.jsonl")}, {"name": "gone", "path": str(tmp_path / "gone.jsonl")}]
    found = samples_section([Run(label="x", folder=trained, kind="train", config={"data": {"sources": sources}})])
    assert found is not None
    cards = next(block for block in found.blocks if isinstance(block, Samples)).cards
    assert cards[0].turns[0][1].endswith("[…]") and not cards[0].picture_svg
    assert cards[1].turns == [("user", "[time_series] What <b>is</b> it?"), ("assistant", "a wave")]
    assert "polyline" in cards[1].picture_svg and cards[1].picture_is_wide
    assert "gone" in found.blocks[-1].text  # type: ignore[union-attr]


def long_run(folder: Path, steps: int) -> Run:
    """Every third step reads a second source, and is skipped; a last line is cut."""
    (folder / "config.json").write_text('{"stage": "sft"}')
    with (folder / "metrics.jsonl").open("w") as lines:
        for i in range(1, steps + 1):
            read = {"a": 10, **({"b": 5} if i % 3 == 0 else {})}
            values = {"loss": 1 / i, "seconds": 0.5, "total_tokens": 10 * i + 5 * (i // 3), "source_tokens": read}
            lines.write(json.dumps({"kind": "train", "step": i, **values}) + "\n")
            if i % 3 == 0:
                lines.write(json.dumps({"kind": "skip", "step": i, "reason": "loss 7 lies far above"}) + "\n")
        lines.write('{"kind": "train", "st')
    (run,) = read_runs([folder])
    return run


def test_a_source_whose_steps_were_all_skipped_stands_out(tmp_path: Path) -> None:
    run = long_run(tmp_path, steps=9)
    found = curves.skipped_sources(run)
    assert found is not None and found.rows == [["b", 15, "100.0 %"], ["a", 30, "33.3 %"]]
    assert table(curves.learning_section([run]), "source").rows == [["a", 60, "100.0 %", None], ["b", 0, "0.0 %", None]]
    assert curves.skipped_sources(Run(label="x", folder=Path("x"), kind="train", config={}, records={})) is None


def test_long_runs_are_thinned_and_their_sums_are_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(folders, "MOST_RECORDS", 10)
    run = long_run(tmp_path, steps=100)
    *steps, last = (record["step"] for record in run.of("train"))
    assert 10 <= len(steps) < 20 and steps == sorted(steps) and steps[0] == 1 and last == 100
    assert len({b - a for a, b in itertools.pairwise(steps)}) == 1
    assert run.seconds == 50 and run.source_tokens == {"a": 1000, "b": 165}


@pytest.mark.parametrize("steps", [7999, 8000, 8001, 17_002])
def test_what_the_page_says_of_a_long_run_is_exact(steps: int, tmp_path: Path) -> None:
    run = long_run(tmp_path, steps=steps)
    third = steps // 3
    (row,) = curves.learning_section([run]).blocks[1].rows  # type: ignore[union-attr]
    assert row[1:6] == [steps, 10 * steps + 5 * third, round(steps / 2), round((10 * steps + 5 * third) / steps * 2),
                        1 / steps]  # fmt: skip
    assert row[8] == run.skipped_steps == third and len(run.of("train")) <= 8000
    found = curves.skipped_sources(run)
    assert found is not None
    assert found.rows == [["b", 5 * third, "100.0 %"], ["a", 10 * third, f"{100 * third / steps:.1f} %"]]
    assert curves.optimisation_section([run]).blocks[0].note == f"{third - 12:,} more are in metrics.jsonl."  # type: ignore[union-attr]


def test_a_demo_folder_is_its_parts_in_order(trained: Path, learned: Path, examined: Path, tmp_path: Path) -> None:
    for name, source in (("rl", learned), ("eval", examined), ("joint", trained), ("data", tmp_path / "nothing")):
        source.mkdir(exist_ok=True)
        shutil.copytree(source, tmp_path / "demo" / name)
    shutil.move(tmp_path / "demo" / "joint" / "model", tmp_path / "demo" / "model")  # as the demo does
    (tmp_path / "demo" / "demo.json").write_text("{}")
    runs = read_runs([tmp_path / "demo"])
    assert [(run.label, run.kind, run.number) for run in runs] == [
        ("joint", "train", 0),
        ("eval", "eval", 0),
        ("rl", "rl", 1),
    ]
    assert runs[0].model_folder == tmp_path / "demo" / "model"
    shutil.copytree(tmp_path / "demo", tmp_path / "again")
    assert [run.label for run in read_runs([tmp_path / "demo", tmp_path / "again"])][::3] == [
        "demo/joint",
        "again/joint",
    ]


def test_a_claim_called_like_another_section_has_its_own(
    trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    claim = replace(CLAIM, name="expansion")
    monkeypatch.setattr(claims, "CLAIMS", {"expansion": claim})
    run_claim(ClaimRun(claim=claim, folder=tmp_path / "claims", setting="fast", seeds=(0, 1)))
    sizes = {"num_experts": 4, "num_groups": 1, "top_k": 2, "parameters": 900, "active": 500}
    expansion = {"settings": {"strategy": "fitted"}, "before": sizes, "after": sizes | {"num_experts": 8}}
    for folder in ("grown", "demo/expanded"):
        shutil.copytree(trained / "model", tmp_path / folder)
        (tmp_path / folder / "expansion.json").write_text(json.dumps(expansion))
    (tmp_path / "demo" / "demo.json").write_text("{}")
    for beside in ("grown", "demo"):
        runs = write_report([tmp_path / "claims", tmp_path / beside], tmp_path / "page.html")
        assert {"Expansion", "Verdicts", "Claim: expansion"} <= set(titles(build(runs, "t")))
        assert [run.kind for run in runs] == ["claims", "expand"]


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({}, "no run in it; looked for metrics.jsonl"),
        ({"config.json": "{}", "metrics.jsonl": "{not json}\n"}, r"metrics.jsonl:1: not a line of JSON"),
        ({"config.json": "{}", "metrics.jsonl": "[1]\n"}, r"metrics.jsonl:1: a record has kind and step"),
        ({"config.json": "{}", "metrics.jsonl": '{"kind": "tr'}, "no complete line in it yet"),
        ({"config.json": "[]", "metrics.jsonl": ""}, "config.json: expected a JSON object, got list"),
        ({"expansion.json": "{"}, "expansion.json: not JSON"),
        ({"results.json": '{"tasks": 3}', "settings.json": "{}"}, "results.json: tasks must be a list"),
        ({"demo.json": "{}"}, "has not trained anything yet"),
        ({"balance/full/run-0.json": "{}"}, "is not the record of a claim"),
    ],
)
def test_folders_that_hold_no_run_are_refused(
    tmp_path: Path, files: dict[str, str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, text in files.items():
        (tmp_path / "run" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "run" / name).write_text(text)
    (tmp_path / "run").mkdir(exist_ok=True)
    with pytest.raises(InputError, match=message):
        write_report([tmp_path / "run"], tmp_path / "page.html")
    assert main(["report", str(tmp_path / "run")]) == 2
    assert re.search(message, capsys.readouterr().err)
    assert not list(tmp_path.rglob("*.html"))


def test_the_command(contrasted: Path, examined: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["report", str(contrasted), str(examined), "--out", str(tmp_path / "both.html"), "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert said["report"] == str(tmp_path / "both.html") and said["bytes"] == (tmp_path / "both.html").stat().st_size
    assert [(run["label"], run["kind"], run["steps"]) for run in said["runs"]] == [
        ("towers", "contrastive", 4),
        ("out", "eval", 0),
    ]
    assert main(["report", str(tmp_path / "nowhere")]) == 2 and "there is no such folder" in capsys.readouterr().err
    assert main(["report", str(examined), str(examined)]) == 2 and "given twice" in capsys.readouterr().err
    assert (
        main(["report", str(examined), "--out", str(tmp_path)]) == 2 and "this is a folder" in capsys.readouterr().err
    )
