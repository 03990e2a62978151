"""The model card of an exported folder: the trained model's, with how the exported one is used."""

import re
from pathlib import Path

from huggingface_hub import ModelCard

from tunediff.core.files import read_json
from tunediff.use.classifier_onnx import FP32, INT8

USE = """## How to use

Exported from `{trained}`.
{transformers}
`{fp32}` and `{int8}`, the same with weights of 8 bits, are for ONNX Runtime, which needs no PyTorch. In the
project that exported them, this asks the second one:

```sh
python -m stages.predict --model {exported} "A text to label"
```

Its probabilities come from logits divided by {temperature}, the temperature fitted on validation, which
`config.json` has under `tunediff`.

"""
TRANSFORMERS = """
```python
from transformers import pipeline

classify = pipeline("{pipeline}", "{exported}")  # or its id on the Hub
{call}
```

Its scores are not calibrated.
"""
CALL = 'print(classify("A text to label", truncation=True))'


def write_card(folder: Path, trained: Path, exported: Path, loadable: bool, pipeline: str) -> None:
    """Let the trained model's card, which `folder` has, say how the exported one is used, which will stand there."""
    card = ModelCard.load(folder / "README.md")
    card.data.library_name = "transformers" if loadable else "onnx"
    if card.data.base_model:
        card.data.base_model_relation = "finetune"
    call = re.search(r"^print\(classify\(.*$", card.text, re.MULTILINE)  # none, where the trained one is not loadable
    told = {"exported": exported.as_posix(), "pipeline": pipeline, "call": call[0] if call else CALL}
    use = USE.format(
        trained=trained.as_posix(),
        exported=exported.as_posix(),
        transformers=TRANSFORMERS.format(**told) if loadable else "",
        fp32=FP32,
        int8=INT8,
        temperature=read_json(folder / "config.json")["tunediff"]["temperature"],
    )
    before, after = card.text.index("## How to use\n"), card.text.index("## Training data\n")
    card.text = card.text[:before] + use + card.text[after:]
    card.save(folder / "README.md")
