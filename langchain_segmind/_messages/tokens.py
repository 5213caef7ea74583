"""Counting tokens without a download: an estimate for Llama 3's tokenizer.

The tokenizer (a BPE of 128k entries) splits text by a pattern before it merges: words with their
leading space, runs of up to three digits, punctuation, line ends. Most common words are one token,
longer ones about one for every six letters; scripts without spaces come to about one a character.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from langchain_core.language_models import BaseChatModel

from langchain_segmind._messages.outgoing import text_of_wire, to_wire
from langchain_segmind._messages.prompt import render_prompt

if TYPE_CHECKING:
    from collections.abc import Sequence

    from langchain_core.messages import BaseMessage

PER_MESSAGE = 4
"""Around each message: <|start_header_id|>, the role, <|end_header_id|>, <|eot_id|>."""
PER_PROMPT = 4
"""<|begin_of_text|> and the header of the answer."""
LETTERS_PER_TOKEN = 6

_PIECE = re.compile(r"[A-Za-z]+|\d{1,3}|\s*\n\s*|[^\S\n]{2,}|[^\sA-Za-z\d]")


def estimate_tokens(text: str) -> int:
    """Estimate how many tokens Llama 3 makes of a text; on the high side, as a budget wants it."""
    return sum(
        -(-len(piece) // LETTERS_PER_TOKEN) if piece[0].isascii() and piece[0].isalpha() else 1
        for piece in _PIECE.findall(text)
    )


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
