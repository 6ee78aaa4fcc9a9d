#!/usr/bin/env python3
"""A model endpoint that follows a script: for tests of real coding agents.

    endpoint.py STEPS.json LOG.jsonl PLACE

Listens on a free port of 127.0.0.1 and prints it. It speaks what the agents speak: OpenAI chat completions,
OpenAI responses, Gemini. Each request carries the whole conversation, so the next step follows from how
many tool results it has; nothing is remembered. A step is {"do": "write", "path", "text"},
{"do": "edit", "path", "old", "new"}, {"do": "shell", "command"} or {"do": "say", "text"}, put in the words of
the tools that the agent offers. The last tool result of every request, and every step taken, goes to LOG.
"""
import http.server
import json
import os
import sys
import threading

STEPS = json.load(open(sys.argv[1]))
LOG = open(sys.argv[2], "a", buffering=1)
PLACE = sys.argv[3]  # where relative paths are, for tools that want absolute ones
LOCK = threading.Lock()
NOTHING = {"do": "say", "text": "ok"}


def note(**facts):
    with LOCK:
        LOG.write(json.dumps(facts) + "\n")


def patch(step):
    """Writes a step as codex's patches are written."""
    if step["do"] == "write":
        body = "*** Add File: %s\n" % step["path"] + "".join("+%s\n" % line for line in step["text"].splitlines())
    else:
        body = "*** Update File: %s\n@@\n-%s\n+%s\n" % (step["path"], step["old"], step["new"])
    return "*** Begin Patch\n" + body + "*** End Patch\n"


def heredoc(step):
    return "apply_patch <<'EOP'\n" + patch(step) + "EOP\n"


# For each kind of step: the tools that can do it, the first that is offered is used. `step` -> arguments.
TOOLS = {
    "write": [
        ("write_file", lambda s: {"file_path": os.path.join(PLACE, s["path"]), "content": s["text"]}),
        ("write", lambda s: {"filePath": os.path.join(PLACE, s["path"]), "path": s["path"], "content": s["text"]}),
        ("apply_patch", lambda s: {"input": patch(s)}),
        ("exec_command", lambda s: {"cmd": heredoc(s)}),
        ("shell_command", lambda s: {"command": heredoc(s)}),
        ("shell", lambda s: {"command": ["bash", "-c", heredoc(s)]}),
    ],
    "edit": [
        ("replace", lambda s: {"file_path": os.path.join(PLACE, s["path"]), "old_string": s["old"],
                               "new_string": s["new"], "instruction": "change it"}),
        ("edit", lambda s: {"filePath": os.path.join(PLACE, s["path"]), "path": s["path"],
                            "oldString": s["old"], "newString": s["new"], "oldText": s["old"], "newText": s["new"],
                            "edits": [{"oldText": s["old"], "newText": s["new"]}]}),
        ("apply_patch", lambda s: {"input": patch(s)}),
        ("exec_command", lambda s: {"cmd": heredoc(s)}),
        ("shell_command", lambda s: {"command": heredoc(s)}),
        ("shell", lambda s: {"command": ["bash", "-c", heredoc(s)]}),
    ],
    "shell": [
        ("run_shell_command", lambda s: {"command": s["command"], "description": "run it"}),
        ("bash", lambda s: {"command": s["command"], "description": "run it"}),
        ("exec_command", lambda s: {"cmd": s["command"]}),
        ("shell_command", lambda s: {"command": s["command"]}),
        ("shell", lambda s: {"command": ["bash", "-c", s["command"]]}),
    ],
}


def call(step, offered):
    """Returns the tool and its arguments for a step, of those that are offered (name -> its parameters)."""
    for name, arguments in TOOLS[step["do"]]:
        if name in offered:
            known = offered[name]
            given = arguments(step)
            if known:
                given = {key: value for key, value in given.items() if key in known}
            return name, given
    raise SystemExit("no tool for %r among %r" % (step, sorted(offered)))


def step_of(results, offered):
    if not offered:
        return NOTHING  # a title, a summary
    step = STEPS[min(len(results), len(STEPS) - 1)]
    note(step=step, result=results[-1] if results else None)
    return step


def parameters(schema):
    return set((schema or {}).get("properties", {}))


