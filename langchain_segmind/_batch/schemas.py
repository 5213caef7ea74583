"""The schema that answers have to fit: where it comes from, and whether one does."""

from __future__ import annotations

import json
import pkgutil
import sys
from dataclasses import is_dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, is_typeddict

from langchain_core.exceptions import OutputParserException
from langchain_core.utils.pydantic import is_basemodel_subclass

from langchain_segmind._batch.results import SchemaMismatchError

if TYPE_CHECKING:
    from langchain_core.outputs import ChatResult

    from langchain_segmind._messages.structured_output import StructuredOutputParser
    from langchain_segmind.chat_models import ChatSegmindLlama


_SCHEMA_KINDS = is_basemodel_subclass, is_typeddict, is_dataclass
"""What a class has to be; of any other, the arguments of its constructor would be the schema."""


class AnswerSchema:
    """A schema, as a call asks for it and as an answer is checked against it."""

    def __init__(self, llm: ChatSegmindLlama, schema: dict[str, Any] | type) -> None:
        """Take what `with_structured_output` makes of a schema.

        Raises:
            ValueError: It is none.
        """
        chain: Any = llm.with_structured_output(schema)
        self.options = {"response_format": chain.first.kwargs["response_format"]}
        self._parser: StructuredOutputParser = chain.last

    def read(self, result: ChatResult, request_id: str | None) -> Any:
        """Give the object of an answer.

        Raises:
            SchemaMismatchError: There is none, or it does not fit.
        """
        try:
            return self._parser.read_fit(result.generations[0])
        except OutputParserException as error:
            why = str(error).partition("\nThe reply was:")[0]
            raise SchemaMismatchError(
                f"{why}. It was paid for, and its text is kept.", request_id=request_id
            ) from None


def load_schema(name: str) -> dict[str, Any] | type:
    """Load `module:Class`, or a file with a JSON schema of an object.

    Raises:
        ValueError: There is no such thing.
    """
    path = Path(name)
    if ":" in name and not path.exists():
        return _load_class(name)
    try:
        schema = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError) as error:
        why = getattr(error, "strerror", None) or error
        raise ValueError(f"--schema {name} cannot be read: {why}") from None
    from jsonschema import Draft202012Validator, SchemaError

    try:
        Draft202012Validator.check_schema(schema)
    except SchemaError as error:
        raise ValueError(f"--schema {name} is no JSON schema: {error.message}") from None
    if not isinstance(schema, dict) or schema.get("type", "object") != "object":
        raise ValueError(f"--schema {name} has to be of an object: an answer is one JSON object")
    return {"title": path.stem, "type": "object", **schema}


def _load_class(name: str) -> type:
    if "" not in sys.path:
        sys.path.insert(0, "")  # A script's own folder would be there instead of the current one.
    try:
        found: Any = pkgutil.resolve_name(name)
    except (ImportError, AttributeError, ValueError) as error:
        raise ValueError(f"--schema {name} cannot be imported: {error}") from None
    if not (isinstance(found, type) and any(is_one(found) for is_one in _SCHEMA_KINDS)):
        raise ValueError(f"--schema {name} is no pydantic model")
    return found
