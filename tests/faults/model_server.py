"""The fake model server as a process of its own, over vLLM's HTTP: what can be stopped, killed and started again."""

from __future__ import annotations

import json
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from fakes import FakeServer, solver

from sleepy_coder.errors import ServerError
from sleepy_coder.types import Message

Body = dict[str, Any]


class Served(FakeServer):
    """`FakeServer` by vLLM's paths, as far as a night and the keeper walk them."""

    def _chat(self, body: Body) -> Body:
        messages = [Message.model_validate(message) for message in body["messages"]]
        reply = self.chat(body["model"], messages, temperature=body["temperature"], seed=body["seed"])
        choice = {"message": {"content": reply.text}, "finish_reason": "stop"}
        return {"model": reply.model, "choices": [choice], "usage": {"prompt_tokens": 1, "completion_tokens": 1}}

    def _complete(self, body: Body) -> Body:
        found = self.fingerprint(body["model"], body["prompt"])
        choices = [
            {"index": index, "token_ids": tokens, "logprobs": {"token_logprobs": logprobs}}
            for index, (tokens, logprobs) in enumerate(zip(found.tokens, found.logprobs, strict=True))
        ]
        return {"choices": choices}

    def _models(self, body: Body) -> Body:
        return {"data": [{"id": model.name, "parent": model.parent, "root": model.root} for model in self.models()]}

    def answer(self, path: str, body: Body) -> Body:
        """The reply's body. Raises ServerError, and KeyError for a path that is not served."""
        routes: dict[str, Callable[[Body], Any]] = {
            "/v1/chat/completions": self._chat,
            "/v1/completions": self._complete,
            "/v1/models": self._models,
            "/v1/load_lora_adapter": lambda body: self.load(body["lora_name"], Path(body["lora_path"])),
            "/v1/unload_lora_adapter": lambda body: self.unload(body["lora_name"]),
            "/version": lambda _: {"version": self.version()},
            "/is_sleeping": lambda _: {"is_sleeping": self.asleep()},
            "/load": lambda _: {"server_load": 0},
            "/metrics": lambda _: {},
            "/sleep": lambda _: self.sleep(),
            "/wake_up": lambda _: self.wake_up(),
        }
        return routes[path](body) or {}


def serve(port: int, solves: tuple[int, ...], dreaming: tuple[int, ...]) -> None:
    """Serve on the loopback interface until killed; the base model solves the tasks `solves`."""
    served = Served(solver(solves, dreaming))

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def do_POST(self) -> None:
            self._answer(self.rfile.read(int(self.headers.get("Content-Length") or 0)))

        def do_GET(self) -> None:
            self._answer(b"")

        def _answer(self, body: bytes) -> None:
            path = self.path.partition("?")[0]
            try:
                status, answer = 200, served.answer(path, json.loads(body or b"{}"))
            except ServerError as error:
                status, answer = error.status or 500, {"error": {"message": error.message}}
            except Exception as error:  # noqa: BLE001 - a real server says 500 and lives on
                status, answer = 500, {"error": {"message": repr(error)}}
            data = b"" if path == "/metrics" else json.dumps(answer).encode()
            head = f"HTTP/1.1 {status} x\r\nContent-Type: application/json\r\nContent-Length: {len(data)}\r\n\r\n"
            self.wfile.write(head.encode() + data)

        def log_message(self, format: str, *args: Any) -> None:
            pass

    ThreadingHTTPServer(("127.0.0.1", port), Handler).serve_forever()
