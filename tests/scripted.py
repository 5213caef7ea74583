"""What a scripted Llama says."""

from __future__ import annotations

import json
from typing import Any


def call(name: str, /, **parameters: Any) -> str:
    """Write a call as Llama 3.1 was trained to."""
    return json.dumps({"name": name, "parameters": parameters}, ensure_ascii=False)
