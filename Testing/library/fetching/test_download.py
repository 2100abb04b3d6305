"""A real web server on this computer, which breaks off, changes its file, or sends us elsewhere."""

import json

import pytest

from MambaSegmentLib.errors import BundleError, Cancelled, ConfigError
from MambaSegmentLib.fetching.download import check_address, download, sha256_of
from MambaSegmentLib.progress import CancelToken
from Testing.library.fetching.file_server import serving

CONTENT = bytes(range(256)) * 2000  # 512 000 bytes


def test_a_file_arrives_with_progress(tmp_path):
    seen = []
    with serving(CONTENT) as server:
        file = download(server.url, tmp_path / "parts", progress=seen.append)
    assert file.read_bytes() == CONTENT
    assert server.requests == [""]
    assert (seen[-1].stage, seen[-1].done, seen[-1].total) == ("download", len(CONTENT), len(CONTENT))


def test_after_a_broken_connection_only_the_rest_is_fetched(tmp_path):
    with serving(CONTENT) as server:
        server.break_after = 200_000
        with pytest.raises(BundleError, match="try again, it goes on from where it stopped"):
            download(server.url, tmp_path)
        server.break_after = None
        assert download(server.url, tmp_path).read_bytes() == CONTENT
        assert server.requests == ["", "bytes=200000-"]
        assert download(server.url, tmp_path).read_bytes() == CONTENT  # it is all there already
        assert len(server.requests) == 2


@pytest.mark.parametrize("change", ["another file", "a server without ranges", "a file that grew shorter"])
def test_what_does_not_belong_together_is_not_put_together(tmp_path, change):
    with serving(CONTENT) as server:
        server.break_after = 200_000
        with pytest.raises(BundleError):
            download(server.url, tmp_path)
        server.break_after = None
        if change == "another file":
            server.content = CONTENT[::-1]
        elif change == "a file that grew shorter":
            server.content = b"short"
        else:
            server.ranges = False
        assert download(server.url, tmp_path).read_bytes() == server.content
        assert server.requests[1] == "bytes=200000-"


def test_parts_of_another_address_or_without_facts_are_not_used(tmp_path):
    with serving(CONTENT) as server:
        (tmp_path / "content").write_bytes(b"x" * 100)
        for facts in ("{", json.dumps({"url": "https://elsewhere", "tag": "t", "total_bytes": 200}), '{"other": 1}'):
            (tmp_path / "facts.json").write_text(facts, encoding="utf-8")
            assert download(server.url, tmp_path).read_bytes() == CONTENT
            (tmp_path / "content").write_bytes(b"x" * 100)
        assert server.requests == ["", "", ""]


def test_a_server_that_does_not_tell_the_size(tmp_path):
    with serving(CONTENT) as server:
        server.tell_size = False
        assert download(server.url, tmp_path).read_bytes() == CONTENT


def test_cancelled_it_stops_and_keeps_what_has_come(tmp_path):
    token = CancelToken()
    with serving(CONTENT) as server:
        with pytest.raises(Cancelled):
            download(server.url, tmp_path, progress=lambda _: token.cancel(), cancel=token)
        assert 0 < (tmp_path / "content").stat().st_size < len(CONTENT)
        assert download(server.url, tmp_path).read_bytes() == CONTENT
        assert server.requests[1].startswith("bytes=")


@pytest.mark.parametrize("status", [404, 403, 500])
def test_a_refusal_is_told_with_its_number(tmp_path, status):
    with serving(CONTENT) as server:
        server.status = status
        with pytest.raises(BundleError, match=f"the server answers {status}"):
            download(server.url, tmp_path)


def test_nobody_listens(tmp_path):
    with serving(CONTENT) as server:
        url = server.url
    with pytest.raises(BundleError, match="cannot be fetched"):
        download(url, tmp_path)


@pytest.mark.parametrize(
    "url",
    [
        "http://example.org/m",
        "ftp://example.org/m",
        "file:///etc/passwd",
        "https://",
        "data:x",
        "http://127.0.0.1.evil",
    ],
)
def test_only_https_or_this_computer(url):
    with pytest.raises(ConfigError, match="no https address"):
        check_address(url)


@pytest.mark.parametrize("url", ["https://example.org/m", "http://localhost:8000/m", "http://[::1]/m"])
def test_addresses_that_are_safe(url):
    check_address(url)


def test_a_safe_server_cannot_send_us_to_an_unsafe_one(tmp_path):
    with serving(CONTENT) as server:
        server.redirect = "http://example.org/m.safetensors"
        with pytest.raises(ConfigError, match="no https address"):
            download(server.url, tmp_path)


def test_checksum_of_a_file(tmp_path):
    (tmp_path / "abc").write_bytes(b"abc")
    # the example of FIPS 180-2, appendix B.1
    assert sha256_of(tmp_path / "abc") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
