"""The section `prompts` of params.yaml, and what one method of it resolved to."""

import re
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from pydantic import BeforeValidator, Field, field_validator, model_validator

from tunediff.core.settings import Count, MethodName, Positive, Precision, Section, Seed, check_chosen, number
from tunediff.models.settings import Pretrained
from tunediff.tasks.settings import Generate

Number = Annotated[int, BeforeValidator(number), Field(ge=0)]
Money = Annotated[float, BeforeValidator(number), Field(ge=0, allow_inf_nan=False)]


class Price(Section):
    """What an endpoint takes for a million tokens, in any one currency."""

    input: Money
    output: Money


class Endpoint(Section):
    """A server with OpenAI's interface for chats: a commercial one, vLLM, Ollama, llama.cpp, `transformers serve`."""

    url: str
    """Up to the version, such as http://localhost:8000/v1."""
    model: str
    """The server's name for the model."""
    key_from: str | None = None
    """The environment variable that has the key. The key itself is in no file."""
    concurrency: Count = 8
    """Requests at the same time."""
    timeout: Positive = 60
    """Seconds for one answer."""
    retries: Number = 6
    """How often a request is repeated if the server is busy or fails; each time it waits longer."""
    options: dict[str, Any] = {"temperature": 0, "max_tokens": 64}
    """Sent with each request as they are."""
    price: Price | None = None

    @field_validator("url")
    @classmethod
    def _an_address_without_a_password(cls, url: str) -> str:
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError("expected an address such as http://localhost:8000/v1")
        if parts.username or parts.password or parts.query:
            raise ValueError("expected an address alone: a key belongs in the environment, named by `key_from`")
        return url

    @field_validator("key_from")
    @classmethod
    def _the_name_of_a_variable(cls, name: str | None) -> str | None:
        if name is not None and not re.fullmatch("[A-Z_][A-Z0-9_]*", name):  # keys such as hf_abc are names, too
            # The value is not repeated: it may be the key.
            raise ValueError("expected the name of an environment variable, in capitals, such as OPENAI_API_KEY")
        return name


class Entry(Section):
    """One way to ask."""

    shots: Number
    """Examples from the training split for each label, or in all where there are no labels; 0 is zero-shot."""
    examples: Literal["seeded", "nearest"] = "seeded"
    """The same for every text, drawn by `seed`; or those most like the text, by the embeddings of the study's model."""
    template: str = "{text}"
    """What is said of a text, an example or the one to be labelled."""
    calibration: Literal["auto", "none", "contextual", "batch"] = "auto"
    """See `calibration.PRIORS`. `auto` is the one with the best figure on validation."""
    model: str | None = None
    """Another file of conf/model/ than the section's `model`."""
    endpoint: Endpoint | None = None
    """A server that is asked, instead of a model on this machine."""

    @field_validator("template")
    @classmethod
    def _has_the_text(cls, template: str) -> str:
        if "{text}" not in template:
            raise ValueError("expected {text} in it, where the text stands")
        return template

    @model_validator(mode="after")
    def _one_kind_of_model(self) -> "Entry":
        if self.endpoint and self.model:
            raise ValueError("has `model` and `endpoint`; one of them answers: leave the other out")
        if self.endpoint and self.calibration not in ("auto", "none"):
            raise ValueError(
                f"calibration: '{self.calibration}' needs the likelihood of every label, and an endpoint gives an "
                "answer alone; leave it out"
            )
        return self


class Prompts(Section):
    """The methods that ask a language model, beside those that train."""

    model: str
    """conf/model/NAME.yaml of the language model of entries without a model or endpoint of their own."""
    validation_rows: Count
    """Validation texts that calibration and temperature are fitted to, at most."""
    methods: list[str]
    """Which of the entries are run."""
    entries: dict[MethodName, Entry]

    @model_validator(mode="after")
    def _methods_are_entries(self) -> "Prompts":
        check_chosen(self.methods, self.entries, "prompts")
        return self

    def model_of(self, method: str) -> tuple[str, str] | None:
        """The key that names the file of the method's language model, and its name; None if an endpoint is asked."""
        entry = self.entries[method]
        if entry.endpoint:
            return None
        return (f"prompts.entries.{method}.model", entry.model) if entry.model else ("prompts.model", self.model)


class Prompting(Section):
    """Everything that one method depends on, beside the prepared splits."""

    method: str
    task: str
    seed: Seed
    """Seed of the examples and of the validation texts."""
    precision: Precision
    batch_size: Count
    """Texts per forward pass."""
    select_by: str
    """Figure on validation that chooses the calibration."""
    validation_rows: Count
    instruction: str | None = None
    """`prompt` of the data file; made from the labels' names if there is none."""
    generate: Generate | None = None
    """How answers are written, if the task's are."""
    entry: Entry
    model: Pretrained | None = None
    """The language model, if no endpoint is asked."""
    model_path: Path | None = None
    """The file that `model` comes from, for messages."""
    embedder: Pretrained | None = None
    """The model whose embeddings find the nearest examples."""
    embedder_path: Path | None = None
