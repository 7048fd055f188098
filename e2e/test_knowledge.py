"""A knowledge admin imports a file with `octopus knowledge import`, and the bot answers from it."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from pathlib import Path
from typing import Any

import grpc
import pytest
from octopus.bot.v1 import bot_service_pb2, bot_service_pb2_grpc

from e2e.clients import edge as way_in
from e2e.running import Octopus

pytestmark = pytest.mark.e2e

SHOP = "xinghe"
LOGIN = "knowledge"


async def octopus_command(octopus: Octopus, password: str, *arguments: str) -> tuple[int, str]:
    """Run the command as a person would; return its exit code and what it printed."""
    environment = os.environ | {"OCTOPUS_ROOT": str(octopus.root), "OCTOPUS_PASSWORD": password, "COLUMNS": "200"}
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "mesh.platform.cli", *arguments),
        env=environment,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    printed, _ = await asyncio.wait_for(process.communicate(), 90)
    assert process.returncode is not None
    return process.returncode, printed.decode()


async def test_a_file_is_imported_reported_and_answered_from(
    octopus: Octopus, channel: grpc.aio.Channel, tmp_path: Path
) -> None:
    staff = {each["login"]: each["password"] for each in octopus.logins()[SHOP]["staff"]}
    file = tmp_path / "answers.jsonl"
    lines: list[dict[str, Any]] = [
        {
            "question": "投影仪可以投多大？",
            "answer": "最大 150 英寸，3 米远投 100 英寸。",
            "similar_questions": ["投影仪投多远"],
        },
        {"question": "投影仪有几个 HDMI 接口？", "answer": "两个，都支持 4K。"},
    ]
    file.write_text("\n".join([json.dumps(line, ensure_ascii=False) for line in lines] + ["oops"]), encoding="utf-8")
    report = tmp_path / "report.tsv"
    command = ("knowledge", "import", str(file), "--tenant", SHOP, "--login", LOGIN, "--report", str(report))

    code, printed = await octopus_command(octopus, staff[LOGIN], *command)
    assert code == 1, printed
    assert "refused 1" in printed
    assert "is not JSON" in printed
    assert report.read_text(encoding="utf-8").splitlines()[1].startswith("3\t\tis not JSON")

    _, printed = await octopus_command(octopus, staff[LOGIN], *command)
    assert "created 0, updated 0, unchanged 2, refused 1" in printed

    code, printed = await octopus_command(octopus, "not the password", *command)
    assert code == 2
    assert "password is wrong" in printed

    admin = await way_in.staff(channel, SHOP, LOGIN, staff[LOGIN])
    stub = bot_service_pb2_grpc.BotServiceStub(channel)
    request = bot_service_pb2.TryQuestionRequest(question="你好，投影仪投多远呀")
    tried = await stub.TryQuestion(request, metadata=admin.metadata, timeout=10)
    assert tried.answer.text == lines[0]["answer"]
    assert [source.title for source in tried.answer.sources] == [lines[0]["question"]]
