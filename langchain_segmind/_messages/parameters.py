"""What a call may be given: ranges and forms, refused here before they cost money."""

from __future__ import annotations

import difflib
import json
import re
import warnings
from functools import lru_cache
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import AfterValidator, BeforeValidator, Field, TypeAdapter, ValidationError

from langchain_segmind._messages.profiles import did_you_mean
from langchain_segmind.exceptions import SegmindInvalidInputError

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    from pydantic.fields import FieldInfo

_NO_LETTER = re.compile(r"[^a-z0-9]")
_SLUG = re.compile(r"(?!SG_)[A-Za-z0-9][A-Za-z0-9._-]*")
PER_CALL = ("model", "temperature", "max_tokens", "top_p", "seed", "stop")
"""The fields that a call may override."""
ALIASES = {
    "max_completion_tokens": "max_tokens",
    "model_name": "model",
    "request_timeout": "timeout",
    "segmind_api_key": "api_key",
    "stop_sequences": "stop",
}
"""What other chat models call our fields."""
_OF_A_CALL = ("idempotency_key", "tool_choice", "parallel_tool_calls", "response_format")
"""Parameters of a call that are no fields."""
_NO_SETTINGS = (None, *PER_CALL, *_OF_A_CALL)
"""What a name may mean that `model_kwargs` still puts into the body of every call."""
_NEVER_IN_A_BODY = frozenset(
    ["messages", "extra_headers", "extra_query", "extra_body", "headers", "default_query"]
)
"""Parameters of other clients' calls: in a body, they would be sent to the model."""
_ELSEWHERE = {
    "api_key": r".*api(key|token|secret)|segmindkey|(access|auth|bearer)?token|authorization",
    "base_url": r".*api(base|url)|(base|server)?(url|uri|host|endpoint)",
    "max_retries": r"(max|num|n)?retr(y|ies)",
    "http_client": r"(sync)?client|prox(y|ies)|verify(ssl)?",
    "http_async_client": r"a(sync)?client",
}
"""What our settings are called in other places, without case and underscores."""
_NEAR = 0.84
"""How alike a name is to what it means, at least: `stream` is less so to `streaming`."""
_FOR_MODELS = frozenset(["max_new_tokens", "min_tokens"])
"""Parameters of other servers' models that are more alike to ours, and none of them."""


def is_slug(model: object) -> bool:
    """Tell a model slug, which becomes part of a URL, from anything else."""
    return isinstance(model, str) and _SLUG.fullmatch(model) is not None


def check_slug(slug: str) -> str:
    """Refuse what is no model slug, or an API key."""
    if is_slug(slug):
        return slug
    if slug.startswith("SG_"):
        raise SegmindInvalidInputError("that looks like an API key, whose place is api_key")
    raise SegmindInvalidInputError(
        f"{slug[:60]!r} is no model slug: letters, digits, '.', '_' and '-' only, as in the last "
        "part of the model's URL on segmind.com, for example llama-v3p1-70b-instruct."
        f"{did_you_mean(slug)}"
    )


def take_request_id(given: dict[str, Any]) -> object:
    """Take the id of the job to resume out of a call's parameters; None where none is meant."""
    if "resume" not in given:
        return None
    if not (request_id := given.pop("resume")):
        raise SegmindInvalidInputError(
            f"There is no request id to resume, but {request_id!r}. An error has none where the "
            "submit itself was not answered: whether a job runs is not known then, and a new call "
            "may be a second one to pay for. Nothing was sent."
        )
    return request_id


Seconds = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Amount = Annotated[float, Field(ge=0, allow_inf_nan=False)]
ModelSlug = Annotated[str, AfterValidator(check_slug)]
Temperature = Annotated[float, Field(ge=0, le=2, allow_inf_nan=False)]
Probability = Annotated[float, Field(gt=0, le=1, allow_inf_nan=False)]
MaxTokens = Annotated[int, Field(ge=1)]
Stop = Annotated[
    list[Annotated[str, Field(min_length=1)]],
    BeforeValidator(lambda stop: [stop] if isinstance(stop, str) else stop),
    Field(max_length=64),
]


