"""From exchanges to conversations: who continues whom, and what is not a conversation at all.

An agent sends everything again with each request, so request n+1 continues request n when n's messages are a
strict prefix of its own and an assistant's reply comes next. That holds inside a known session too, where
subagents and restarted histories stand side by side. What nobody continues ends a conversation; it holds
all that came before. Side calls (titles, summaries, commit messages) are set apart, and evaluations never count.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from sleepy_coder.collect.redact import PLACEHOLDER
from sleepy_coder.collect.wires import Spoken, spoken
from sleepy_coder.errors import EpisodeFormatError
from sleepy_coder.types import Exchange, Message

EVALUATION = "eval"
_ENDED = frozenset(("stop", "tool_calls", "function_call", "end_turn", "tool_use", "completed"))
"""Why a reply ended, in the words of the APIs, where the model itself ended it.

A turn is learned with the token that ends it, so one that was cut (by its length, a filter, a stop word) would teach
to break off there."""
_TINY_REPLY = 400
_HEAD = 1500
_ERRANDS = re.compile(
    r"(?i)\b(?:generat\w+|writ\w+|creat\w+|come up with|suggest\w*|provid\w+|produc\w+|extract\w*|reply with|output\w*)"
    r"\b.{0,60}\b(?:titles?|commit messages?|summar(?:y|ies)|topics?|branch names?)\b"
    r"|\bsummari[sz]e (?:the|this|our|all)\b|\b(?:conversation|thread|chat) title\b|\btitle generator\b"
)


@dataclass(frozen=True, slots=True)
class Conversation:
    """One conversation: the last exchange's messages with its reply, and the exchanges that led there.

    `started` is when the first exchange began, `ended` when the last one was over.
    `first_turn` is where the first reply that was seen stands; assistant's turns before it are the agent's own.
    `thoughts` are those of `Attempt`: after `first_turn` too, agents and other models write turns.
    """

    id: str
    session: str
    exchanges: tuple[str, ...]
    messages: tuple[Message, ...]
    first_turn: int
    thoughts: dict[int, str]
    tools: str
    served_by: str
    started: datetime
    ended: datetime


@dataclass(frozen=True, slots=True)
class Grouped:
    """All exchanges, each in one place: in a conversation, as a side call, or left out for a reason."""

    conversations: tuple[Conversation, ...]
    side_calls: tuple[str, ...]
    left_out: dict[str, str]


@dataclass(eq=False, slots=True)
class _Node:
    exchange: Exchange
    said: Spoken
    keys: list[bytes]
    answer: str
    parent: _Node | None = None
    continued: bool = False

    @property
    def whole(self) -> bytes:
        return self.keys[-1] if self.keys else b""


def group(exchanges: Iterable[Exchange]) -> Grouped:
    """Sort exchanges, in whatever order they come, into conversations."""
    left_out: dict[str, str] = {}
    scopes: dict[tuple[str, ...], list[_Node]] = defaultdict(list)
    for exchange in sorted(exchanges, key=lambda e: (e.started, e.id)):
        node = _readable(exchange, left_out)
        if node is not None:
            scopes[_scope(exchange)].append(node)
    conversations: list[Conversation] = []
    side_calls: list[str] = []
    for nodes in scopes.values():
        _link(nodes)
        apart, again = _side_calls(nodes), _asked_again(nodes)
        for node in nodes:
            if node.continued:
                continue
            if node in apart:
                side_calls.append(node.exchange.id)
            elif node in again:
                left_out[node.exchange.id] = "the same was asked again"
            else:
                conversations.append(_conversation(node))
    conversations.sort(key=lambda c: (c.started, c.id))
    return Grouped(tuple(conversations), tuple(side_calls), left_out)


def _readable(exchange: Exchange, left_out: dict[str, str]) -> _Node | None:
    """The exchange with its messages; None, with the reason in `left_out`, when it is not to be learned from."""
    if exchange.purpose == EVALUATION:
        left_out[exchange.id] = "it belongs to an evaluation"
    elif not 200 <= exchange.status < 300:
        left_out[exchange.id] = f"it was answered with status {exchange.status}"
    elif not exchange.whole:
        left_out[exchange.id] = "its reply is not whole"
    else:
        try:
            said = spoken(exchange)
        except EpisodeFormatError as error:
            left_out[exchange.id] = error.message
            return None
        except RecursionError:
            left_out[exchange.id] = "it is nested too deeply"
            return None
        if said.reply is not None and said.messages:
            return _Node(exchange, said, _keys(said.messages, exchange.session == ""), _essence(said.reply))
        left_out[exchange.id] = "it holds no conversation"
    return None


def _scope(exchange: Exchange) -> tuple[str, ...]:
    """Where to look for what an exchange continues: its session or, when none is known, all of its agent."""
    if exchange.session_source == "prefix" or not exchange.session:
        return ("", exchange.agent, exchange.wire)
    return (exchange.session,)


def _keys(messages: Sequence[Message], with_system: bool) -> list[bytes]:
    """A digest of the first 1, 2, ... messages.

    Some agents write the time or a bill into the system prompt, anew with each request; where the session is
    known, it is left out of the comparison.
    """
    digest = hashlib.blake2b(digest_size=16)
    keys: list[bytes] = []
    for message in messages:
        if with_system or message.role != "system":
            digest.update(_essence(message).encode(errors="surrogatepass"))
        keys.append(digest.digest())
    return keys


def _essence(message: Message) -> str:
    """What must not change when a message is sent again.

    Thoughts may be left out, placeholders renumbered, and the JSON of arguments written anew, as opencode does.
    """
    calls = [f"{call.id} {call.name} {_plain(call.arguments)}" for call in message.tool_calls]
    text = "\0".join([message.role, message.content.strip(), message.tool_call_id, *calls])
    return PLACEHOLDER.sub(r"<SECRET:\1>", text) + "\1"


def _plain(arguments: str) -> str:
    """The same text for the same arguments, whatever their white space and the order of their names."""
    try:
        return json.dumps(json.loads(arguments), ensure_ascii=False, sort_keys=True)
    except (ValueError, RecursionError):
        return arguments


def _link(nodes: Sequence[_Node]) -> None:
    """Find for each node, in the order of time, what it continues: the longest strict prefix."""
    known: dict[tuple[int, bytes], list[_Node]] = defaultdict(list)
    for node in nodes:
        messages = node.said.messages
        for length in range(len(messages) - 1, 0, -1):
            if messages[length].role == "assistant" and (before := known.get((length, node.keys[length - 1]))):
                node.parent = _best(before, messages[length])
                if node.parent is not None:
                    node.parent.continued = True
                    break
        known[len(messages), node.whole].append(node)


def _best(before: Sequence[_Node], reply: Message) -> _Node | None:
    """Whose reply this is: of those that gave it, the last one that is not taken, so that twins stay apart.

    Where all are taken, somebody went back to it. An agent may also have rewritten it: then it is the last one that is
    not taken.
    """
    answer = _essence(reply)
    gave = [node for node in before if node.answer == answer]
    free = [node for node in gave or before if not node.continued]
    return next(reversed(free or gave), None)


def _side_calls(nodes: Sequence[_Node]) -> set[_Node]:
    """Requests without tools that continue nothing and whose prompt is an errand, or odd in its session.

    What the user asks may read like an errand as well. In a known session that sets a request apart only from something
    that remains: an agent may do all of its work in one request.
    """
    mains = [node for node in nodes if node.continued or node.parent or node.said.tools]
    ends = [node for node in nodes if not node.continued]
    lone = [node for node in ends if node.parent is None and not node.said.tools]
    apart = {node for node in lone if _ERRANDS.search(_system(node)[:_HEAD]) or _is_odd(node, mains)}
    asked = {node for node in lone if _asks_an_errand(node)}
    remains = bool(set(ends) - apart - asked)
    return apart | {node for node in asked if remains or node.exchange.session == ""}


def _is_odd(node: _Node, mains: Sequence[_Node]) -> bool:
    """Whether it is short, under a system prompt of its own. Without a session the others may be another user's."""
    known = node.exchange.session != "" and bool(mains)
    return known and _is_tiny(node) and _system(node) not in {_system(main) for main in mains}


