"""A pytest plugin: the chat models of a partner package become `ChatSegmindLlama`.

So its own edition of LangChain's standard suite, with what it switches on and how it calls, is run
on ours. The answers are those of tests/integration/scripted_llama.py, which the standard suite of
this repository has, too: rules in place of a model.
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from langchain_core.language_models import BaseChatModel

from compat.segmind import answer_with
from langchain_segmind import ChatSegmindLlama

if TYPE_CHECKING:
    import pytest

RULES = Path(__file__).parent.parent / "tests" / "integration" / "scripted_llama.py"
OF_THE_PARTNER = {"model", "model_name", "api_key", "base_url", "rate_limiter"}
"""Which of its models is asked, where and how fast; all else that we have, too, is taken."""


class PartnerModel(ChatSegmindLlama):
    """Takes what a partner's model is made with."""

    def __init__(self, **given: Any) -> None:
        """Leave out what only the partner has."""
        known = ChatSegmindLlama.model_fields.keys() - OF_THE_PARTNER
        super().__init__(**{name: value for name, value in given.items() if name in known})


def pytest_addoption(parser: pytest.Parser) -> None:
    """Take the package's name."""
    parser.addoption("--partner", required=True, help="the module whose chat models are replaced")


def pytest_configure(config: pytest.Config) -> None:
    """Replace its models, and answer them."""
    patch = answer_with(_rules(), config)
    package = importlib.import_module(config.getoption("--partner"))
    for name in package.__all__:
        kind = getattr(package, name)
        if isinstance(kind, type) and issubclass(kind, BaseChatModel):
            ours = type(name, (PartnerModel,), {"__module__": kind.__module__})
            patch.setattr(package, name, ours)
            patch.setattr(sys.modules[kind.__module__], name, ours)


def _rules() -> Any:
    """Read the rules; suites have packages of that name themselves."""
    spec = importlib.util.spec_from_file_location("scripted_llama", RULES)
    if spec is None or spec.loader is None:
        raise FileNotFoundError(RULES)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.answer
