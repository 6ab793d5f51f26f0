"""FP8 folders of the goldens and small networks for the checkpoint tests."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from s1pro.model.config import ModelConfig, RopeConfig, RouterConfig, TextConfig
from s1pro.model.network import Network
from s1pro.model.presets import tiny


@pytest.fixture(scope="session")
def made_fp8(goldens_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[tuple[str, str], Path]:
    """Folders by (golden, scale format), written by the golden's own `make_weights.py`, which checks its hashes.

    Each also holds `model_fp32.safetensors`, the weights before quantisation.
    """
    folders = {}
    for golden in ("model_fp8_small", "model_fp8_64e"):
        for scale_format in ("fp32", "ue8m0"):
            folder = tmp_path_factory.mktemp(f"{golden}_{scale_format}")
            options = ["--ue8m0"] if scale_format == "ue8m0" else []
            command = [sys.executable, str(goldens_dir / golden / "make_weights.py"), str(folder), *options]
            output = subprocess.run(command, check=True, capture_output=True, text=True, timeout=250).stdout
            assert " 0 differ" in output
            declare_scale_format(folder, scale_format)
            folders[golden, scale_format] = folder
    return folders


@pytest.fixture
def unquantised(made_fp8: dict[tuple[str, str], Path], tmp_path: Path) -> Path:
    """`model_fp8_64e` before quantisation, as an ordinary float32 folder."""
    source, folder = made_fp8["model_fp8_64e", "fp32"], tmp_path / "unquantised"
    folder.mkdir()
    shutil.copy(source / "model_fp32.safetensors", folder / "model.safetensors")
    config = json.loads((source / "config.json").read_text())
    del config["quantization_config"]
    (folder / "config.json").write_text(json.dumps(config))
    return folder


@pytest.fixture
def small_config() -> ModelConfig:
    """One dense and one sparse layer; widths above 128 that are no multiples of it, so FP8 has partial blocks."""
    text = TextConfig(
        vocab_size=40,
        hidden_size=136,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=36,
        moe_intermediate_size=24,
        intermediate_size=48,
        mlp_only_layers=(0,),
        router=RouterConfig(num_experts=4, top_k=2, num_groups=2),
        rope=RopeConfig(theta=10000.0, max_position_embeddings=256),
    )
    return replace(tiny(), text=text)


def declare_scale_format(folder: Path, scale_format: str) -> None:
    config = json.loads((folder / "config.json").read_text())
    config["quantization_config"]["scale_fmt"] = {"fp32": "float", "ue8m0": "ue8m0"}[scale_format]
    (folder / "config.json").write_text(json.dumps(config))


@pytest.fixture
def small_network(small_config: ModelConfig) -> Network:
    return Network(small_config, seed=3)