def _asks_an_errand(node: _Node) -> bool:
    return _is_tiny(node) and _system(node) != "" and bool(_ERRANDS.search(node.said.messages[-1].content[:_HEAD]))


def _is_tiny(node: _Node) -> bool:
    return node.said.reply is not None and len(node.said.reply.content) <= _TINY_REPLY


def _system(node: _Node) -> str:
    return "\n".join(message.content for message in node.said.messages if message.role == "system")


def _asked_again(nodes: Sequence[_Node]) -> set[_Node]:
    """Requests of a known session that came again, where it went on from the other reply."""
    same: dict[tuple[int, bytes], list[_Node]] = defaultdict(list)
    for node in nodes:
        if node.exchange.session:
            same[len(node.keys), node.whole].append(node)
    groups = [group for group in same.values() if any(node.continued for node in group)]
    return {node for group in groups for node in group if not node.continued}


def _conversation(node: _Node) -> Conversation:
    chain = [node]
    while chain[-1].parent is not None:
        chain.append(chain[-1].parent)
    chain.reverse()
    first, last = chain[0].exchange, node.exchange
    session = first.session or f"prefix-{first.id}"
    assert node.said.reply is not None
    name = hashlib.sha256("/".join((session, first.id, last.id)).encode()).hexdigest()[:32]
    messages = (*node.said.messages, node.said.reply)
    return Conversation(
        id=name,
        session=session,
        exchanges=tuple(n.exchange.id for n in chain),
        messages=messages,
        first_turn=len(chain[0].said.messages),
        thoughts=_thoughts(messages, chain),
        tools=node.said.tools,
        served_by=last.served_by,
        started=first.started,
        ended=last.started + timedelta(seconds=last.seconds),
    )


def _is_reply(sent: Message, node: _Node, reply: Message) -> bool:
    """Whether `sent` is the `reply` of `node`. Calls are known by their ids: Claude Code writes its tools' defaults
    into them."""
    ids = [(call.id, call.name) for call in reply.tool_calls if call.id]
    if ids and ids == [(call.id, call.name) for call in sent.tool_calls]:
        sent = sent.model_copy(update={"tool_calls": reply.tool_calls})
    return _essence(sent) == node.answer


def _thoughts(messages: Sequence[Message], chain: Sequence[_Node]) -> dict[int, str]:
    """By the place of each turn that the model wrote to its end, what it thought before it.

    What stands in the place of a reply need not be it: an agent notes that it was interrupted, another model answers.
    """
    found: dict[int, str] = {}
    for node in chain:
        place, reply = len(node.said.messages), node.said.reply
        if reply and node.exchange.finish_reason in _ENDED and _is_reply(messages[place], node, reply):
            sent = messages[place].reasoning
            # Some agents send thoughts without the white space around them; that is no reason to tell the two apart.
            found[place] = sent if sent.strip() == reply.reasoning.strip() else reply.reasoning
    return found
