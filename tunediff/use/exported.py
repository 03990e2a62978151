"""A model that `export` wrote, run by ONNX Runtime. No torch here, nor transformers, which imports it."""

from pathlib import Path

import numpy as np
import onnxruntime
from scipy.special import softmax
from tokenizers import Tokenizer

from tunediff.core.errors import UserError, reason
from tunediff.core.files import read_json
from tunediff.use.classifiers import alike

FP32, INT8 = "model.onnx", "model.int8.onnx"


class OnnxClassifier:
    """Answers texts; may be shared by threads."""

    names: list[str]
    """Of the labels, in the order of the probabilities."""
    temperature: float
    """What logits are divided by; fitted on validation."""

    def __init__(self, folder: Path, weights: str = INT8, threads: int = 0):
        """`weights` is a file in `folder`; `threads` work on one batch, 0 for one on each core.

        Raises UserError if the folder does not hold what `export` writes.
        """
        if not (folder / weights).is_file():
            raise UserError(
                f"{folder}: no exported model there (no {weights}); write one with `dvc exp run -S "
                "'export.methods=[METHOD]'`, or fetch it with `dvc pull`"
            )
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        config = read_json(folder / "config.json")
        try:
            self._session = onnxruntime.InferenceSession(
                folder / weights,
                options,
                providers=["CPUExecutionProvider"],
                # Addition and layer normalisation in one step take three times as long as in two.
                disabled_optimizers=["SkipLayerNormFusion"],
            )
            self._tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
            self._pad_id = self._tokenizer.padding["pad_id"]
        except Exception as error:  # both libraries raise whatever comes
            raise UserError(
                f"{folder}: the exported model cannot be loaded: {reason(error)}; export it again"
            ) from None
        self._tokenizer.no_padding()  # here, where texts of like length are together
        self.names = [config["id2label"][str(place)] for place in range(len(config["id2label"]))]
        self.temperature = config["tunediff"].get("temperature", 1)

    def predict(self, texts: list[str]) -> np.ndarray:
        """Probabilities, float64, shape [texts, labels]."""
        return softmax(self.logits(texts).astype(np.float64) / self.temperature, axis=-1)

    def logits(self, texts: list[str]) -> np.ndarray:
        """Float32, shape [texts, labels]; computed in groups of like length."""
        tokens = [encoding.ids for encoding in self._tokenizer.encode_batch_fast(texts)]
        result = np.empty((len(texts), len(self.names)), dtype=np.float32)
        for rows in alike(tokens):
            input_ids = np.full((len(rows), len(tokens[rows[-1]])), self._pad_id)
            attention_mask = np.zeros_like(input_ids)
            for place, row in enumerate(rows):
                input_ids[place, : len(tokens[row])] = tokens[row]
                attention_mask[place, : len(tokens[row])] = 1
            feeds = {"input_ids": input_ids, "attention_mask": attention_mask}
            (result[rows],) = self._session.run(["logits"], feeds)
        return result
