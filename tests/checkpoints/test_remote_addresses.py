"""Addresses that lead nowhere, or may not be used: one clear line without secrets."""

from __future__ import annotations

import signal
from fractions import Fraction
from pathlib import Path

import pytest
from huggingface_hub import constants
from loopback import Loopback
from remote_models import local_root, places

from soupctl import verbs
from soupctl.cli.main import SIGNALS, main
from soupctl.cli.options import split_weight
from soupctl.errors import InputError, LimitError, SoupError, UsageError
from soupctl.verbs import Request


def test_gated_and_absent_places_are_one_line(server: Loopback, tmp_path: Path) -> None:
    server.gated.add("org/b")
    for address, problem in (
        ("hf://org/b", "cannot be read: access is refused (log in with the tools of its library"),
        ("hf://org/none", "cannot be read: there is no such file"),
        ("hf://org/a@gone", "cannot be read: there is no such file"),
        ("hf://org/a/none", "cannot be read: there is no such file"),
        ("s3://bucket/none", "cannot be read: there is no such file"),
        (f"{server.url}/none.st", "cannot be read: there is no such file"),
    ):
        with pytest.raises(InputError) as refusal:
            verbs.average(Request([address, "s3://bucket/a.safetensors"], tmp_path / "soup.st"))
        assert refusal.value.message().startswith(f"{address}: {problem}")
    assert not [*tmp_path.iterdir()]


def test_addresses_that_cannot_be_are_refused(server: Loopback, tmp_path: Path) -> None:
    for address, problem in (
        ("hf://alone", "is not hf://OWNER/NAME[@REVISION][/PLACE]"),
        ("hf://org/a/../b", "is not hf://OWNER/NAME[@REVISION][/PLACE]"),
        ("hf://org/a//b", "is not hf://OWNER/NAME[@REVISION][/PLACE]"),
        ("http://example.org/a.st", "http:// is not encrypted (https:// is)"),
        (
            "ftp://example.org/a.st",
            "ftp:// is no kind of address that is read (hf://, s3://, gs:// and https:// are)",
        ),
    ):
        with pytest.raises(UsageError) as refusal:
            verbs.average(Request([address, tmp_path / "b.st"], tmp_path / "soup.st"))
        assert refusal.value.message() == f"{address}: {problem}"


def test_missing_library_is_named_with_its_extra(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    for scheme, package in (("hf", "huggingface_hub"), ("s3", "s3fs"), ("gs", "gcsfs")):
        with pytest.raises(LimitError) as refusal:
            verbs.inspect(f"{scheme}://org/name")
        assert refusal.value.message() == (
            f"{scheme}:// needs a package that is not installed: {package}"
            " (pip install 'soupctl[remote]')"
        )


@pytest.mark.parametrize(
    "address",
    [
        "https://[",
        "https://me:hidden@[/",
        "https://",
        "https:///",
        "s3://",
        "hf:///",
        "https://127.0.0.1:port/a.st?token=hidden",
        "http://127.0.0.1:9/a\nb?token=hidden",
        f"https://{'a' * 64}.org/a.st?token=hidden",
    ],
)
def test_malformed_addresses_are_one_line(address: str) -> None:
    with pytest.raises(UsageError) as refusal:
        verbs.inspect(address)
    message = refusal.value.message()
    assert message.startswith(address[:5])
    assert message.endswith(("is not the address of a file or folder", "is not a valid address"))
    assert "hidden" not in message


def test_absent_credentials_are_told(
    server: Loopback, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    with pytest.raises(InputError) as refusal:
        verbs.inspect("s3://bucket/a.safetensors")
    assert refusal.value.message() == (
        "s3://bucket/a.safetensors: cannot be read: no credentials are found"
        " (log in with the tools of its library)"
    )


def test_outputs_on_the_terminal_hold_no_secrets(
    server: Loopback, capsys: pytest.CaptureFixture[str]
) -> None:
    secret = places(server, "web")[0].replace("http://", "http://me:hidden@")
    for words in (["inspect", secret, "--json"], ["verify", secret, "--json"], ["hash", secret]):
        handlers = {number: signal.getsignal(number) for number in SIGNALS}
        with pytest.raises(SystemExit):
            main(words)
        for number, handler in handlers.items():
            signal.signal(number, handler)
        told = capsys.readouterr()
        assert "bucket/a.safetensors" in told.out
        assert "hidden" not in told.out + told.err


def test_what_needs_a_copy_on_disk_says_so(server: Loopback, tmp_path: Path) -> None:
    with pytest.raises(SoupError) as refusal:
        verbs.file_sha256(places(server, "web")[0])
    assert refusal.value.message() == (
        f"{server.url}/bucket/a.safetensors: is not on this disk, where alone it can be used for"
        " this (download it, and name the copy)"
    )


def test_output_at_an_address_is_refused(server: Loopback, tmp_path: Path) -> None:
    with pytest.raises(UsageError) as refusal:
        verbs.average(Request(places(server, "web"), f"{server.url}/soup.st?token=hidden"))
    assert refusal.value.message() == (
        f"{server.url}/soup.st: is on a web server, and soups are written to files and buckets"
        " (make a file, and upload it)"
    )


def test_the_hub_is_not_asked_where_it_is_switched_off(server, monkeypatch, tmp_path):
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)

    with pytest.raises(InputError, match=r"a\.safetensors: cannot be read: HF_HUB_OFFLINE is set"):
        verbs.average(Request(places(server, "hub"), tmp_path / "soup.st"))


def test_weights_and_revisions_are_told_apart(server: Loopback, tmp_path: Path) -> None:
    assert split_weight("hf://org/a@main@0.5") == ("hf://org/a@main", Fraction(1, 2))
    assert split_weight("hf://org/a@main") == ("hf://org/a@main", None)


def test_schemes_in_capital_letters_are_the_same(server: Loopback, tmp_path: Path) -> None:
    root = local_root(tmp_path)
    (made,) = verbs.average(
        Request(["S3://bucket/a.safetensors", "HF://org/b"], tmp_path / "soup.st")
    )
    assert made.ledger.root == root
    with pytest.raises(UsageError, match="http:// is not encrypted"):
        verbs.inspect("HTTP://example.org/a.st")


@pytest.mark.parametrize("scheme", ["HTTPS", "ftp", "file", "s3a"])
def test_no_scheme_shows_secrets(scheme: str) -> None:
    with pytest.raises(SoupError) as refusal:
        verbs.inspect(f"{scheme}://me:hidden@[/a.st?token=hidden")
    assert refusal.value.message().startswith(f"{scheme}://[/a.st: ".replace("HTTPS", "https"))
    assert "hidden" not in refusal.value.message()
