from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from langchain_segmind import ChatSegmindLlama, SegmindInvalidInputError
from langchain_segmind._messages.parameters import (
    CallParameters,
    encode_body,
    pass_on_unknown,
)

PARAMETERS = CallParameters(ChatSegmindLlama.model_fields)


@pytest.mark.parametrize(
    "wrong",
    [
        {"temperature": -0.1},
        {"temperature": 2.1},
        {"temperature": float("nan")},
        {"top_p": 0},
        {"top_p": 1.1},
        {"max_tokens": 0},
        {"max_tokens": 1.5},
        {"seed": "x"},
        {"stop": [""]},
        {"stop": 5},
        {"model": "../x"},
        {"model": ""},
        {"model": None},
    ],
)
def test_an_override_out_of_range_is_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(SegmindInvalidInputError, match="Nothing was sent"):
        PARAMETERS.check(wrong)


@pytest.mark.parametrize("model", ["SG_0123456789abcdef", "SG_0123 4567"])
def test_a_key_in_the_place_of_the_model_is_not_repeated(model: str) -> None:
    """It would become part of a URL, which servers log."""
    with pytest.raises(SegmindInvalidInputError, match="whose place is api_key") as caught:
        PARAMETERS.check({"model": model})
    assert "0123" not in str(caught.value)


def test_overrides_are_brought_into_one_form() -> None:
    given_ones = {"stop": "END", "temperature": None, "top_k": 4}
    assert PARAMETERS.check(given_ones) == {"stop": ["END"], "temperature": None, "top_k": 4}


@pytest.mark.parametrize(
    "name",
    ["messages", "api_key", "segmind_api_key", "base_url", "request_timeout", "extra_headers"],
)
def test_what_must_not_travel_in_a_body_is_refused(name: str) -> None:
    with pytest.raises(SegmindInvalidInputError, match="cannot be passed on"):
        PARAMETERS.check({name: "x", "top_k": 4})


def test_an_unknown_parameter_is_passed_on_with_a_warning() -> None:
    with pytest.warns(UserWarning, match="the body of every call"):
        values = pass_on_unknown({"top_k": 1, "seed": 2}, ["temperature", "top_p", "seed"])
    assert values == {"seed": 2, "model_kwargs": {"top_k": 1}}


def test_a_misspelt_secret_is_refused() -> None:
    with pytest.raises(TypeError, match="did you mean 'api_key'"):
        pass_on_unknown({"apikey": "SG_0"}, ["api_key", "seed"])


@pytest.mark.parametrize(
    ("value", "why"),
    [(float("nan"), "JSON"), ({1, 2}, "JSON"), ("\ud800", "surrogate"), (float("inf"), "JSON")],
)
def test_what_json_has_no_form_for_is_refused(value: object, why: str) -> None:
    with pytest.raises(SegmindInvalidInputError, match=why):
        encode_body({"x": value})


def test_a_body_is_compact_utf_8() -> None:
    assert encode_body({"a": "ü", "b": [1]}) == '{"a":"ü","b":[1]}'.encode()


MISSPELT = {
    "api_key": ["apikey", "apiKey", "API_KEY", "api-key", "segmind_key", "openai_api_key", "token"],
    "base_url": ["baseUrl", "base_uri", "openai_api_base", "endpoint"],
    "timeout": ["timeouts", "time_out", "request_timeouts"],
    "max_retries": ["max_retires", "maxRetries", "max_retry", "retries"],
    "retry_unknown_outcome": ["retry_unkown_outcome"],
    "queue_timeout": ["queue_timeouts"],
    "poll_interval": ["polling_interval"],
    "http_client": ["httpclient", "client", "proxies"],
    "http_async_client": ["async_client", "http_async_clients"],
    "min_credits": ["min_credit"],
    "journal": ["jornal"],
    "rate_limiter": ["rate_limit"],
    "extra_headers": ["extra_header"],
}


@pytest.mark.parametrize(
    ("meant", "name"), [(meant, name) for meant, names in MISSPELT.items() for name in names]
)
def test_a_misspelt_setting_lands_in_no_body(name: str, meant: str) -> None:
    settings: dict[str, Any] = {"api_key": "SG_0", name: "x"}
    with pytest.raises(SegmindInvalidInputError, match=f"did you mean '{meant}'"):
        PARAMETERS.check({name: "x"})
    with pytest.raises(TypeError, match=f"did you mean '{meant}'"):
        ChatSegmindLlama(**settings)
    with pytest.raises(ValidationError, match=f"did you mean '{meant}'"):
        ChatSegmindLlama(api_key="SG_0", model_kwargs={name: "x"})


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("temprature", "temperature"),
        ("maxTokens", "max_tokens"),
        ("max_token", "max_tokens"),
        ("topP", "top_p"),
        ("stopSequences", "stop"),
        ("models", "model"),
        ("idempotencyKey", "idempotency_key"),
        ("tool_choices", "tool_choice"),
    ],
)
def test_a_misspelt_parameter_of_a_call_is_refused(name: str, meant: str) -> None:
    with pytest.raises(SegmindInvalidInputError, match=f"did you mean '{meant}'.*Nothing was sent"):
        PARAMETERS.check({name: 1})
    with pytest.raises(TypeError, match=f"did you mean '{meant}'"):
        ChatSegmindLlama(api_key="SG_0", **{name: 1})  # type: ignore[arg-type]


TAKEN_BY_MODELS = """
n top_k min_p typical_p frequency_penalty presence_penalty repetition_penalty logit_bias
logprobs top_logprobs response_format user stream stream_options tools tool_choice functions
function_call parallel_tool_calls echo best_of length_penalty early_stopping ignore_eos
min_tokens max_new_tokens skip_special_tokens guided_json guided_regex prompt_logprobs
chat_template mirostat service_tier store modalities reasoning_effort safety_model truncate
stop_token_ids do_sample documents request_id user_id verbosity prompt_cache_key random_seed
prompt system image images eos_token strict
"""


def test_what_models_take_is_passed_on() -> None:
    """By any server that speaks OpenAI's language: these names are no misspelt ones of ours."""
    given = dict.fromkeys(TAKEN_BY_MODELS.split(), 1)
    assert PARAMETERS.check(given) == given
    ChatSegmindLlama(api_key="SG_0", model_kwargs=given)
