"""The contrastive stage: losses by their formulas, exact resume, retrieval on combinations that were never seen."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from s1pro.base.config import config_from_json
from s1pro.base.errors import InputError
from s1pro.checkpoint.contrastive import save_contrastive
from s1pro.data.pairs import PairBatch, collate_pairs
from s1pro.model.contrastive import ContrastiveModel, Form
from s1pro.train.contrastive import (
    ContrastiveRun,
    PairDataConfig,
    build_contrastive,
    held_out_pairs,
    pair_loader,
    train_contrastive,
)
from s1pro.train.contrastive_loss import ContrastiveLoss, pair_losses
from s1pro.train.loop import Trainer
from s1pro.train.metrics import read_metrics
from s1pro.train.optim import OptimizerConfig
from s1pro.train.retrieval import above_chance, distinct, retrieval_record
from s1pro.train.schedules import ScheduleConfig
from s1pro.train.setup import place
from tests.train import shapes

MakeRun = Callable[..., ContrastiveRun]
FORMS: tuple[Form, ...] = ("sigmoid", "softmax")
TIMES = ("seconds", "tokens_per_second", "mfu")


@pytest.fixture
def shape_run(tmp_path: Path) -> MakeRun:
    def make(*, form: Form = "sigmoid", **changes: Any) -> ContrastiveRun:
        run = ContrastiveRun(
            folder=tmp_path / "run",
            model=shapes.model_config(form=form),
            steps=6,
            data=PairDataConfig(patches_per_batch=200, max_pairs=6),
            optimizer=OptimizerConfig(kind="muon", lr=4e-3),
            tensorboard=False,
            progress=False,
            export=False,
            peak_tflops=0.1,
        )
        return dataclasses.replace(run, **changes)

    return make


def loop_losses(logits: torch.Tensor, same: torch.Tensor, form: Form) -> torch.Tensor:
    """The formulas, number by number."""
    losses = []
    count = len(logits)
    for i in range(count):
        others = [j for j in range(count) if j != i and not same[i, j]]
        if form == "sigmoid":
            terms = [-torch.log(1 / (1 + torch.exp(-logits[i, i])))]
            terms += [-torch.log(1 / (1 + torch.exp(logits[i, j]))) for j in others]
            losses.append(sum(terms))
        else:
            own = torch.exp(logits[i, i])
            by_picture = own / (own + sum(torch.exp(logits[i, j]) for j in others))
            by_caption = own / (own + sum(torch.exp(logits[j, i]) for j in others))
            losses.append(-(torch.log(by_picture) + torch.log(by_caption)) / 2)
    return torch.stack([torch.as_tensor(loss) for loss in losses])


@pytest.mark.parametrize("form", FORMS)
def test_losses_and_their_gradients_follow_the_formulas(form: Form) -> None:
    torch.manual_seed(0)
    logits = (3 * torch.randn(5, 5, dtype=torch.float64)).requires_grad_()
    same = torch.zeros(5, 5, dtype=torch.bool)
    same[1, 3] = same[3, 1] = True
    ours, theirs = pair_losses(logits, logits.T, same, form), loop_losses(logits, same, form)
    torch.testing.assert_close(ours, theirs, atol=1e-12, rtol=1e-12)
    weights = torch.randn(5, dtype=torch.float64)
    gradients = [torch.autograd.grad((loss * weights).sum(), logits)[0] for loss in (ours, theirs)]
    torch.testing.assert_close(gradients[0], gradients[1], atol=1e-12, rtol=1e-12)
    assert torch.autograd.gradcheck(lambda x: pair_losses(x, x.T, same, form), logits)
    narrow = logits.detach().float()
    single = pair_losses(narrow, narrow.T, same, form).double()
    parts = [pair_losses(narrow[a:b], narrow.T[a:b], same[a:b], form, first=a) for a, b in ((0, 2), (2, 5))]
    torch.testing.assert_close(torch.cat(parts).double(), single, atol=1e-6, rtol=1e-6)
    torch.testing.assert_close(single, theirs.detach(), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("form", FORMS)
def test_losses_stay_finite_at_the_largest_scale(form: Form) -> None:
    logits = 100 * torch.tensor([[1.0, -1.0], [1.0, -1.0]]).requires_grad_()
    losses = pair_losses(logits, logits.T, torch.zeros(2, 2, dtype=torch.bool), form)
    losses.sum().backward()
    assert losses.isfinite().all() and losses.max() > 90


@pytest.mark.parametrize("form", FORMS)
def test_gradient_of_the_whole_model_agrees_with_finite_differences(form: Form) -> None:
    model = ContrastiveModel(shapes.model_config(form=form, width=8, out=8), seed=2).double()
    batch = collate_pairs([shapes.pairs().pair(i) for i in (0, 7, 20)])
    loss, totals = ContrastiveLoss(), ContrastiveLoss().totals([batch])
    loss(model, batch, totals).loss.backward()
    torch.manual_seed(1)
    for name in (
        "logit_scale",
        "model.visual.patch_embed.proj.weight",
        "pool.query.weight",
        "captions.embed_tokens.weight",
    ):
        param = model.get_parameter(name)
        direction = torch.randn_like(param)
        direction /= direction.norm()
        assert param.grad is not None
        slope, step = (param.grad * direction).sum().item(), 1e-3
        values = []
        for sign in (1, -1):
            with torch.no_grad():
                param.add_(direction, alpha=sign * step)
                values.append(loss(model, batch, totals).loss.item())
                param.sub_(direction, alpha=sign * step)
        assert (values[0] - values[1]) / (2 * step) == pytest.approx(slope, rel=1e-3, abs=1e-6), name


def test_the_step_is_the_mean_over_all_pairs_of_its_micro_batches(shape_run: MakeRun) -> None:
    model = build_contrastive(shape_run())
    source = shapes.pairs()
    batches = [collate_pairs([source.pair(i) for i in part], source_names=["shapes"]) for part in ((0, 1, 2), (3, 4))]
    loss = ContrastiveLoss()
    totals = loss.totals(batches)
    assert (totals.weight, totals.sources) == (5.0, {"shapes": 5.0})
    assert totals.rows == sum(source.num_rows(i) for i in range(5)) + 5 * 4
    outputs = [loss(model, batch, totals) for batch in batches]
    means = [loss(model, batch, loss.totals([batch])).loss.item() for batch in batches]
    expected = (3 * means[0] + 2 * means[1]) / 5
    assert sum(output.loss.item() for output in outputs) == pytest.approx(expected, rel=1e-6)
    assert sum(output.values["scale"].item() for output in outputs) == pytest.approx(10.0, rel=1e-5)
    nll = sum(output.source_nll.sum().item() for output in outputs if output.source_nll is not None)
    assert nll / 5 == pytest.approx(expected, rel=1e-6)


def trainer_of(run: ContrastiveRun) -> Trainer[ContrastiveModel, PairBatch]:
    return Trainer(
        run,
        place(build_contrastive(run), run),
        pair_loader([shapes.pairs(), shapes.pairs(held_out=True)], [3.0, 1.0], run.data, seed=run.seed),
        loss=ContrastiveLoss(),
        validation=held_out_pairs(
            [shapes.pairs(held_out=True, seed=1)], dataclasses.replace(run.data, validation_pairs=8)
        ),
    )


def curve(folder: Path) -> list[dict[str, Any]]:
    return [{k: v for k, v in record.items() if k not in TIMES} for record in read_metrics(folder)]


@pytest.mark.parametrize(("killed_at", "prefetch"), [(1, 0), (2, 2), (5, 0)])
def test_killed_and_resumed_stage_equals_the_uninterrupted_one(
    shape_run: MakeRun, tmp_path: Path, killed_at: int, prefetch: int
) -> None:
    options: dict[str, Any] = {"accumulation": 2, "checkpoint_every": 2, "eval_every": 3}
    whole = shape_run(folder=tmp_path / "whole", **options)
    data = dataclasses.replace(whole.data, prefetch=prefetch)
    broken = shape_run(folder=tmp_path / "broken", **{**options, "data": data})
    straight = trainer_of(whole)
    straight.train()

    class Killed(Exception):
        pass

    killed = trainer_of(broken)
    take = killed.stepper.step

    def step(*args: Any, **named: Any) -> Any:
        if killed.steps_done == killed_at:
            raise Killed
        return take(*args, **named)

    killed.stepper.step = step  # type: ignore[method-assign]
    with pytest.raises(Killed):
        killed.train()
    resumed = trainer_of(broken)
    resumed.train()
    assert curve(broken.folder) == curve(whole.folder)
    assert len(read_metrics(whole.folder, "train")) == 6
    pairs = zip(resumed.network.state_dict().values(), straight.network.state_dict().values(), strict=True)
    assert all(torch.equal(a, b) for a, b in pairs)


def test_metrics_name_the_terms_and_the_configuration_round_trips(shape_run: MakeRun) -> None:
    run = shape_run(steps=2, dtype="bfloat16")
    train_contrastive(run, sources=[shapes.pairs()], validation=[shapes.pairs(held_out=True)])
    record = read_metrics(run.folder, "train")[0]
    assert record["scale"] == pytest.approx(10.0, rel=1e-5) and 0 <= record["batch_recall"] <= 1
    assert record["source_loss"] == {"shapes": pytest.approx(record["loss"])} and record["mfu"] > 0
    assert read_metrics(run.folder, "router") == []
    validation = read_metrics(run.folder, "validation")[-1]
    assert validation["pairs"] == 32 and validation["image_to_text"]["recall_at_5"]["chance"] == 5 / 32
    assert config_from_json(ContrastiveRun, json.loads((run.folder / "config.json").read_text())) == run


@pytest.mark.parametrize("form", FORMS)
def test_retrieval_finds_combinations_that_were_never_seen(shape_run: MakeRun, form: Form) -> None:
    run = shape_run(
        form=form,
        steps={"sigmoid": 36, "softmax": 24}[form],
        optimizer=OptimizerConfig(kind="muon", lr=6e-3),
        data=PairDataConfig(patches_per_batch=1000, max_pairs=32),
        schedule=ScheduleConfig(kind="cosine", warmup=0.05),
    )
    training = shapes.pairs(copies=4)
    assert {*shapes.combinations(held_out=True)}.isdisjoint(shapes.combinations(held_out=False))
    result = train_contrastive(run, sources=[training], validation=[shapes.pairs(held_out=True, seed=9)])
    assert result.validation["pairs"] == 32
    assert above_chance(result.validation)
    untrained = ContrastiveLoss().validate(
        build_contrastive(run), held_out_pairs([shapes.pairs(held_out=True, seed=9)], run.data)
    )
    assert not above_chance(untrained)


def test_recall_counts_what_it_says() -> None:
    torch.manual_seed(0)
    image, text = torch.randn(40, 6), torch.randn(40, 6)
    record = retrieval_record(image, text)
    scores = image.double() @ text.double().T
    for direction, matrix in (("image_to_text", scores), ("text_to_image", scores.T)):
        for k in (1, 5, 10):
            hits = sum(i in sorted(range(40), key=lambda j: -matrix[i, j].item())[:k] for i in range(40))
            recall = record[direction][f"recall_at_{k}"]
            assert recall["value"] == hits / 40 and recall["chance"] == k / 40
            assert recall["low"] <= recall["value"] <= recall["high"]
    perfect = retrieval_record(torch.eye(6), torch.eye(6))
    assert perfect["image_to_text"]["recall_at_1"]["value"] == 1
    assert perfect["text_to_image"]["recall_at_5"]["chance"] == 5 / 6
    collapsed = retrieval_record(torch.ones(6, 3), torch.ones(6, 3))
    assert collapsed["image_to_text"]["recall_at_5"]["value"] == 0
    assert distinct([(1, 2), (3,), (1, 2), (4,), (3,)]) == [0, 1, 3]
    with pytest.raises(ValueError, match="do not pair up"):
        retrieval_record(torch.ones(2, 3), torch.ones(3, 3))


def test_flops_are_those_of_the_products(shape_run: MakeRun) -> None:
    """Counted by torch on the forward pass, without the terms that the definition leaves out (pooling, projections)."""
    from torch.utils.flop_counter import FlopCounterMode

    model = build_contrastive(shape_run())
    batch = collate_pairs([shapes.pairs().pair(i) for i in range(6)])
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        ContrastiveLoss()(model, batch, ContrastiveLoss().totals([batch]))
    ours = ContrastiveLoss().flops(model, batch) / 3
    assert math.isclose(counter.get_total_flops(), ours, rel_tol=0.15)


def test_a_stage_may_start_from_a_trained_tower(shape_run: MakeRun, tmp_path: Path) -> None:
    trained = ContrastiveModel(shapes.model_config(), seed=7)
    folder = save_contrastive(trained, tmp_path / "trained")
    model, fresh = (build_contrastive(shape_run(vision_from=start)) for start in (folder, None))
    for name, tensor in model.state_dict().items():
        source = trained if name.startswith("model.visual.") else fresh
        assert torch.equal(tensor, source.state_dict()[name]), name


def test_clear_errors(shape_run: MakeRun) -> None:
    with pytest.raises(InputError, match=r"data\.sources is empty"):
        train_contrastive(shape_run())
    with pytest.raises(InputError, match="weights for unknown sources x"):
        train_contrastive(shape_run(), sources=[shapes.pairs()], weights={"x": 1.0})
    with pytest.raises(ValueError, match="max_pairs must be at least 2"):
        PairDataConfig(max_pairs=1)
    with pytest.raises(
        InputError, match=r"trainable: 'model.vision\.\*' matches no parameter; there are .*model.visual"
    ):
        train_contrastive(shape_run(trainable=("model.vision.*",)), sources=[shapes.pairs()])
