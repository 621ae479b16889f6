"""Reads of a server are measured against a client that reads all of the same bytes."""

from __future__ import annotations

import json
import sys
from shlex import quote

import plain_client
import ranged_server
import remote_reads


def test_soups_from_a_server_are_measured_against_a_plain_client(tmp_path, capsys):
    result = tmp_path / "result.json"
    words = ["--pairs", "1", "--tensors", "3", "--folder", str(tmp_path), "-o", str(result)]
    assert remote_reads.main([*words, "--soupctl", f"{quote(sys.executable)} -m soupctl"]) == 0
    assert "fetched/needed" in capsys.readouterr().out
    text = result.read_text()
    assert str(tmp_path) not in text
    record = json.loads(text)["remote"]
    assert 1 <= record["fetched_a_byte"] < 1.001
    assert 4 <= record["requests"] < 20
    assert len(record["wall_s"]) == len(record["limit_wall_s"]) == 1
    assert [path.name for path in tmp_path.iterdir()] == ["result.json"]


def test_the_plain_client_reads_all(tmp_path):
    for name, size in (("a", 9_000_001), ("b", 5)):
        (tmp_path / name).write_bytes(bytes(size))
    with ranged_server.serving(tmp_path) as server:
        assert plain_client.main([server.url("a"), server.url("b")]) == 0
        # one byte more for the size of each
        assert (server.sent, server.requests) == (9_000_006 + 2, 3 + 1 + 2)
