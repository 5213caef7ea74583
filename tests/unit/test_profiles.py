"""The models that are known by name."""

from __future__ import annotations

import pytest

from langchain_segmind._messages.profiles import PROFILES, nearest_slug
from langchain_segmind.gateway.settings import TEXT_SLUGS, VISION_SLUGS


def test_the_gateway_serves_the_models_that_have_a_profile() -> None:
    """It keeps a list of its own, as the real one does; the two agree."""
    assert {slug for slug, profile in PROFILES.items() if profile["image_inputs"]} == VISION_SLUGS
    assert PROFILES.keys() == TEXT_SLUGS | VISION_SLUGS


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("llama-3.1-70b-instruct", "llama-v3p1-70b-instruct"),
        ("Llama-3.1-70B-Instruct", "llama-v3p1-70b-instruct"),
        ("meta-llama/Meta-Llama-3.1-70B-Instruct", "llama-v3p1-70b-instruct"),
        ("meta-llama/Llama-3.1-8B-Instruct-Turbo", "llama-v3p1-8b-instruct"),
        ("accounts/fireworks/models/llama-v3p1-405b-instruct", "llama-v3p1-405b-instruct"),
        ("meta.llama3-1-70b-instruct-v1:0", "llama-v3p1-70b-instruct"),
        ("us.meta.llama3-2-90b-instruct-v1:0", "llama-v3p2-90b-vision-instruct"),
        ("llama3.1:70b", "llama-v3p1-70b-instruct"),
        ("llama3.1", "llama-v3p1-8b-instruct"),
        ("llama3.2-vision:11b", "llama-v3p2-11b-vision-instruct"),
        ("llama3-70b-8192", "llama-v3-70b-instruct"),
        ("llama-70b", "llama-v3p1-70b-instruct"),
        ("Llama 8B", "llama-v3p1-8b-instruct"),
        ("llama-13b", None),
        ("llama 3.1 70b", "llama-v3p1-70b-instruct"),
        ("Llama-3.2-11B-Vision", "llama-v3p2-11b-vision-instruct"),
        ("https://www.segmind.com/models/llama-v3-8b-instruct/", "llama-v3-8b-instruct"),
        ("lama-v3p1-70b-instuct", "llama-v3p1-70b-instruct"),
        ("llama-v3p1-70-instruct", "llama-v3p1-70b-instruct"),
        ("llama-v3p1-70b-instruct", None),
        ("llama-3.3-70b-instruct", None),
        ("llama3.3", None),
        ("llama-v2-70b-chat", None),
        ("gpt-4o", None),
        ("", None),
    ],
)
def test_a_model_is_known_by_the_names_that_others_give_it(name: str, meant: str | None) -> None:
    """A version that Segmind is not known to have is no slip of one that it has."""
    assert nearest_slug(name) == meant
