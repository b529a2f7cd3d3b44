"""Training rows: conversations as tokens in the serving chat template, and which of the tokens are learned.

A row holds what the server saw and what the model answered. Where an assistant's turn stands is found by
rendering the conversation up to it, once as a question and once with the answer: the difference, up to the token that
ends the turn, is what the model wrote, whatever the template. Where history is rewritten (the template drops the
thoughts of earlier turns, or the agent never sent them again) there is more than one row, each with the turns that read
in it as they read when they were written.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from jinja2 import TemplateError

from sleepy_coder.serve.stops import stop_tokens
from sleepy_coder.types import Example, Message, Recipe

Span = tuple[int, int]

_THOUGHT: Final = re.compile("</?think>")
"""Around thoughts within a text. Templates put blank space of their own there, and a prompt may hold the first one."""
_NOT_SHOWN: Final = "the chat template does not show what the model wrote"


@dataclass(frozen=True, slots=True)
class EncodedRow:
    """Token ids of a conversation; the loss covers the `turns` in it, one at least.

    `example` numbers the example of the mix that the row is one of; None stands for one of its own.
    """

    ids: list[int]
    kl: float
    turns: tuple[Span, ...]
    example: int | None = None

    def learned(self) -> list[int]:
        """The places of the tokens under the loss, in order."""
        return [place for start, end in self.turns for place in range(start, end)]


@dataclass(frozen=True, slots=True)
class Encoding:
    """The rows of one example, and for each turn that is not in them the reason."""

    rows: tuple[EncodedRow, ...]
    left_out: tuple[str, ...] = ()
    beyond: int = 0
    """Turns that are left out because they lie beyond the longest row."""


def turn_ends(folder: Path, tokenizer: Any) -> frozenset[str]:
    """The tokens, as texts, at which a server takes the model in `folder` to have ended its turn."""
    named: list[str | None] = tokenizer.convert_ids_to_tokens(sorted(stop_tokens(folder)))
    return frozenset(token for token in (*named, tokenizer.eos_token) if token)


def encode_all(example: Example, tokenizer: Any, recipe: Recipe, ends: Iterable[str] = ()) -> Encoding:
    """All rows of an example: one for a question with its answer, one or more for a conversation.

    `ends` are those of `turn_ends`.
    """
    reply = example.reply or Message(role="assistant", content=example.completion)
    messages = (*example.messages, reply)
    written = _written(example, messages)
    turns: list[int] = list(written)
    template = _Template(tokenizer, messages, written, example.tools, ends)
    rows: list[EncodedRow] = []
    beyond = 0
    left_out = [] if turns else ["the model ended none of its turns"]
    while turns:
        last = turns[-1]
        try:
            spans = dict(template.spans(turns))
        except (TemplateError, TypeError, ValueError) as error:  # the last two from filters
            left_out.append(f"the chat template refuses it: {error}")
            turns.remove(last)
            continue
        if last not in spans:
            left_out.append(_NOT_SHOWN)
            turns.remove(last)
            continue
        row, kept = _row(template.text(last), spans, tokenizer, recipe, example.anchor)
        if row is not None:
            rows.append(row)
        beyond += len(spans) - kept
        left_out += [_beyond(recipe)] * (len(spans) - kept)
        turns = [turn for turn in turns if turn not in spans]
    return Encoding(tuple(rows), tuple(left_out), beyond)


def _as_written(turn: str, message: Message, ends: Iterable[str]) -> str:
    """What the model wrote of a rendered `turn`, with the token that ended it; empty where some of it is missing.

    Templates write more behind that token, which is never generated, and some leave out what does not suit them: the
    text beside a call, all calls, or every text that is not given in parts. An end within the message is text.
    """
    turn = turn.rstrip("\n")
    texts = _THOUGHT.split(message.content)
    said = (message.reasoning.strip(), *map(str.strip, texts), *(call.name for call in message.tool_calls))
    found = sorted(match.span() for end in ends for match in re.finditer(re.escape(end), turn))
    for start, end in (*found, (len(turn), len(turn))):
        if all(part in turn[:start] for part in said):
            return turn[:end]
    return ""


def _beyond(recipe: Recipe) -> str:
    return f"it is beyond {recipe.max_length} tokens"


def _written(example: Example, messages: Sequence[Message]) -> dict[int, Message]:
    """The turns to learn, by their places in order, each as the model wrote it."""
    if example.thoughts is None:
        first = len(messages) - 1 if example.first_turn is None else example.first_turn
        return {i: messages[i] for i in range(first, len(messages)) if messages[i].role == "assistant"}
    return {
        place: messages[place].model_copy(update={"reasoning": thought})
        for place, thought in sorted(example.thoughts.items())
        if place < len(messages) and messages[place].role == "assistant"
    }


def _row(
    text: str, spans: dict[int, Span], tokenizer: Any, recipe: Recipe, anchor: bool
) -> tuple[EncodedRow | None, int]:
    """The row of as many turns, from the first on, as fit, and how many these are.

    Cut is the end: without its beginning, a conversation is one that the model never saw. With `recipe.prompt_loss` all
    of it is under the loss, but for the first token, which nothing predicts.
    """
    ids: list[int] = []
    learned: list[Span] = []
    pieces = _pieces(text, (border for span in spans.values() for border in span), tokenizer)
    for between, turn in zip(pieces, pieces, strict=True):
        if len(ids) + len(between) + len(turn) > recipe.max_length:
            break
        ids += between + turn
        learned.append((len(ids) - len(turn), len(ids)))
    if not learned:
        return None, 0
    under_loss = ((1, len(ids)),) if recipe.prompt_loss else tuple(learned)
    return EncodedRow(ids, recipe.kl_anchor if anchor else recipe.kl_verified, under_loss), len(learned)


def _pieces(text: str, borders: Iterable[int], tokenizer: Any) -> Iterator[list[int]]:
    """The tokens of `text` between each two of its `borders`, as they are within the whole.

    Some tokenizers put a space before the first word of whatever they are given, so a piece on its own would begin
    with one that was never served. Where both sides of a border are joined into one token, each is tokenised on its
    own all the same: what the model writes never changes the tokens of the prompt.
    """

    def tokens(start: int, end: int | None = None) -> list[int]:
        return tokenizer(text[start:end], add_special_tokens=False)["input_ids"]

    begin = last = taken = 0
    whole = tokens(0)
    for border in borders:
        piece = tokens(last, border)
        if whole[taken : taken + len(piece)] == piece:  # spares most tokenizers the look at all that came before
            taken += len(piece)
        elif whole[: len(head := tokens(begin, border))] == head:
            piece, taken = head[taken:], len(head)
        else:
            begin, taken, whole = border, 0, tokens(border)
        yield piece
        last = border


class _Template:
    """The renderings of one conversation up to each turn to learn; each is made once.

    Before a turn stands what was sent to the server, and the turn itself as the model wrote it: its thoughts may never
    have been sent again, and then no later prompt held them.
    """

    def __init__(
        self,
        tokenizer: Any,
        messages: Sequence[Message],
        written: Mapping[int, Message],
        tools: str,
        ends: Iterable[str],
    ) -> None:
        self._tokenizer = tokenizer
        self._ends = ends
        self._written = written
        self._given = [_for_template(message) for message in messages]
        self._tools = json.loads(tools) if tools else None
        self._answered: dict[int, str] = {}
        self._asked: dict[int, str] = {}

    def text(self, turn: int) -> str:
        """The conversation up to and with what the model wrote at `turn`; empty where the template does not show it."""
        if turn not in self._answered:
            asked = self.question(turn)
            whole = self._render([*self._given[:turn], _for_template(self._written[turn])], False)
            own = whole[len(asked) :] if whole.startswith(asked) else ""
            shown = _as_written(own, self._written[turn], self._ends)
            self._answered[turn] = asked + shown if shown else ""
        return self._answered[turn]

    def question(self, turn: int) -> str:
        """What the server saw when the model wrote message `turn`."""
        if turn not in self._asked:
            self._asked[turn] = self._render(self._given[:turn], True)
        return self._asked[turn]

    def spans(self, turns: Sequence[int]) -> Iterator[tuple[int, Span]]:
        """(turn, where it stands) for the turns that read in the text of the last one as when they were written."""
        whole = self.text(turns[-1])
        for turn in turns:
            answered = self.text(turn)
            if answered and whole.startswith(answered):
                yield turn, (len(self.question(turn)), len(answered))

    def _render(self, messages: Sequence[dict[str, Any]], question: bool) -> str:
        return self._tokenizer.apply_chat_template(
            messages, tools=self._tools, add_generation_prompt=question, tokenize=False
        )


def _for_template(message: Message) -> dict[str, Any]:
    """The message as vLLM hands it to the template: arguments are objects there, not JSON texts."""
    out: dict[str, Any] = {"role": message.role, "content": message.content}
    if message.reasoning:
        out["reasoning_content"] = out["thinking"] = message.reasoning  # the second in gpt-oss's template
    if message.tool_calls:
        out["tool_calls"] = [
            {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": _parsed(call.arguments)}}
            for call in message.tool_calls
        ]
    if message.tool_call_id:
        out["tool_call_id"] = message.tool_call_id
    return out


def _parsed(arguments: str) -> Any:
    try:
        return json.loads(arguments)
    except (ValueError, RecursionError):
        return arguments
