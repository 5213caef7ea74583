"""An engine that answers what a function says, for tests and demos."""

from __future__ import annotations

import inspect
from collections import deque
from typing import TYPE_CHECKING, Any

from langchain_segmind.gateway.engines.base import Engine, EngineError, chat_completion
from langchain_segmind.gateway.validation import prompt_size

if TYPE_CHECKING:
    from collections.abc import Callable


class ScriptedEngine(Engine):
    """Answers with a text, or with any JSON value in place of a completion.

    The function gets the body, may be async, and may raise `EngineError`.

    Example:
        ```python
        from langchain_segmind import ChatSegmindLlama
        from langchain_segmind.gateway import ScriptedEngine, serve

        engine = ScriptedEngine(lambda body: f"{len(body['messages'])} messages")
        with serve(engine=engine) as segmind:
            llm = ChatSegmindLlama(api_key=segmind.api_key, base_url=segmind.url)
            print(llm.invoke("Hello").text)  # 1 messages
            print(engine.bodies[0]["messages"])
        ```
    """

    name = "scripted"

    def __init__(self, answer: Callable[[dict[str, Any]], Any]) -> None:
        self._answer = answer
        self.bodies: list[dict[str, Any]] = []
        """The bodies that were answered, oldest first."""

    async def complete(self, body: dict[str, Any]) -> Any:
        """Ask the function."""
        self.bodies.append(body)
        answer = self._answer(body)
        if inspect.isawaitable(answer):
            answer = await answer
        if not isinstance(answer, str):
            return answer
        words = max(len(answer.split()), 1)
        return chat_completion(body["model"], [(answer, "stop")], prompt_size(body), words)


class Script(ScriptedEngine):
    """Answers with replies that are given one after the other.

    Example:
        ```python
        from langchain_segmind import ChatSegmindLlama
        from langchain_segmind.gateway import Script, serve

        script = Script()
        with serve(engine=script) as segmind:
            llm = ChatSegmindLlama(api_key=segmind.api_key, base_url=segmind.url)
            script.will_say("Paris", "Rome")
            print(llm.invoke("France?").text, llm.invoke("Italy?").text)  # Paris Rome
        ```
    """

    def __init__(self) -> None:
        super().__init__(self._next)
        self._replies: deque[Any] = deque()

    def will_say(self, *replies: Any) -> None:
        """Add replies: texts, or JSON values in place of a completion.

        A call for which none is left is refused with 400, which the model does not send again.
        """
        self._replies.extend(replies)

    def _next(self, _: dict[str, Any]) -> Any:
        if not self._replies:
            raise EngineError(400, "The script has no reply left: will_say takes one for each call")
        return self._replies.popleft()
