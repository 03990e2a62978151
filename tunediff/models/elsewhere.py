"""What training a model costs it elsewhere: its perplexity on texts that no data set here is like.

The texts were written for this project and never change, so that figures of different runs can be compared.
"""

from typing import TYPE_CHECKING

import numpy as np
import torch

from tunediff.models.inference import device, halves

if TYPE_CHECKING:
    from peft import PeftModel
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

TEXTS = (
    "To make a simple soup, cut two onions and a carrot into small pieces and fry them gently in butter. Add a "
    "litre of water and a handful of lentils, and let everything cook until the lentils are soft. Salt it only at "
    "the end.",
    "When the ferry left the harbour, my sister stood at the rail and waved until we could not see the lighthouse "
    "any more. Then she sat down beside me, opened her bag, and took out the letter that she had not dared to "
    "read.",
    "Water expands when it freezes. That is why ice floats, and why a bottle that is left outside on a winter "
    "night may burst. Most other liquids do the opposite: they take up less room as they become solid.",
    "The bridge was built in the twelfth century by monks, who took a toll from every cart. In a flood two of its "
    "five arches fell, and for a hundred years travellers had to cross the river in a small boat.",
    "Dear Maria, thank you for the plants. The tomatoes have settled in well by the south wall, but something "
    "eats the lettuce at night, and I suspect the neighbour's rabbit. Come and see us in August, when the plums "
    "are ripe.",
    "A function that calls itself must have a case in which it stops. If it has none, each call waits for the "
    "next one, until the computer has no more room to remember them all and the program ends with an error.",
    "The two teams had met only once before, on a wet pitch, without a goal. This time the home side scored after "
    "nine minutes, from a corner that nobody cleared, and spent the rest of the afternoon defending.",
    '"You cannot keep him here," said the old woman, and put the cage on the table. "A bird that has seen the sea '
    'will not sing in a kitchen." The boy said nothing. He had already opened the little door.',
    "Our bodies have a clock of their own. It is set by light, mostly in the morning, and it decides when we grow "
    "tired. People who work at night often sleep badly, because their clock and their alarm do not agree.",
    "Take the second street on the left after the church, and go on until you see a yellow house. Ring twice. If "
    "nobody opens, the key is under the third flowerpot, and the dog is friendly once he knows your voice.",
)


def perplexity(model: "PreTrainedModel | PeftModel", tokenizer: "PreTrainedTokenizerBase", precision: str) -> float:
    """Of all tokens of `TEXTS` but each one's first, by a causal language model."""
    place = device()
    model.to(place).eval()
    total, tokens = 0.0, 0
    with torch.inference_mode(), halves(precision):
        for text in TEXTS:
            ids = tokenizer(text, return_token_type_ids=False, return_tensors="pt").to(place)["input_ids"]
            logits = model(input_ids=ids, attention_mask=torch.ones_like(ids)).logits
            foretold = logits[0, :-1].float()
            total += torch.nn.functional.cross_entropy(foretold, ids[0, 1:], reduction="sum").item()
            tokens += ids.shape[1] - 1
    return float(np.exp(min(total / tokens, 700)))
