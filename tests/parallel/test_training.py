"""Training on many ranks equals training on one: losses, norms, gradients, weights, statistics."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from s1pro.base.errors import InputError
from s1pro.base.media import Media, Patches, Signals
from s1pro.base.signal_tokens import signal_layout
from s1pro.data.batch import PackedBatch
from s1pro.kernels.attention import PackedContext
from s1pro.kernels.cross_entropy import linear_cross_entropy
from s1pro.model.config import TimeSeriesConfig, VisionConfig
from s1pro.model.network import Network
from s1pro.model.presets import bench
from s1pro.parallel import dispatch as dispatch_module
from s1pro.parallel.apply import parallelize, release_gathered
from s1pro.parallel.config import MeshSizes, ParallelConfig
from s1pro.parallel.mesh import Ranks, build_ranks, join, leave
from s1pro.parallel.regions import local_part, places
from s1pro.train.config import Fp8Config, TrainRun
from s1pro.train.guards import GuardConfig
from s1pro.train.losses import LanguageModelLoss, LossConfig, LossOutput, StepTotals
from s1pro.train.optim import OptimizerConfig
from s1pro.train.setup import local_accumulation, prepare_network
from tests.parallel.ranks import run_ranks
from tests.parallel.runs import (
    MICRO_BATCHES,
    VOCABULARY,
    History,
    Parts,
    assembled,
    run_on_this_rank,
    small_model,
    small_run,
    small_trainer,
    take_steps,
)

STEPS = 3


def layouts(ranks: int) -> dict[str, ParallelConfig]:
    apart = {"dp_shard": 1, "dp_replicate": ranks}
    return {
        "shards": ParallelConfig(),
        "copies": ParallelConfig(**apart),
        "copies of shards": ParallelConfig(dp_replicate=2),
        "experts by all-gather": ParallelConfig(**apart, ep=min(ranks, 4), dispatch="all_gather"),
        "experts by all-gather, overlapped": ParallelConfig(
            **apart, ep=min(ranks, 4), dispatch="all_gather", overlap=2
        ),
        "experts by all-to-all": ParallelConfig(**apart, ep=min(ranks, 4), dispatch="all_to_all"),
        "experts by counts": ParallelConfig(**apart, ep=ranks, dispatch="counted"),
        "experts and shards": ParallelConfig(ep=2),
        "all axes": ParallelConfig(dp_replicate=2, ep=ranks // 2 if ranks > 2 else 2, dispatch="all_to_all"),
    }


def largest(actual: dict[str, Tensor], expected: dict[str, Tensor]) -> float:
    """Largest difference, relative to the largest number of the same tensor."""
    assert actual.keys() == expected.keys()
    return max(float((actual[n] - expected[n]).abs().max() / expected[n].abs().max().clamp(min=1e-6)) for n in expected)


def check_equal(histories: list[History], single: History, *, weights: float = 2e-5) -> None:
    """Equal to the round-off of float32: sums are made in another order."""
    for history in histories:
        assert history.losses == histories[0].losses and history.norms == histories[0].norms  # the same bits everywhere
        assert history.losses == pytest.approx(single.losses, rel=2e-6)
        assert history.norms == pytest.approx(single.norms, rel=1e-5)
        assert history.validation["loss"] == pytest.approx(single.validation["loss"], rel=1e-5)
        for mine, theirs in zip(history.reports, single.reports, strict=True):
            assert (mine.rows, mine.skipped, mine.source_weight) == (theirs.rows, theirs.skipped, theirs.source_weight)
            assert mine.values == pytest.approx(theirs.values, rel=1e-5)
        assert history.reports[0].routers == single.reports[0].routers
    gradients, expected = (assembled([h.gradients for h in many]) for many in (histories, [single]))
    assert largest(gradients, expected) < 2e-5
    assert largest(assembled([h.weights for h in histories]), assembled([single.weights])) < weights


def single_history(run: TrainRun, steps: int = STEPS) -> History:
    return take_steps(small_trainer(replace(run, parallel=ParallelConfig()), Ranks()), steps)


def check_layouts(run: TrainRun, ranks: int, names: list[str], steps: int = STEPS) -> None:
    runs = [replace(run, parallel=layouts(ranks)[name]) for name in names]
    per_rank = run_ranks(run_on_this_rank, ranks, runs, steps, timeout=240)
    single = single_history(run, steps)
    for index in range(len(names)):
        check_equal([histories[index] for histories in per_rank], single)


@pytest.mark.parametrize(
    ("names", "straight_through"),
    [(["shards", "experts by all-to-all"], False), (["experts by all-gather", "experts and shards"], True)],
)
def test_four_ranks(tmp_path: Path, names: list[str], straight_through: bool) -> None:
    check_layouts(small_run(tmp_path, straight_through=straight_through), 4, names)


@pytest.mark.parametrize(
    "layout", [ParallelConfig(), ParallelConfig(ep=2, dispatch="all_to_all"), ParallelConfig(dp_replicate=2)]
)
def test_experts_gathered_in_fp8(tmp_path: Path, layout: ParallelConfig) -> None:
    """The same numbers as with weights that are gathered first and quantised then, bit for bit."""
    fp8 = Fp8Config(keep_layers=(0,))
    run = replace(small_run(tmp_path, activation_checkpointing=True), expert_precision="fp8", fp8=fp8, parallel=layout)
    runs = [run, replace(run, fp8=replace(fp8, gather="fp8"))]
    for plain, gathered in run_ranks(run_on_this_rank, 4, runs, STEPS):
        assert gathered.losses == plain.losses and gathered.norms == plain.norms
        assert gathered.validation == plain.validation
        assert gathered.reports[0].fp8.keys() == plain.reports[0].fp8.keys()
        for name, weights in plain.weights.tensors.items():
            assert torch.equal(gathered.weights.tensors[name], weights), name


def exact_logits(run: TrainRun, ranks: Ranks) -> Tensor:
    """Of the rows of this rank, with gradients as in a step of training."""
    network = prepare_network(Network(small_model(), seed=3), run, ranks)
    lengths = (19, 1, 30) if ranks.rank == 0 else (7, 12, 31)
    ids = torch.randint(VOCABULARY, (50,), generator=torch.Generator().manual_seed(ranks.rank))
    positions = torch.cat([torch.arange(length) for length in lengths])
    logits = network(ids, positions, PackedContext.from_lengths(lengths)).logits
    assert logits.requires_grad
    logits.square().mean().backward()
    return logits.detach()


def test_exact_mode_on_two_ranks_has_the_bits_of_one(tmp_path: Path) -> None:
    fp8 = replace(small_run(tmp_path, exact=True), expert_precision="fp8", fp8=Fp8Config(keep_layers=(0,)))
    runs = [
        replace(small_run(tmp_path, exact=True), parallel=ParallelConfig(ep=2)),
        replace(
            small_run(tmp_path, exact=True),
            parallel=ParallelConfig(ep=2, dispatch="counted", dp_shard=1, dp_replicate=2),
        ),
        replace(fp8, parallel=ParallelConfig(ep=2, dispatch="all_to_all", overlap=2)),
        replace(fp8, fp8=replace(fp8.fp8, gather="fp8")),
    ]

    def on_rank(rank: int) -> list[Tensor]:
        return [exact_logits(run, join(run.parallel, "cpu")) for run in runs]

    for rank, results in enumerate(run_ranks(on_rank, 2)):
        for run, logits in zip(runs, results, strict=True):
            alone = replace(run, parallel=ParallelConfig(), fp8=replace(run.fp8, gather="network"))
            assert torch.equal(logits, exact_logits(alone, replace(Ranks(), rank=rank))), run.parallel


def test_what_is_gathered_in_fp8(tmp_path: Path) -> None:
    """A quarter of the bytes of float32 are sent and held; what stands for the weights cannot be read."""

    def gathered(rank: int) -> tuple[int, int]:
        ranks = join(ParallelConfig(), "cpu")
        run = replace(small_run(tmp_path), expert_precision="fp8", fp8=Fp8Config(gather="fp8"))
        network = prepare_network(Network(small_model(), seed=3), run, ranks)
        moe = network.model.language_model.layers[0].mlp
        moe.unshard()
        for parameter in moe.experts.parameters():
            with pytest.raises(RuntimeError, match="gathered in FP8"):
                parameter.detach().sum()
        state = moe._get_fsdp_state()._fsdp_param_group
        held = sum(t.nbytes for p in state.fsdp_params for t in p.all_gather_outputs)
        return held, sum(p.numel() for p in moe.experts.parameters())

    for held, numbers in run_ranks(gathered, 2):
        assert numbers <= held < 1.1 * numbers


def test_uneven_experts_are_not_gathered_in_fp8(tmp_path: Path) -> None:
    run = replace(small_run(tmp_path), expert_precision="fp8", fp8=Fp8Config(gather="fp8"))

    def refused(rank: int) -> str:
        with pytest.raises(InputError) as error:
            prepare_network(Network(small_model(), seed=3), run, join(ParallelConfig(), "cpu"))
        return str(error.value)

    assert "8 experts per expert-parallel rank cannot be divided among 3 shards" in run_ranks(refused, 3)[0]
    with pytest.raises(InputError, match="no effect in one process"):
        prepare_network(Network(small_model(), seed=3), run)


@pytest.mark.slow
@pytest.mark.parametrize("ranks", [2, 4, 8])
@pytest.mark.parametrize("straight_through", [False, True])
def test_every_layout(tmp_path: Path, ranks: int, straight_through: bool) -> None:
    run = small_run(tmp_path, straight_through=straight_through, accumulation=max(ranks, MICRO_BATCHES))
    check_layouts(run, ranks, list(layouts(ranks)), steps=4)


def test_recomputation_clipping_and_frozen_parts(tmp_path: Path) -> None:
    """The same on ranks: recomputed blocks repeat their exchanges; a frozen gate has no gradient to reduce."""
    run = small_run(tmp_path, activation_checkpointing=True, guards=GuardConfig(max_grad_norm=0.1))
    frozen = replace(run, freeze_router=True, loss=LossConfig(balance=0.0))
    layout = ParallelConfig(ep=2, dispatch="all_to_all")
    per_rank = run_ranks(run_on_this_rank, 4, [replace(r, parallel=layout) for r in (run, frozen)], STEPS)
    for index, one in enumerate((run, frozen)):
        single = single_history(one)
        check_equal([histories[index] for histories in per_rank], single)
        assert min(single.norms) > 0.1
    gates = {name for name in per_rank[0][1].gradients.tensors if name.endswith("mlp.gate.weight")}
    assert not gates and any(name.endswith("mlp.gate.weight") for name in per_rank[0][0].gradients.tensors)


@pytest.mark.parametrize("layout", [ParallelConfig(), ParallelConfig(dp_shard=1, dp_replicate=2, ep=2)])
def test_muon_puts_cut_matrices_together(tmp_path: Path, layout: ParallelConfig) -> None:
    """Its iterations run in bfloat16: round-off of the gradient may flip a rounding, so an update differs by 2^-8."""
    run = small_run(tmp_path, optimizer=OptimizerConfig(kind="muon", lr=1e-2), accumulation=2)
    per_rank = run_ranks(run_on_this_rank, 2, [replace(run, parallel=layout)], 1)
    single = single_history(run, 1)
    start = {name: p.detach() for name, p in Network(small_model()).named_parameters()}
    whole, expected = assembled([histories[0].weights for histories in per_rank]), assembled([single.weights])
    for name, before in start.items():
        moved, should = whole[name] - before, expected[name] - before
        assert float((moved - should).norm()) <= 0.02 * float(should.norm()), name


def test_bfloat16_weights_with_float32_masters(tmp_path: Path) -> None:
    run = small_run(tmp_path, dtype="bfloat16", accumulation=2)
    per_rank = run_ranks(run_on_this_rank, 2, [replace(run, parallel=ParallelConfig(ep=2))], 4)
    single = single_history(run, 4)
    for histories in per_rank:
        assert histories[0].losses == pytest.approx(single.losses, rel=2e-3)
        dtypes = {name: tensor.dtype for name, tensor in histories[0].weights.tensors.items()}
        assert dtypes["lm_head.weight"] == torch.float32
        assert dtypes["model.language_model.norm.weight"] == torch.bfloat16
    assert single.losses[-1] < single.losses[0]


class PoisonedOnce(LanguageModelLoss):
    """The first micro-batch of rank 1 has a loss that is not a number."""

    calls = 0

    def __call__(self, model: Network, batch: PackedBatch, totals: StepTotals) -> LossOutput:
        output = super().__call__(model, batch, totals)
        self.calls += 1
        if self.ranks.rank != 1 or self.calls > 1:
            return output
        nan = output.loss * float("nan")
        return replace(output, loss=nan, values={**output.values, "loss": nan.detach()})


def test_skipping_is_decided_alike(tmp_path: Path) -> None:
    run = small_run(tmp_path, accumulation=2)

    def poisoned(rank: int) -> tuple[list[bool], bool]:
        trainer = small_trainer(run, join(run.parallel, "cpu"))
        trainer.stepper.loss = PoisonedOnce(run.loss, trainer.ranks)
        before = [local_part(p).clone() for p in trainer.network.parameters()]
        skipped = [trainer.stepper.step([next(trainer.loader)], 1.0).skipped is not None]
        unchanged = all(
            torch.equal(a, local_part(b)) for a, b in zip(before, trainer.network.parameters(), strict=True)
        )
        skipped.append(trainer.stepper.step([next(trainer.loader)], 1.0).skipped is not None)
        return skipped, unchanged

    assert run_ranks(poisoned, 2) == [([True, False], True)] * 2


def test_towers_when_only_some_ranks_have_media() -> None:
    """Of four ranks one has a picture, one a signal, one both and one neither: nobody waits, gradients are right."""
    vision = VisionConfig(
        depth=1, hidden_size=16, num_heads=2, intermediate_size=24, patch_size=2, num_position_embeddings=16,
        out_hidden_size=32, temporal_patch_size=1,
    )  # fmt: skip
    series = TimeSeriesConfig(
        d_model=16, encoder_layers=1, encoder_attention_heads=2, encoder_ffn_dim=16, num_mel_bins=8, ts_adapt_in_dim=16,
        ts_adapt_out_dim=16, ts_hidden_dim=16, out_hidden_size=32, subsampling_attention_heads=2,
        subsampling_ffn_dim=16,
    )  # fmt: skip
    model = replace(small_model(), vision=vision, time_series=series, image_token_id=1, ts_token_id=0)

    def batch_of(number: int) -> tuple[Tensor, Media[Tensor] | None]:
        generator = torch.Generator().manual_seed(number)
        ids_T = torch.randint(2, 30, (24,), generator=generator)
        images = signals = None
        if number in (0, 2):
            ids_T[3:7] = 1
            pixels = torch.randn(16, 12, generator=generator)
            images = Patches(pixel_values_PX=pixels, grids=((1, 4, 4),))
        if number in (2, 3):
            ids_T[10 : 10 + signal_layout(50, 10.0).tokens] = 0
            values = torch.randn(50, generator=generator)
            signals = Signals(values_X=values, shapes=((50, 1),), sampling_rates=(10.0,))
        return ids_T, None if number == 1 else Media(images=images, signals=signals)

    def loss_of(network: Network, number: int) -> Tensor:
        ids_T, media = batch_of(number)
        output = network(ids_T, torch.arange(24), PackedContext((0, 24)), media=media, compute_logits=False)
        return linear_cross_entropy(output.hidden_TD, network.lm_head.weight, ids_T.roll(-1), torch.ones(24))[0] / 96

    layouts = (ParallelConfig(), ParallelConfig(ep=2), ParallelConfig(dp_replicate=4, ep=2))

    def gradients(rank: int, layout: ParallelConfig) -> Parts:
        ranks = join(layout, "cpu")
        network = parallelize(Network(model, seed=3), ranks, layout)
        for _ in range(2):  # also with a forward pass without a backward pass in between
            with torch.no_grad():
                loss_of(network, rank)
            release_gathered(network)
            loss_of(network, rank).backward()
        grads = {name: local_part(p.grad) for name, p in network.named_parameters()}
        spread = places(network, ranks)
        return Parts(grads, {name: spread[name].region(ranks, rank) for name in grads})

    single = Network(model, seed=3)
    for number in [0, 1, 2, 3] * 2:
        loss_of(single, number).backward()
    expected = {name: p.grad for name, p in single.named_parameters()}
    for tower in ("visual", "time_series"):
        assert all(float(g.abs().max()) > 0 for name, g in expected.items() if name.startswith(f"model.{tower}."))
    per_rank = run_ranks(lambda rank: [gradients(rank, layout) for layout in layouts], 4)
    for parts in zip(*per_rank, strict=True):
        assert largest(assembled(list(parts)), expected) < 2e-5


@pytest.mark.parametrize(
    ("grouped", "dispatch"),
    [(True, "all_to_all"), (False, "counted"), pytest.param(True, "all_gather", marks=pytest.mark.slow)],
)
def test_rows_per_rank_while_training(tmp_path: Path, grouped: bool, dispatch: str) -> None:
    """Documents of unequal length on the ranks: grouped routing gives each the same work, plain top-k does not."""
    model = small_model(grouped=grouped)
    layout = ParallelConfig(dp_shard=1, dp_replicate=4, ep=4, dispatch=dispatch)  # type: ignore[arg-type]
    run = small_run(tmp_path, model=model, parallel=layout)

    def rows_of_steps(rank: int) -> tuple[list[int], set[int]]:
        computed: list[int] = []
        compute = dispatch_module.experts_forward

        def counting(x: Tensor, ids: Tensor, *rest: Tensor, **options: object) -> Tensor:
            computed.append(ids.numel())
            return compute(x, ids, *rest, **options)

        dispatch_module.experts_forward = counting
        trainer = small_trainer(run, join(run.parallel, "cpu"))
        batches = [next(trainer.loader) for _ in range(3)]
        for batch in batches:
            trainer.stepper.step([batch], 1.0)
        return computed, {batch.num_real_rows for batch in batches}

    per_rank = run_ranks(rows_of_steps, 4)
    assert len(set.union(*(real for _, real in per_rank))) > 1  # the ranks had unequal documents and tails
    ratios = [max(rows) * 4 / sum(rows) for rows in zip(*(computed for computed, _ in per_rank), strict=True)]
    assert len(ratios) == 6  # steps and layers
    assert all(ratio == 1 for ratio in ratios) if grouped else max(ratios) > 1.05


@pytest.mark.slow
def test_trained_rotary_coefficients_of_which_some_ranks_hold_nothing(tmp_path: Path) -> None:
    """Two key/value heads on four ranks."""
    text = small_model().text
    model = replace(small_model(), text=replace(text, rope=replace(text.rope, learnable=True)))
    run = small_run(tmp_path, model=model)
    per_rank = run_ranks(run_on_this_rank, 4, [run], STEPS)
    check_equal([histories[0] for histories in per_rank], single_history(run))
    name = "model.language_model.rotary_emb.sin_coef"
    assert [histories[0].weights.regions[name].size[0] for histories in per_rank] == [1, 1, 0, 0]


def test_a_network_without_memory_spreads_over_a_simulated_world() -> None:
    """What planning does: 64 ranks that exist in name only."""

    def spread(rank: int) -> tuple[dict[str, tuple[int, ...]], int]:
        from torch.testing._internal.distributed.fake_pg import FakeStore

        leave()
        torch.distributed.init_process_group("fake", rank=37, world_size=64, store=FakeStore())
        layout = ParallelConfig(dp_replicate=2, ep=8)
        ranks = build_ranks(MeshSizes.of(layout, 64), "cpu")
        with torch.device("meta"):
            network = Network(bench())
        network = parallelize(network, ranks, layout, activation_checkpointing=True)
        spread_places = places(network, ranks)
        state = network.state_dict()
        for name, tensor in state.items():
            assert tuple(local_part(tensor).shape) == spread_places[name].region(ranks, 37).size, name
        torch.distributed.destroy_process_group()
        torch.distributed.init_process_group("fake", rank=0, world_size=1, store=FakeStore())  # for the goodbye
        return {name: place.region(ranks, 37).start for name, place in spread_places.items()}, len(state)

    [(starts, count)] = run_ranks(spread, 1)
    # rank 37 = replica 1, shard 5; experts: row 37 // 8 = 4, so replica 1 and shard 0 of 4; place 5 on the ep axis
    assert count == len(starts) == len(Network(bench()).state_dict())
    assert starts["lm_head.weight"] == (5 * 4096 // 32, 0)
    assert starts["model.language_model.layers.0.mlp.experts.gate_up_proj"] == (5 * 64 // 8, 0, 0)


def test_sizes_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    assert MeshSizes.of(ParallelConfig(ep=2), 8) == MeshSizes(
        dp_replicate=1, dp_shard=8, expert_replicate=1, expert_shard=4, ep=2
    )
    assert MeshSizes.of(ParallelConfig(dp_replicate=4, ep=4), 8) == MeshSizes(
        dp_replicate=4, dp_shard=2, expert_replicate=2, expert_shard=1, ep=4
    )
    for config, ranks, message in (
        (ParallelConfig(dp_replicate=3), 4, "dp_replicate=3 does not divide the 4 ranks"),
        (ParallelConfig(dp_shard=2), 8, "dp_shard=2 is 2, but this run has 8 ranks"),
        (ParallelConfig(ep=3), 4, "ep=3 must divide the 4 ranks"),
        (ParallelConfig(dp_replicate=2, ep=4), 12, "ep=4 must divide the 12 ranks, and divide dp_shard=6"),
        (ParallelConfig(ep=2), 1, "ep=2 need several ranks, but this is one process"),
    ):
        with pytest.raises(InputError, match=message):
            MeshSizes.of(config, ranks)
    with pytest.raises(InputError, match="accumulation=4 micro-batches per step cannot be divided among 3 ranks"):
        local_accumulation(small_run(tmp_path), Ranks(size=3))
    for options, message in (
        ({"ep": 0}, "ep must be at least 1"),
        ({"overlap": 2}, "overlap=2 has no effect"),
        ({"dispatch": "counted"}, "has no effect"),
    ):
        with pytest.raises(ValueError, match=message):
            ParallelConfig(**options)  # type: ignore[arg-type]


@pytest.mark.slow
def test_compiled_attention_on_ranks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Traced, with its gradient, and run by torch: what is tested is that ranks and tracing go together."""
    traced: list[str] = []
    compile_module = torch.nn.Module.compile

    def compile_without_compiler(module: torch.nn.Module) -> None:
        traced.append(type(module).__name__)
        compile_module(module, backend="aot_eager")

    monkeypatch.setattr(torch.nn.Module, "compile", compile_without_compiler)
    single = single_history(small_run(tmp_path / "one"))

    def on_rank(rank: int) -> tuple[list[History], list[str]]:
        layout = ParallelConfig(ep=2)
        return run_on_this_rank(rank, [replace(small_run(tmp_path), parallel=layout, compile=True)], STEPS), traced

    per_rank = run_ranks(on_rank, 2, timeout=150.0)
    check_equal([histories[0] for histories, _ in per_rank], single)
    assert [names for _, names in per_rank] == [["Attention"] * len(small_model().text.moe_layers)] * 2
