"""What the Llama models on Segmind can do, as langchain-core's model profiles.

Slugs and context sizes: Segmind's model pages and Meta's model cards for Llama 3, 3.1 and 3.2.
Tool calling is prompted and structured output is not native, so `structured_output` stays False:
an agent must not send `response_format` beside prompted tools.
"""

from __future__ import annotations

import difflib
import re
from functools import cache
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


_VERSION = re.compile(r"llama[\s_-]*v?(\d)(?!\d*b)(?:[\s._p-]?(\d)(?![\db]))?")
_SIZE = re.compile(r"(?<![\d.])(\d{1,3})b(?![a-z])")


def _version_and_size(name: str) -> tuple[tuple[str, ...] | None, str | None]:
    version, size = _VERSION.search(name), _SIZE.search(name)
    return version and version.groups(), size and size[1]


@cache
def _slugs_by_size() -> dict[tuple[tuple[str, ...] | None, str | None], str]:
    return {_version_and_size(slug): slug for slug in PROFILES}


def nearest_slug(name: str) -> str | None:
    """Find the known slug that is meant by a name as others spell it, or with a slip in it.

    Version and size say which: `meta-llama/Llama-3.1-70B-Instruct`, `llama3.1:70b`; without a
    version, the newest: `llama-70b`. None where there is none, or where the name itself is known.
    """
    if name in PROFILES:
        return None
    last = name.strip().rstrip("/").rpartition("/")[2].lower()
    version, size = _version_and_size(last)
    of_version = [slug for known, slug in _slugs_by_size().items() if version in (None, known[0])]
    if size and (version or last.startswith("llama")):
        return next((slug for slug in of_version[::-1] if _version_and_size(slug)[1] == size), None)
    alike = 0.6 if version is None else 0.0  # `llama3.1` is like none of them, and is meant so.
    return next(iter(difflib.get_close_matches(last, of_version, n=1, cutoff=alike)), None)


def did_you_mean(name: str) -> str:
    """Give the question with which to go on after a name that is no slug, or no known one."""
    slug = nearest_slug(name)
    return "" if slug is None else f" Did you mean {slug!r}?"
