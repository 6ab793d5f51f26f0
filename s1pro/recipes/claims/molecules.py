"""Descriptions of molecules, the text of the claims about routing and growing: a corpus, its tokenizer, batches.

Made once in the shared folder by the first two stages of the demo, for 3,000 real compounds (extra `science`). Held-out
molecules have scaffolds that training does not have. The batches of a seed are the same for all arms.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from s1pro.base.config import config_to_json
from s1pro.data.batch import PackedBatch
from s1pro.data.loader import Loader
from s1pro.data.samples import read_samples
from s1pro.data.sequence import ProcessorEncoder, fingerprint_of_processor
from s1pro.data.sources import Source, TokenStore, fingerprint_of
from s1pro.recipes.demo import stages
from s1pro.recipes.demo_training import DemoSettings
from s1pro.recipes.expansion_comparison import Data
from s1pro.recipes.stages import StageFile, run_stages
from s1pro.train.config import DataConfig
from s1pro.train.setup import build_loader, validation_batches

VOCABULARY = 1152
SETTINGS = DemoSettings(molecules=3000, questions=500, media={}, papers=0)
_CONFIG = DataConfig(tokens_per_batch=512, max_length=256)


def prepare_molecules(shared: Path, settings: DemoSettings = SETTINGS) -> Path:
    """Makes the corpus and its tokenizer, or finds them, and returns their folder.

    Raises:
        MissingExtraError: RDKit or `chemicals` is not installed.
    """
    folder = shared / "molecules"
    file = StageFile(folder / "stages.json", config_to_json(settings))
    wanted = [stage for stage in stages(folder, settings, file) if stage.name in ("data", "tokenizer")]
    run_stages(wanted, file, lambda name, record, skipped: None)
    for part in ("train", "validation"):
        _source(folder, part)
    return folder


def molecule_data(
    shared: Path, *, tokens: int = 512, held_out_batches: int = 4, calibration_batches: int = 4, base_seed: int = 1000
) -> Data:
    """Batches of `tokens` to train on by seed; larger ones for a base, for calibration, and held out."""
    folder = shared / "molecules"
    train, held_out = _source(folder, "train"), _source(folder, "validation")
    config, large = replace(_CONFIG, tokens_per_batch=tokens), replace(_CONFIG, tokens_per_batch=1024)

    def loader(seed: int) -> Loader[PackedBatch]:
        return build_loader([train], [1.0], config, seed=seed)

    calibration = build_loader([train], [1.0], large, seed=999)
    return Data(
        base=build_loader([train], [1.0], large, seed=base_seed),
        loader=loader,
        calibration=[next(calibration) for _ in range(calibration_batches)],
        held_out=held_out_of(held_out, held_out_batches),
    )


def held_out_of(source: Source, batches: int) -> Sequence[PackedBatch]:
    return validation_batches([source], replace(_CONFIG, tokens_per_batch=1024, validation_batches=batches))


def _source(folder: Path, part: str) -> Source:
    """Tokenised once, then mapped into memory."""
    from s1pro.inputs.processor import Processor

    path, tokenizer = folder / "data" / "descriptions" / f"{part}.parquet", folder / "tokenizer"
    encoder = ProcessorEncoder(Processor.from_pretrained(tokenizer), fingerprint=fingerprint_of_processor(tokenizer))
    store = folder / "tokens" / part
    return TokenStore.build("molecules", read_samples(path), encoder, folder=store, fingerprint=fingerprint_of(path))


def token_stream(shared: Path, part: str, *, seed: int) -> npt.NDArray[np.int32]:
    """All descriptions of a part one after another, in a random order."""
    source = _source(shared / "molecules", part)
    order = np.random.default_rng(seed).permutation(len(source))
    return np.concatenate([source.sequence(int(index)).token_ids for index in order])
