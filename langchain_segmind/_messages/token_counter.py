"""What LangChain asks of tokens, answered without a download."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from langchain_core.language_models import BaseChatModel

from langchain_segmind._messages.outgoing import text_of_wire, to_wire
from langchain_segmind._messages.prompt import render_prompt
from langchain_segmind._messages.tokens import PER_MESSAGE, PER_PROMPT, estimate_tokens

if TYPE_CHECKING:
    from collections.abc import Sequence

    from langchain_core.messages import BaseMessage


class TokenCounter(BaseChatModel):
    """Estimates tokens without a download, which langchain-core's own counter begins with."""

    def get_num_tokens(self, text: str) -> int:
        """Estimate the tokens of a text without a download; exact with `custom_get_token_ids`."""
        if self.custom_get_token_ids is not None:
            return len(self.custom_get_token_ids(text))
        return estimate_tokens(text)

    def get_num_tokens_from_messages(
        self, messages: Sequence[BaseMessage], tools: Sequence[Any] | None = None
    ) -> int:
        """Estimate the tokens of a prompt, with its tools, without a download."""
        wire = to_wire(messages, model="", images=True)
        given = {} if tools is None else {"tools": list(tools)}
        texts = [text_of_wire(message) for message in render_prompt(wire, given).messages]
        return PER_PROMPT + sum(PER_MESSAGE + self.get_num_tokens(text) for text in texts)
