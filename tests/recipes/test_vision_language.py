"""The three stages from files, by the command line: what each one starts from, changes and leaves alone."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from s1pro.base.config import config_from_json, config_to_json
from s1pro.checkpoint.contrastive import load_contrastive
from s1pro.checkpoint.released import load_network, save_network
from s1pro.cli import main
from s1pro.inputs.images import ImageSettings
from s1pro.inputs.media_parts import Preparation
from s1pro.inputs.processor import Processor
from s1pro.inputs.tokenizer_training import train_tokenizer
from s1pro.model.config import VisionConfig
from s1pro.model.contrastive import CaptionConfig
from s1pro.model.network import Network
from s1pro.model.presets import tiny
from s1pro.recipes import RECIPES
from s1pro.recipes.vision_language import (
    VisionLanguageSettings,
    VisionStage,
    contrastive_recipe,
    joint_recipe,
    projectors_recipe,
)
from s1pro.train.config import TrainRun
from s1pro.train.contrastive import ContrastiveRun, train_contrastive
from s1pro.train.metrics import read_metrics
from s1pro.train.retrieval import above_chance
from s1pro.train.stage import train
from tests.train import shapes

COLOURS = ("red", "green", "blue", "yellow", "purple", "cyan")
SHAPES = ("square", "disc", "cross", "diamond")
CORNERS = ("top left", "top right", "bottom left", "bottom right")
TOWER = VisionConfig(
    depth=1, hidden_size=32, num_heads=2, intermediate_size=64, patch_size=shapes.PATCH, num_position_embeddings=36,
    out_hidden_size=64,
)  # fmt: skip


def write_pairs(folder: Path, pairs: Iterable[tuple[np.ndarray, str]]) -> None:
    (folder / "pictures").mkdir(parents=True)
    lines = []
    for number, (picture, caption) in enumerate(pairs):
        Image.fromarray(picture).save(folder / "pictures" / f"{number}.png")
        messages = [
            {"role": "user", "content": [{"type": "image", "image": f"pictures/{number}.png"}]},
            {"role": "assistant", "content": caption},
        ]
        lines.append({"source": "shapes", "prompt_group": "general", "messages": messages})
    (folder / "pairs.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))


def drawings(*, held_out: bool, seed: int) -> Iterable[tuple[np.ndarray, str]]:
    rng = np.random.default_rng(seed)
    for colour, shape, corner in shapes.combinations(held_out=held_out):
        caption = f"A {COLOURS[colour]} {SHAPES[shape]} at the {CORNERS[corner]}."
        yield shapes.drawing(colour, shape, corner, rng), caption


def language_model(folder: Path, texts: Iterable[str], *, tower: VisionConfig, pixels: tuple[int, int]) -> Path:
    """A text network of random weights with its processor, as the folder that the recipe starts from."""
    images = ImageSettings(min_pixels=pixels[0], max_pixels=pixels[1], patch_size=tower.patch_size)
    tokenizer = train_tokenizer(texts, vocab_size=320)
    Processor(tokenizer, preparation=Preparation(images=images)).save_pretrained(folder)
    save_network(Network(tiny(tokenizer.vocab_size), seed=3), folder)
    return folder


def settings(folder: Path, **changes: Any) -> VisionLanguageSettings:
    stage = VisionStage(steps=2, lr=1e-3, eval_every=2)
    options: dict[str, Any] = {
        "language_model": folder / "language",
        "tower": TOWER,
        "captions": CaptionConfig(hidden_size=32, num_layers=1, num_heads=2, intermediate_size=64),
        "patches_per_batch": 400,
        "max_pairs": 8,
        "tokens_per_batch": 256,
        "max_length": 128,
        "contrastive": stage,
        "projectors": stage,
        "joint": stage,
    }
    return VisionLanguageSettings(**(options | changes))


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("vision")
    write_pairs(folder / "data" / "train", drawings(held_out=False, seed=0))
    write_pairs(folder / "data" / "validation", drawings(held_out=True, seed=1))
    texts = [caption for _, caption in drawings(held_out=False, seed=0)]
    language_model(folder / "language", texts, tower=TOWER, pixels=(32 * 32, 64 * 64))
    return folder


def parameters(network: torch.nn.Module) -> dict[str, torch.Tensor]:
    return dict(network.state_dict())


def test_three_stages_run_one_after_the_other(prepared: Path, capsys: pytest.CaptureFixture[str]) -> None:
    chosen = settings(prepared)
    run = contrastive_recipe(prepared, chosen)
    file = prepared / "contrastive.json"
    file.write_text(json.dumps(config_to_json(run)))
    assert main(["train", "--recipe", str(file), "--json", "--set", "tensorboard=false"]) == 0
    outcome = json.loads(capsys.readouterr().out)
    assert outcome["steps"] == 2 and outcome["validation"]["pairs"] == 32
    towers = load_contrastive(run.folder / "model")
    tokenizer = Processor.from_pretrained(run.folder / "model").tokenizer
    assert towers.config.captions.vocab_size == tokenizer.vocab_size

    before = parameters(load_network(prepared / "language"))
    projectors = train(projectors_recipe(prepared, chosen))
    after = parameters(load_network(prepared / "projectors" / "model"))
    assert all(torch.equal(after[name], tensor) for name, tensor in before.items())
    tower = {f"model.visual.{name}": tensor for name, tensor in towers.model["visual"].state_dict().items()}
    assert after.keys() == before.keys() | tower.keys()
    changed = {name for name, tensor in tower.items() if not torch.equal(after[name], tensor)}
    assert changed == {name for name in tower if name.startswith("model.visual.merger.")}
    assert projectors.network.config.image_token_id == tokenizer.token_to_id("<|image_pad|>")

    joint = train(joint_recipe(prepared, chosen))
    final = parameters(load_network(prepared / "joint" / "model"))
    moved = {name for name in after if not torch.equal(final[name], after[name])}
    assert {"model.visual.blocks.0.attn.qkv.weight", "lm_head.weight", "model.visual.merger.norm.bias"} <= moved
    assert joint.loss is not None and joint.skipped == 0


def test_recipes_are_complete_configurations(tmp_path: Path) -> None:
    for name, kind in (("contrastive", ContrastiveRun), ("projectors", TrainRun), ("joint", TrainRun)):
        run = RECIPES[f"vision-{name}"]()
        assert type(run) is kind and run.folder == Path("runs/vision-language") / name
        assert config_from_json(kind, json.loads(json.dumps(config_to_json(run)))) == run


def test_a_processor_of_another_patch_size_is_refused(prepared: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = contrastive_recipe(prepared, settings(prepared))
    file = prepared / "other.json"
    file.write_text(json.dumps(config_to_json(run)))
    changes = ["--set", "model.vision.patch_size=16", "--folder", str(prepared / "other")]
    assert main(["train", "--recipe", str(file), *changes]) == 2
    error = capsys.readouterr().err
    assert "patches of (side, frames, merge) (8, 2, 2), the vision tower reads (16, 2, 2)" in error
    assert not (prepared / "other").exists()


@pytest.mark.slow
def test_retrieval_of_molecules_from_their_depictions(tmp_path: Path) -> None:
    """Real drawings: held-out molecules are found by captions of formula, rings and groups, above chance."""
    from s1pro.science.depiction import depict
    from s1pro.science.molecules import Selection, load_molecules

    molecules = [m for m in load_molecules(Selection(), limit=1200).molecules if m.heavy_atoms <= 16]
    pairs = [
        (
            depict(m.smiles, 64),
            f"{m.rings} rings, {m.aromatic_rings} aromatic. {', '.join(sorted(m.groups))}. {m.formula}",
        )
        for m in molecules
    ]
    held_out = [number for number, m in enumerate(molecules) if hash_of(m.cluster) % 8 == 0]
    write_pairs(tmp_path / "data" / "validation", [pairs[i] for i in held_out[:100]])
    write_pairs(tmp_path / "data" / "train", [p for i, p in enumerate(pairs) if i not in set(held_out)])
    language_model(tmp_path / "language", [c for _, c in pairs], tower=TOWER, pixels=(64 * 64, 64 * 64))
    chosen = settings(
        tmp_path,
        patches_per_batch=4096,
        max_pairs=64,
        form="softmax",
        contrastive=VisionStage(steps=80, lr=4e-3, eval_every=20),
    )
    result = train_contrastive(contrastive_recipe(tmp_path, chosen))
    records = read_metrics(result.folder, "validation")
    assert records[-1]["pairs"] >= 80
    assert above_chance(records[-1], k=10), records[-1]


def hash_of(text: str) -> int:
    """The same in every process."""
    return sum(text.encode()) * 2654435761 % 2**32 >> 7
