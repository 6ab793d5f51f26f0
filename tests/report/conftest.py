"""A report like that of the demo, with invented numbers."""

from __future__ import annotations

import math
import random

import numpy as np
import pytest

from s1pro.report import plots
from s1pro.report.blocks import (
    Answer,
    Answers,
    Commands,
    Figure,
    KeyValues,
    Paragraph,
    Report,
    Section,
    StageTime,
    Table,
    Tile,
    Timings,
)
from s1pro.report.scores import Estimate, TaskScore, score_table, score_verdict

SCORES = (
    TaskScore(
        task="formula from name",
        model=Estimate(value=0.412, low=0.366, high=0.459, num_items=400),
        baselines={
            "untrained": Estimate(value=0.0, low=0.0, high=0.009, num_items=400),
            "constant or copy": Estimate(value=0.013),
        },
    ),
    TaskScore(
        task="number of rings",
        model=Estimate(value=0.873, low=0.838, high=0.903, num_items=400),
        baselines={
            "untrained": Estimate(value=0.021, low=0.01, high=0.04, num_items=400),
            "constant or copy": Estimate(value=0.318),
        },
    ),
    TaskScore(
        task="functional group yes/no",
        model=Estimate(value=0.941, low=0.914, high=0.961, num_items=400),
        baselines={
            "untrained": Estimate(value=0.12, low=0.092, high=0.155, num_items=400),
            "constant or copy": Estimate(value=0.5),
        },
    ),
    TaskScore(
        task="mass within 1 %",
        model=Estimate(value=0.222, low=0.184, high=0.265, num_items=400),
        baselines={
            "untrained": Estimate(value=0.002, low=0.0, high=0.014, num_items=400),
            "constant or copy": Estimate(value=0.19),
        },
    ),
)

ANSWERS = (
    Answer(
        task="formula from name",
        question="What is the molecular formula of 2-methylpropan-1-ol?",
        answer="C4H10O",
        expected="C4H10O",
        correct=True,
    ),
    Answer(
        task="functional group",
        question="Does <SMILES>CC(=O)Oc1ccccc1C(=O)O</SMILES> contain an ester? Answer yes or no.",
        answer="yes",
        expected="yes",
        correct=True,
        picture_svg='<svg viewBox="0 0 40 30"><path d="M2 28 20 2 38 28Z" fill="none" stroke="#000"/></svg>',
    ),
    Answer(
        task="SMILES validity",
        question="Write a SMILES with " + "C" * 150,
        answer="C1=CC=C(C=C1)" + "(CCCCCCCCCC)" * 14,
        expected="any valid SMILES",
        correct=False,
        note="unclosed ring 1",
    ),
    Answer(task="free", question="Tell me about benzene.\nBriefly.", answer=""),
)


def loss(start: float, end: float, num_steps: int, seed: int) -> list[float]:
    rng = random.Random(seed)
    return [end + (start - end) * math.exp(-6 * i / num_steps) + rng.gauss(0, 0.08) for i in range(num_steps)]


def build_report() -> Report:
    steps = list(range(900))
    validation = list(range(0, 900, 100))
    panels = [
        plots.Panel(
            title="pre-training",
            curves=[
                plots.Curve(label="training", x=steps, y=loss(7.0, 1.6, 900, 0), smoothing=0.95),
                plots.Curve(label="validation", x=validation, y=loss(7.0, 1.8, 9, 1), markers=True),
            ],
        ),
        plots.Panel(
            title="questions and answers",
            curves=[plots.Curve(label="training", x=steps[:400], y=loss(2.5, 0.5, 400, 2), smoothing=0.95)],
        ),
    ]
    load_LE = np.random.default_rng(0).gamma(12.0, size=(4, 8))
    load_LE[2, 5] = 0.1
    stages = (
        StageTime(stage="data", seconds=11.8, budget_seconds=20),
        StageTime(stage="tokenizer", seconds=4.2, budget_seconds=10),
        StageTime(stage="pre-training", seconds=86.4, budget_seconds=80, note="912 steps"),
        StageTime(stage="fine-tuning", seconds=38.0, budget_seconds=45),
        StageTime(stage="evaluation", seconds=21.3, budget_seconds=25),
    )
    return Report(
        title="A first model",
        subtitle="A mixture of experts with 3.3 M parameters, trained on 61,482 real molecules by one command.",
        tiles=(
            Tile(label="parameters", value="3.3 M", note="1.4 M active per token"),
            Tile(label="tokens seen", value="4.1 M"),
            Tile(label="tasks above baselines", value="3 of 4", tone="bad"),
            Tile(label="time", value="2 min 42 s", note="budget 3 min", tone="good"),
        ),
        sections=(
            Section(
                title="Scores",
                intro="Molecules that the model never saw, apart from training by scaffold.",
                blocks=(
                    score_verdict(SCORES, required=4),
                    Figure(svg=plots.score_bars(SCORES, name="scores"), alt="Scores of the model and its baselines."),
                    score_table(SCORES),
                ),
            ),
            Section(
                title="Training",
                blocks=(
                    Figure(
                        svg=plots.curves(panels, name="losses"),
                        alt="Training and validation loss fall.",
                        caption="Loss in nats per token.",
                    ),
                ),
            ),
            Section(
                title="Router",
                intro="How the tokens spread over the experts.",
                blocks=(
                    Figure(
                        svg=plots.router_load(load_LE, num_groups=2, name="router"),
                        alt="Load of 8 experts in 4 layers.",
                    ),
                ),
            ),
            Section(title="Ten questions", blocks=(Answers(cards=ANSWERS),)),
            Section(title="Time", blocks=(Timings(stages=stages),)),
            Section(
                title="Environment",
                blocks=(
                    KeyValues(
                        values={
                            "commit": "0123abc",
                            "processor": "AMD EPYC 9B14 (2 cores)",
                            "torch": "2.13.0",
                            "learning rate": 0.003,
                            "a/very/long/path": "runs/" + "x" * 120,
                        }
                    ),
                    Table(
                        columns=[f"column {i}" for i in range(16)],
                        rows=[["row", *range(1000, 1015)]],
                        caption="A wide table",
                    ),
                    Paragraph(text="<script>alert('escaped')</script> & more"),
                ),
            ),
            Section(
                title="Go on",
                blocks=(
                    Commands(
                        lines=(
                            "# talk to the model",
                            "s1pro chat runs/demo/model",
                            "s1pro eval runs/demo/model --tasks " + ",".join(f"task_{i}" for i in range(20)),
                        )
                    ),
                ),
            ),
        ),
        footer="Made by s1pro 0.1.0.",
    )


@pytest.fixture(scope="session")
def report() -> Report:
    return build_report()
