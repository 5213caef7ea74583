"""Where a secret may come to light."""

from __future__ import annotations

import pickle
import traceback
from typing import Any


def everything_told_by(error: BaseException) -> str:
    """Give all that logs, reports and pickles may show of an error."""
    told = traceback.TracebackException.from_exception(error, capture_locals=True)
    parts: list[Any] = [str(error), repr(error), error.args, vars(error), pickle.dumps(error)]
    parts += traceback.format_exception(error)
    parts += told.format(chain=True)
    return "\n".join(part if isinstance(part, str) else repr(part) for part in parts)
