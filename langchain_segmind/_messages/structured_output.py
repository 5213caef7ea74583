"""Structured output: a schema sent and said, and the reply found, validated and repaired."""

from __future__ import annotations

import json
import re
from contextlib import suppress
from dataclasses import replace
from functools import cached_property
from operator import itemgetter
from typing import TYPE_CHECKING, Any, Literal

from langchain_core.exceptions import OutputParserException
from langchain_core.messages import AIMessage, HumanMessage
from langchain_core.output_parsers import BaseGenerationOutputParser
from langchain_core.outputs import ChatGeneration, Generation
from langchain_core.runnables import Runnable, RunnableLambda, RunnableMap, RunnablePassthrough
from langchain_core.utils.function_calling import convert_to_json_schema, convert_to_openai_tool
from langchain_core.utils.pydantic import is_basemodel_subclass

from langchain_segmind._messages.outgoing import to_messages
from langchain_segmind._tool_calling.coercion import fit_arguments
from langchain_segmind._tool_calling.literals import holds_call, read_objects
from langchain_segmind._tool_calling.schema import check_schema, is_reference, without_borrowed_docs
from langchain_segmind._tool_calling.shapes import ToolRequest, forced_request, requests_in
from langchain_segmind._tool_calling.toolset import ParsedReply, ToolSet

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Sequence

    from langchain_core.language_models import BaseChatModel, LanguageModelInput
    from langchain_core.runnables import RunnableConfig

Method = Literal["json_schema", "function_calling", "json_mode"]


def structured_chain(
    llm: BaseChatModel,
    schema: dict[str, Any] | type,
    method: Method,
    *,
    include_raw: bool,
    strict: bool | None,
    max_repairs: int,
    options: dict[str, Any],
) -> Runnable[LanguageModelInput, Any]:
    """Build the chain from a prompt to an object of the schema.

    Raises:
        ValueError: The schema, the method or the number of repairs cannot be used.
    """
    if max_repairs < 0:
        raise ValueError(f"max_repairs={max_repairs} must be 0 or more")
    check_schema(_json_schema(schema), "the answer")
    asked = _bind_schema(llm, schema, method, strict=strict, options=options)
    parser = StructuredOutputParser(form=schema, method=method)
    if max_repairs:
        asked = _with_repairs(asked, parser, max_repairs, options.get("idempotency_key"))
    if not include_raw:
        return asked | parser
    parsed = RunnablePassthrough.assign(
        parsed=itemgetter("raw") | parser, parsing_error=lambda _: None
    )
    failed = RunnablePassthrough.assign(parsed=lambda _: None)
    raw = RunnableMap(raw=RunnablePassthrough())  # Behind the model: a map takes no options.
    return asked | raw | parsed.with_fallbacks([failed], exception_key="parsing_error")


def _bind_schema(
    llm: BaseChatModel,
    schema: dict[str, Any] | type,
    method: Method,
    *,
    strict: bool | None,
    options: dict[str, Any],
) -> Runnable[LanguageModelInput, AIMessage]:
    """Bind to the model what makes it answer in the form."""
    traced = {"kwargs": {"method": method, "strict": strict}, "schema": schema}
    options = {**options, "ls_structured_output_format": traced}
    match method:
        case "json_schema":
            form = FormOfChain(schema_format(schema, strict=strict))
            return llm.bind(response_format=form, **options)
        case "json_mode":
            return llm.bind(response_format={"type": "json_object"}, **options)
        case "function_calling":
            return llm.bind_tools(
                [schema],
                tool_choice=_name_of(schema),
                strict=strict,
                parallel_tool_calls=False,
                **options,
            )
        case _:
            raise ValueError(
                f"method={method!r} is unknown: use json_schema, function_calling or json_mode"
            )


class FormOfChain(dict[str, Any]):
    """A `response_format` whose reply is read behind the model, and so stays as it was written."""


def schema_format(schema: dict[str, Any] | type, *, strict: bool | None = None) -> dict[str, Any]:
    """Give the `response_format` that asks for a schema."""
    form: dict[str, Any] = {"name": _name_of(schema), "schema": _json_schema(schema)}
    if strict is not None:
        form["strict"] = strict
    return {"type": "json_schema", "json_schema": form}


def _name_of(schema: dict[str, Any] | type) -> str:
    return str(convert_to_openai_tool(schema)["function"]["name"])


def _json_schema(schema: dict[str, Any] | type) -> dict[str, Any]:
    if isinstance(schema, dict) and is_reference(schema):
        return schema
    write = getattr(schema, "model_json_schema", None)
    if write is not None:
        return dict(write())
    return dict(without_borrowed_docs(convert_to_json_schema(schema), schema))


