"""The models that are known by name."""

from __future__ import annotations

from langchain_segmind._messages.profiles import PROFILES
from langchain_segmind.gateway.settings import TEXT_SLUGS, VISION_SLUGS


def test_the_gateway_serves_the_models_that_have_a_profile() -> None:
    """It keeps a list of its own, as the real one does; the two agree."""
    assert {slug for slug, profile in PROFILES.items() if profile["image_inputs"]} == VISION_SLUGS
    assert PROFILES.keys() == TEXT_SLUGS | VISION_SLUGS
