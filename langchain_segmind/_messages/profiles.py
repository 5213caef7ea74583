"""What the Llama models on Segmind can do, as langchain-core's model profiles.

Slugs and context sizes: Segmind's model pages and Meta's model cards for Llama 3, 3.1 and 3.2.
Tool calling is prompted and structured output is not native, so `structured_output` stays False:
an agent must not send `response_format` beside prompted tools.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from langchain_core.language_models import ModelProfile

_SMALL_CONTEXT = 8_192
_LARGE_CONTEXT = 131_072


def _profile(name: str, context: int, *, images: bool = False) -> ModelProfile:
    return {
        "name": name,
        "open_weights": True,
        "max_input_tokens": context,
        "text_inputs": True,
        "image_inputs": images,
        "image_url_inputs": images,
        "pdf_inputs": False,
        "audio_inputs": False,
        "video_inputs": False,
        "image_tool_message": images,
        "pdf_tool_message": False,
        "text_outputs": True,
        "image_outputs": False,
        "audio_outputs": False,
        "video_outputs": False,
        "reasoning_output": False,
        "tool_calling": True,
        "tool_choice": True,
        "structured_output": False,
        "temperature": True,
    }


PROFILES: dict[str, ModelProfile] = {
    "llama-v3-8b-instruct": _profile("Llama 3 8B Instruct", _SMALL_CONTEXT),
    "llama-v3-70b-instruct": _profile("Llama 3 70B Instruct", _SMALL_CONTEXT),
    "llama-v3p1-8b-instruct": _profile("Llama 3.1 8B Instruct", _LARGE_CONTEXT),
    "llama-v3p1-70b-instruct": _profile("Llama 3.1 70B Instruct", _LARGE_CONTEXT),
    "llama-v3p1-405b-instruct": _profile("Llama 3.1 405B Instruct", _LARGE_CONTEXT),
    "llama-v3p2-11b-vision-instruct": _profile(
        "Llama 3.2 11B Vision Instruct", _LARGE_CONTEXT, images=True
    ),
    "llama-v3p2-90b-vision-instruct": _profile(
        "Llama 3.2 90B Vision Instruct", _LARGE_CONTEXT, images=True
    ),
}
"""By slug."""