class CallParameters:
    """What one call of a model class may be given, derived from the class's fields."""

    def __init__(self, fields: Mapping[str, FieldInfo]) -> None:
        self._known = frozenset(fields)
        self._never_in_a_body = (fields.keys() - set(PER_CALL)) | _NEVER_IN_A_BODY
        self._adapters: dict[str, TypeAdapter[Any]] = {
            name: TypeAdapter(Annotated[fields[name].annotation, fields[name]])  # type: ignore[arg-type]
            for name in PER_CALL
        }

    def of_call(
        self, model: Any, options: Mapping[str, Any], stop: Sequence[str] | None
    ) -> dict[str, Any]:
        """Give a model's own parameters, and in their place those that one call was given."""
        given = {name: getattr(model, name) for name in PER_CALL}
        if options or stop is not None:
            given |= self.check(options if stop is None else {**options, "stop": stop})
        given["model"] = given["model"] or model.model
        if not is_slug(given["model"]):
            self.check({"model": given["model"]})  # A copy or an assignment brought it.
        return given

    def check(self, given: Mapping[str, Any]) -> dict[str, Any]:
        """Check the parameters of one call as the constructor checks its own.

        Raises:
            SegmindInvalidInputError: One is out of range, or may not be sent at all.
        """
        checked = rename_aliases(given)
        self.check_names(checked)
        for name, value in checked.items():
            if name in self._adapters:
                checked[name] = self._validate(name, value)
            elif (meant := nearest_field(name, self._known)) is not None:
                raise SegmindInvalidInputError(
                    f"{name!r} is no parameter of a call: did you mean {meant!r}? Nothing was sent."
                )
        return checked

    def _validate(self, name: str, value: object) -> Any:
        try:
            return self._adapters[name].validate_python(value)
        except ValidationError as error:
            why = error.errors()[0]["msg"].removeprefix("Value error, ").rstrip(".")
            end = "" if why.endswith("?") else "."
            # What is given as a model may be a key; the reason shows it where it is none.
            shown = name if name == "model" else f"{name}={value!r}"
            raise SegmindInvalidInputError(
                f"{shown} is refused: {why}{end} Nothing was sent."
            ) from None

    def check_names(self, names: Collection[str]) -> None:
        """Refuse what must not travel in a body: what is, or nearly is, a setting of the model."""
        wrong = sorted(self._never_in_a_body.intersection(names))
        for name in names:
            if (meant := nearest_field(name, self._known)) not in _NO_SETTINGS:
                wrong.append(f"{name!r} (did you mean {meant!r}?)")
        if wrong:
            raise SegmindInvalidInputError(
                f"{', '.join(wrong)} cannot be passed on in the body of a call: set it on the "
                "model (or on llm.model_copy(update=...), or through configurable_fields). "
                "Nothing was sent."
            )


def rename_aliases(given: Mapping[str, Any]) -> dict[str, Any]:
    """Give parameters by the names of our fields; a field's own name wins."""
    renamed = {ALIASES[name]: value for name, value in given.items() if name in ALIASES}
    return renamed | {name: value for name, value in given.items() if name not in ALIASES}


@lru_cache(maxsize=512)
def nearest_field(name: str, fields: frozenset[str]) -> str | None:
    """Find the field that a name means and nearly is; None for one that is, or means, none."""
    names = {*fields, *ALIASES, *_NEVER_IN_A_BODY, *_OF_A_CALL}
    if name in names or name in _FOR_MODELS:
        return None
    plain = _NO_LETTER.sub("", name.lower())
    for field, pattern in _ELSEWHERE.items():
        if re.fullmatch(pattern, plain):
            return field
    known = {known.replace("_", ""): known for known in names}
    close = difflib.get_close_matches(plain, known, n=1, cutoff=_NEAR)
    return ALIASES.get(known[close[0]], known[close[0]]) if close else None


def pass_on_unknown(values: dict[str, Any], known: Collection[str]) -> dict[str, Any]:
    """Move parameters that have no field into `model_kwargs`, with a warning.

    Raises:
        TypeError: One looks like a misspelt field, and would say nothing in a body.
    """
    unknown = [name for name in values if name not in known]
    if not unknown:
        return values
    moved = {name: values.pop(name) for name in unknown}
    for name in unknown:
        if (meant := nearest_field(name, frozenset(known))) is not None:
            raise TypeError(
                f"{name!r} is no parameter of ChatSegmindLlama: did you mean {meant!r}?"
            )
        warnings.warn(
            f"{name!r} is no parameter of ChatSegmindLlama; it goes into model_kwargs and so into "
            "the body of every call.",
            stacklevel=6,
        )
    values["model_kwargs"] = {**moved, **(values.get("model_kwargs") or {})}
    return values


_JSON = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":"))


def encode_body(body: Mapping[str, Any]) -> bytes:
    """Encode a request body.

    Raises:
        SegmindInvalidInputError: It holds what JSON or UTF-8 has no form for.
    """
    try:
        return _JSON.encode(body).encode()
    except UnicodeEncodeError:
        raise SegmindInvalidInputError(
            "The prompt holds half a surrogate pair, which is no character: "
            "text.encode('utf-8', 'replace').decode() removes it. Nothing was sent."
        ) from None
    except (TypeError, ValueError, RecursionError) as error:
        raise SegmindInvalidInputError(
            f"The call cannot be written as JSON: {error}. Nothing was sent."
        ) from None
