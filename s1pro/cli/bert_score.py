"""The model behind BERTScore: vectors of tokens out of a folder of weights, through transformers.

The arithmetic is in `tasks/benchmarks/bert_score.py`. A vector is the output of a layer (1 is the first after the
embeddings), so later layers are cut off. Nothing is downloaded: the folder holds a tokenizer and an encoder.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from s1pro.base.errors import InputError
from s1pro.tasks.benchmarks.bert_score import Vectors, greedy_f

LAYER = 14
"""SciReasoner's, of roberta-large."""
_WITH_BLANK = ("roberta", "gpt2", "bart", "longformer", "deberta")
"""Families whose tokens know whether a blank stands before them; the first word gets one."""


class BertScore:
    """Similarity of two texts.

    Args:
        folder: tokenizer and encoder in the layout of transformers.
        layer: whose output the vectors are.

    Raises:
        InputError: no such folder, no encoder in it, or not so many layers.
    """

    def __init__(self, folder: Path, layer: int = LAYER) -> None:
        from transformers import AutoConfig, AutoModel, AutoTokenizer

        try:
            config: Any = AutoConfig.from_pretrained(folder, local_files_only=True)
            blank = {"add_prefix_space": True} if config.model_type in _WITH_BLANK else {}
            self._tokenizer: Any = AutoTokenizer.from_pretrained(folder, local_files_only=True, **blank)
            self._model: Any = AutoModel.from_pretrained(folder, local_files_only=True)
        except (OSError, ValueError) as error:
            raise InputError(f"--bert-score {folder}: no tokenizer and encoder there ({error})") from error
        layers = int(getattr(config, "num_hidden_layers", 0))
        if not 1 <= layer <= layers:
            raise InputError(f"--bert-score-layer {layer}: the model in {folder} has the layers 1 to {layers}")
        self.layer = layer
        self._longest = min(int(self._tokenizer.model_max_length), int(config.max_position_embeddings) - 2)
        self._model.eval()

    def __call__(self, reference: str, hypothesis: str) -> float:
        return greedy_f(self.vectors(reference), self.vectors(hypothesis))

    def vectors(self, text: str) -> Vectors:
        """See `Vectors`; long texts are cut at their end."""
        import torch

        ids = self._tokenizer(text.strip(), truncation=True, max_length=self._longest)["input_ids"]
        with torch.inference_mode():
            found = self._model(torch.tensor([ids]), output_hidden_states=True).hidden_states[self.layer][0]
        around = {self._tokenizer.cls_token_id, self._tokenizer.sep_token_id}
        return found.float().numpy(), np.array([token not in around for token in ids])
