"""An exported model, run by ONNX Runtime. It needs no torch, nor transformers, which imports torch."""

import os
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import onnxruntime
from tokenizers import Tokenizer

from tunediff.core.errors import UserError, reason
from tunediff.core.files import read_json
from tunediff.models.trained_config import check_trained
from tunediff.tasks import TASKS
from tunediff.tasks.interface import label_names
from tunediff.use.classifier import BatchedClassifier

FP32 = "model.onnx"
INT8 = "model.int8.onnx"


class OnnxClassifier(BatchedClassifier):
    """A model that the stage `export` wrote. Threads may share it."""

    def __init__(self, folder: Path, weights: str = INT8, threads: int = 0):
        """`weights` is a file in `folder`; `threads` compute one batch, 0 for one on each core.

        Raises UserError if the folder does not hold what `export` writes.
        """
        if not (folder / weights).is_file():
            raise UserError(
                f"{folder}: no exported model there (no {weights}); write one with `dvc exp run -S "
                "'export.methods=[METHOD]'`, or fetch it with `dvc pull`"
            )
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        if os.environ.get("OMP_WAIT_POLICY") == "PASSIVE":  # as in `stages`: others need the processors
            options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        config = read_json(folder / "config.json")
        try:
            names = dict(enumerate(label_names(config["id2label"])))
            origin = config["tunediff"]
            self._session = onnxruntime.InferenceSession(
                folder / weights,
                options,
                providers=["CPUExecutionProvider"],
                # Addition and layer normalisation in one step take three times as long as in two.
                disabled_optimizers=["SkipLayerNormFusion"],
            )
            self._tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
            pad_id = self._tokenizer.padding["pad_id"]
            longest = self._tokenizer.truncation["max_length"]
        except Exception as error:  # both libraries raise whatever comes
            raise UserError(
                f"{folder}: the exported model cannot be loaded: {reason(error)}; export it again"
            ) from None
        check_trained(origin, folder / "config.json")
        self._tokenizer.no_padding()  # `logits` pads each batch
        task = TASKS[origin.get("task", "classification")].of_config(SimpleNamespace(id2label=names))
        super().__init__(task, origin, pad_id, longest)

    def _encoding(self, text: str) -> tuple[list[int], list[tuple[int, int]], list[int]]:
        self._tokenizer.no_truncation()
        made = self._tokenizer.encode(text)
        return made.ids, made.offsets, made.special_tokens_mask

    def _token_ids(self, texts: list[str]) -> list[list[int]]:
        return [encoding.ids for encoding in self._tokenizer.encode_batch_fast(texts)]

    def _compute(self, input_ids: np.ndarray, attention_mask: np.ndarray) -> np.ndarray:
        feeds = {"input_ids": input_ids, "attention_mask": attention_mask}
        (logits,) = self._session.run(["logits"], feeds)
        return logits
