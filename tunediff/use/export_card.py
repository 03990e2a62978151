"""The model card of an exported folder: the trained model's, with how the exported one is used."""

import json
import re
from pathlib import Path

from huggingface_hub import ModelCard

from tunediff.core.files import read_json
from tunediff.use.classifier_onnx import FP32, INT8
from tunediff.use.export_gguf import FILE

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
WRITER = """## How to use

Exported from `{trained}`.
{code}{gguf}
"""
CAUSAL = """
```python
from transformers import pipeline

write = pipeline("text-generation", "{exported}")  # or its id on the Hub
messages = [{{"role": "user", "content": {asked} + "A text"}}]
print(write(messages, max_new_tokens={tokens}, do_sample=False, return_full_text=False)[0]["generated_text"])
```

A tokenizer without a chat template takes the plain prompt of `tunediff/tasks/causal.py` instead. In the project that
trained it, `python -m stages.predict` asks it as it was trained.
"""
ENCODER_DECODER = """
```python
from transformers import AutoModelForSeq2SeqLM, AutoTokenizer

here = "{exported}"  # or its id on the Hub
model = AutoModelForSeq2SeqLM.from_pretrained(here, trust_remote_code=False)
tokenizer = AutoTokenizer.from_pretrained(here, trust_remote_code=False)
inputs = tokenizer({asked} + "A text", truncation=True, return_tensors="pt")
ids = model.generate(**inputs)
print(tokenizer.decode(ids[0], skip_special_tokens=True))
```
"""
GGUF = """
`{file}`, the same with weights of 16 bits, is for llama.cpp and what is built on it. transformers reads it with
`gguf_file="{file}"`.
"""
CALL = 'print(classify("A text to label", truncation=True))'


def write_card(folder: Path, trained: Path, exported: Path, loadable: bool, pipeline: str) -> None:
    """Let the trained model's card, which `folder` has, say how the exported one is used, which will stand there."""
    card = ModelCard.load(folder / "README.md")
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
    save(card, use, "transformers" if loadable else "onnx", folder)


def write_writers_card(folder: Path, trained: Path, exported: Path, gguf: bool) -> None:
    """The same of a model that writes; `gguf` says whether it has such a file."""
    config = read_json(folder / "config.json")
    origin = config["tunediff"]
    code, between = (ENCODER_DECODER, " ") if config.get("is_encoder_decoder") else (CAUSAL, "\n\n")
    code = code.format(
        exported=exported.as_posix(),
        asked=json.dumps("".join(f"{part}{between}" for part in [origin["instruction"]] if part)),
        tokens=origin["generate"]["max_new_tokens"],
    )
    use = WRITER.format(trained=trained.as_posix(), code=code, gguf=GGUF.format(file=FILE) if gguf else "")
    save(ModelCard.load(folder / "README.md"), use, "transformers", folder)


def save(card: ModelCard, use: str, library: str, folder: Path) -> None:
    """Write the card to `folder` with `use` in the place of how the trained model is used."""
    card.data.library_name = library
    if card.data.base_model:
        card.data.base_model_relation = "finetune"
    before, after = card.text.index("## How to use\n"), card.text.index("## Training data\n")
    card.text = card.text[:before] + use + card.text[after:]
    card.save(folder / "README.md")
