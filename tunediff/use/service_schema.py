"""What the service is sent and answers, and what it says of a request that is wrong."""

from functools import reduce
from operator import or_
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Discriminator, Field, Tag

from tunediff.use.of_task import BY_TASK
from tunediff.use.service_guard import MAX_BODY

MAX_TEXTS = 256  # texts of a request
MAX_LENGTH = 10_000  # characters of a text
MAX_WAITING = 1024  # texts of all requests that wait


# --- what is sent

ONE, MANY = "(one)", "(many)"
Text = Annotated[str, Field(max_length=MAX_LENGTH, pattern=r"\S")]
Texts = Annotated[list[Text], Field(min_length=1, max_length=MAX_TEXTS)]


class Strict(BaseModel):
    model_config = ConfigDict(extra="forbid")


def request_bodies(names: list[str]) -> tuple[type[Strict], type[Strict]]:
    """The bodies of `/predict` and `/explain` where models have these `names`; the first is the default."""
    Name = Literal[tuple(names)]

    class PredictBody(Strict):
        texts: Annotated[
            Annotated[Text, Tag(ONE)] | Annotated[Texts, Tag(MANY)],
            Discriminator(lambda value: ONE if isinstance(value, str) else MANY),
        ] = Field(description="One text or a list of them", examples=[["Acme beats estimates", "Guidance was cut"]])
        model: Name = names[0]
        compare: bool = Field(False, description="Answer with the original, untrained model as well", strict=True)

    class ExplainBody(Strict):
        text: Text = Field(examples=["Acme beats estimates"])
        model: Name = names[0]

    return PredictBody, ExplainBody


# --- what is answered


Answer = reduce(or_, (task.Answer for task in BY_TASK.values() if hasattr(task, "Answer")))  # those that it serves


class Predictions(BaseModel):
    model: str
    answers: list[Answer] = Field(description="One for each text")
    originals: list[Answer] | None = Field(
        None, description="The untrained model's, where `compare` asks for them and it could be loaded"
    )


class Model(BaseModel):
    name: str
    task: str
    labels: list[str]
    original: bool = Field(description="Whether the untrained model can be compared with")


class Models(BaseModel):
    models: list[Model] = Field(description="The first answers where a request names none")
    max_texts: int
    max_length: int


class Health(BaseModel):
    status: Literal["ok"]


# --- what is refused


class Problem(BaseModel):
    detail: str = Field(description="What is wrong, and where")


REASONS = {
    400: "The body is not JSON, or its length is given twice",
    408: "The body did not come in time",
    413: f"The body has more than {MAX_BODY} bytes",
    421: "The header Host names no address of this service",
    422: "A value is not what it should be",
    429: f"More than {MAX_WAITING} texts would wait",
    503: "Too many requests at a time, or the service stops",
}


def problems(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """The answers of these statuses, as FastAPI describes them in a route's `responses`."""
    return {status: {"model": Problem, "description": REASONS[status]} for status in statuses}


def explain_errors(errors: list[dict[str, Any]]) -> tuple[int, str]:
    """A status and a reason, without the values, which may be long, or what no JSON can hold."""
    first = errors[0]
    if first["type"] == "json_invalid":
        return 400, f"the body is not JSON: {first['ctx']['error']} at character {first['loc'][-1]}"
    if first["loc"] == ("body",) and first["type"] in ("missing", "model_attributes_type"):
        return 422, "expected a JSON object, with the header Content-Type: application/json"
    reasons = []
    for error in errors[:3]:
        place = ".".join(str(part)[:50] for part in error["loc"][1:] if part not in (ONE, MANY)) or "the body"
        reasons.append(f"{place}: {'empty' if error['type'] == 'string_pattern_mismatch' else error['msg']}")
    return 422, "; ".join(reasons)