class Chat:
    """OpenAI's chat completions."""

    @staticmethod
    def read(body):
        offered = {tool["function"]["name"]: parameters(tool["function"].get("parameters"))
                   for tool in body.get("tools") or [] if tool.get("type") == "function"}
        results = [message["content"] for message in body["messages"] if message["role"] == "tool"]
        return offered, results

    @staticmethod
    def events(step, offered):
        base = {"id": "c1", "object": "chat.completion.chunk", "created": 1, "model": "scripted"}
        if step["do"] == "say":
            delta, reason = {"role": "assistant", "content": step["text"]}, "stop"
        else:
            name, arguments = call(step, offered)
            delta = {"role": "assistant", "tool_calls": [{"index": 0, "id": "call_%d" % id(step), "type": "function",
                     "function": {"name": name, "arguments": json.dumps(arguments)}}]}
            reason = "tool_calls"
        yield None, dict(base, choices=[{"index": 0, "delta": delta, "finish_reason": None}])
        yield None, dict(base, choices=[{"index": 0, "delta": {}, "finish_reason": reason}],
                         usage={"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2})
        yield None, "[DONE]"

    @staticmethod
    def whole(step, offered):
        text = step["text"] if step["do"] == "say" else "ok"
        return {"id": "c1", "object": "chat.completion", "created": 1, "model": "scripted",
                "choices": [{"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}],
                "usage": {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2}}


class Responses:
    """OpenAI's responses."""

    @staticmethod
    def read(body):
        offered = {}
        for tool in body.get("tools") or []:
            if tool.get("type") in ("function", "custom") and "name" in tool:
                offered[tool["name"]] = None if tool["type"] == "custom" else parameters(tool.get("parameters"))
        results = [item.get("output") for item in body.get("input") or []
                   if isinstance(item, dict) and item.get("type") in ("function_call_output", "custom_tool_call_output")]
        return offered, results

    @staticmethod
    def events(step, offered):
        yield "response.created", {"type": "response.created", "response": {"id": "r1"}}
        if step["do"] == "say":
            item = {"type": "message", "role": "assistant", "id": "m1",
                    "content": [{"type": "output_text", "text": step["text"]}]}
        else:
            name, arguments = call(step, offered)
            mark = "call_%d" % id(step)
            if offered[name] is None:
                item = {"type": "custom_tool_call", "id": "i1", "call_id": mark, "name": name,
                        "input": arguments["input"]}
            else:
                item = {"type": "function_call", "id": "i1", "call_id": mark, "name": name,
                        "arguments": json.dumps(arguments)}
        yield "response.output_item.done", {"type": "response.output_item.done", "output_index": 0, "item": item}
        usage = {"input_tokens": 1, "input_tokens_details": None, "output_tokens": 1,
                 "output_tokens_details": None, "total_tokens": 2}
        yield "response.completed", {"type": "response.completed", "response": {"id": "r1", "usage": usage}}

    whole = None


class Gemini:
    """Google's generateContent."""

    @staticmethod
    def read(body):
        offered = {}
        for tool in body.get("tools") or []:
            for one in tool.get("functionDeclarations") or []:
                schema = one.get("parametersJsonSchema") or one.get("parameters")
                offered[one["name"]] = parameters(schema)
        results = [json.dumps(part["functionResponse"].get("response"))
                   for content in body.get("contents") or [] for part in content.get("parts") or []
                   if "functionResponse" in part]
        return offered, results

    @staticmethod
    def whole(step, offered):
        if step["do"] == "say":
            part = {"text": step["text"]}
        else:
            name, arguments = call(step, offered)
            part = {"functionCall": {"name": name, "args": arguments}}
        return {"candidates": [{"content": {"role": "model", "parts": [part]}, "finishReason": "STOP", "index": 0}],
                "usageMetadata": {"promptTokenCount": 1, "candidatesTokenCount": 1, "totalTokenCount": 2}}

    @staticmethod
    def events(step, offered):
        yield None, Gemini.whole(step, offered)


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def answer(self, status, kind, data):
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def do_GET(self):
        models = {"object": "list", "data": [{"id": "scripted", "object": "model", "created": 1, "owned_by": "test"}]}
        self.answer(200, "application/json", json.dumps(models).encode())

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers.get("Content-Length") or 0)) or b"{}")
        path = self.path
        if "countTokens" in path:
            return self.answer(200, "application/json", b'{"totalTokens": 1}')
        if path.endswith("/chat/completions"):
            dialect, stream = Chat, body.get("stream")
        elif path.endswith("/responses"):
            dialect, stream = Responses, True
        elif "enerateContent" in path:
            dialect, stream = Gemini, "stream" in path
        else:
            return self.answer(404, "application/json", b"{}")
        offered, results = dialect.read(body)
        step = step_of(results, offered)
        if not stream:
            return self.answer(200, "application/json", json.dumps(dialect.whole(step, offered)).encode())
        text = ""
        for event, data in dialect.events(step, offered):
            text += "event: %s\n" % event if event else ""
            text += "data: %s\n\n" % (data if isinstance(data, str) else json.dumps(data))
        self.answer(200, "text/event-stream", text.encode())


server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
print(server.server_address[1], flush=True)
server.serve_forever()