class StructuredOutputParser(BaseGenerationOutputParser[Any]):
    """Turns a reply into an object of the schema, or says why it is none, with its text."""

    form: Any
    """The pydantic class, TypedDict or JSON schema."""
    method: Method

    def parse_result(self, result: list[Generation], *, partial: bool = False) -> Any:
        """Read the first generation.

        Raises:
            OutputParserException: There is no JSON object in it, or none fits a pydantic class.
        """
        found, text = self._objects(result[0])
        try:
            return self._first_fit(found, text)
        except OutputParserException:
            if not found or self._is_class:
                raise
            return fit_arguments(found[0], self._schema)  # As other models' chains give it.

    def take_answer(self, parsed: ParsedReply, text: str, tools: ToolSet | None) -> ParsedReply:
        """Make the object that fits the whole content, as JSON, unless a tool is called.

        LangChain's `ProviderStrategy` reads nothing else. A reply that does not fit stays.
        """
        for call in (*parsed.tool_calls, *parsed.invalid_tool_calls):
            name = call["name"] or ""
            if (tools is not None and name in tools) or self._as_tool.find_name(name) is None:
                return parsed
        try:
            fit = self.read_fit(Generation(text=text))
        except OutputParserException:
            return parsed
        with suppress(ValueError, RecursionError):
            if json.loads(text) == fit:
                return ParsedReply(text)
        return ParsedReply(json.dumps(fit, ensure_ascii=False))

    def read_fit(self, generation: Generation) -> Any:
        """Read the object that fits, also where `parse_result` would return one that does not."""
        return self._first_fit(*self._objects(generation))

    def _objects(self, generation: Generation) -> tuple[list[dict[str, Any]], str]:
        """The objects that a reply holds, and its text."""
        text = generation.text
        message = generation.message if isinstance(generation, ChatGeneration) else None
        found = []
        if self.method == "function_calling" and isinstance(message, AIMessage):
            text = "\n".join([text, *(call["args"] or "" for call in message.invalid_tool_calls)])
            found = [call["args"] for call in message.tool_calls]
        for value in () if found else (read.value for read in read_objects(text)):
            if isinstance(value, dict) and not holds_call(value):
                found.append(self._unwrap(value))
        return found, text.strip()

    def _unwrap(self, found: dict[str, Any]) -> dict[str, Any]:
        """The arguments of a call, where the model calls the schema's name instead."""
        (name,) = self._as_tool.names
        if found.keys() <= self._as_tool.properties(name).keys():
            return found
        match requests_in(found, self._as_tool) or forced_request(found, self._as_tool):
            case ToolRequest(arguments=arguments, error=None) | [
                ToolRequest(arguments=arguments, error=None)
            ]:
                return arguments
            case _:
                return found

    @property
    def _is_class(self) -> bool:
        return isinstance(self.form, type) and is_basemodel_subclass(self.form)

    @cached_property
    def _schema(self) -> dict[str, Any]:
        return _json_schema(self.form)

    @cached_property
    def _as_tool(self) -> ToolSet:
        tools = ToolSet.compile([convert_to_openai_tool(self.form)])
        return replace(tools, forced=tools.names)

    def _first_fit(self, found: Sequence[dict[str, Any]], text: str) -> Any:
        """Build the first object that fits: a model may say the schema again before it answers."""
        reasons = []
        for candidate in found:
            try:
                return self._build(candidate)
            except (ValueError, RecursionError) as error:
                reasons.append(_describe_misfit(error))
        why = reasons[-1] if reasons else "there is no whole JSON object in it"
        raise OutputParserException(
            f"The reply does not fit the schema: {why}\nThe reply was: {text}", llm_output=text
        )

    def _build(self, found: dict[str, Any]) -> Any:
        fitted = fit_arguments(found, self._schema)
        if self._is_class:
            # pydantic.v1 classes are still about, and LangChain takes them.
            model: Any = self.form
            build = getattr(model, "model_validate", None) or model.parse_obj
            return build(fitted)
        _check_fit(fitted, self._schema)
        return fitted


def _describe_misfit(error: Exception) -> str:
    """Say in a line what does not fit: the model is told it, for money, and so is a person."""
    found: Callable[[], list[dict[str, Any]]] | None = getattr(error, "errors", None)
    if found is None:
        return str(error)
    each_with_place = ((".".join(map(str, each["loc"])), each["msg"]) for each in found())
    return "; ".join(": ".join(filter(None, each)) for each in each_with_place)


def _check_fit(value: object, schema: dict[str, Any]) -> None:
    from jsonschema import Draft202012Validator, ValidationError

    try:
        Draft202012Validator(schema).validate(value)
    except ValidationError as error:
        raise ValueError(f"{error.json_path}: {error.message}") from None
    except re.error:
        pass  # A pattern of ECMA 262 that Python does not know says nothing here.


def _with_repairs(
    asked: Runnable[LanguageModelInput, AIMessage],
    parser: StructuredOutputParser,
    max_repairs: int,
    key: object,
) -> Runnable[LanguageModelInput, AIMessage]:
    """Ask again, at most so often, while the reply does not fit; every time is a paid call."""

    def invoke(prompt: Any, config: RunnableConfig, **options: Any) -> AIMessage:
        questions = _questions(prompt, options, parser, max_repairs, key)
        question = next(questions)
        while question is not None:
            reply = asked.invoke(question[0], config, **question[1])
            question = questions.send(reply)
        return reply

    async def ainvoke(prompt: Any, config: RunnableConfig, **options: Any) -> AIMessage:
        questions = _questions(prompt, options, parser, max_repairs, key)
        question = next(questions)
        while question is not None:
            reply = await asked.ainvoke(question[0], config, **question[1])
            question = questions.send(reply)
        return reply

    return RunnableLambda(invoke, ainvoke)


def _questions(
    prompt: Any, options: dict[str, Any], parser: StructuredOutputParser, repairs: int, key: object
) -> Generator[tuple[Any, dict[str, Any]] | None, AIMessage, None]:
    """Yield what to ask, with which options, and be sent the reply; None when one is to stay."""
    reply = yield prompt, options
    key = options.get("idempotency_key", key)
    for number in range(1, repairs + 1):
        try:
            parser.read_fit(ChatGeneration(message=reply))
            break
        except OutputParserException as misfit:
            again = f"{misfit}\n\nReply again with one JSON object that fits the schema."
        prompt = [*to_messages(prompt), reply, HumanMessage(again)]
        # A repair is another call than the first, and so has an identity of its own.
        own = {} if key is None else {"idempotency_key": f"{key}/repair-{number}"}
        reply = yield prompt, {**options, **own}
    yield None
