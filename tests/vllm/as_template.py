"""What vLLM makes of requests before its chat template sees them. For vLLM's own interpreter: no part of it is ours.

Reads a JSON list of [API, request] and writes one of {"messages", "tools"}, in chat form.
"""

from __future__ import annotations

import json
import sys
from typing import Any

from vllm.entrypoints.anthropic.protocol import AnthropicMessagesRequest
from vllm.entrypoints.anthropic.serving import AnthropicServingMessages
from vllm.entrypoints.openai.chat_completion.protocol import ChatCompletionRequest
from vllm.entrypoints.openai.responses.protocol import ResponsesRequest
from vllm.entrypoints.openai.responses.utils import construct_input_messages, construct_tool_dicts


def shown(wire: str, body: dict[str, Any]) -> dict[str, Any]:
    if wire == "responses":
        asked = ResponsesRequest(**body)
        messages = construct_input_messages(request_instructions=asked.instructions, request_input=asked.input)
        return {"messages": messages, "tools": construct_tool_dicts(asked.tools, asked.tool_choice)}
    if wire == "messages":
        chat = AnthropicServingMessages.to_chat_completion_request(AnthropicMessagesRequest(**body))
    else:
        chat = ChatCompletionRequest(**body)
    return {"messages": chat.messages, "tools": [tool.model_dump() for tool in chat.tools or ()]}


if __name__ == "__main__":
    # Parts of a message may be an iterator there, which is read once.
    json.dump([shown(wire, body) for wire, body in json.load(sys.stdin)], sys.stdout, default=list)
