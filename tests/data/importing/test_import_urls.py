# SPDX-License-Identifier: Apache-2.0
"""URL sources give the same result as local files, with any number of processes."""

import json
import re
import sys
import threading
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

import pytest
from archives import archive, captioned, files_of, image_bytes, rows_of

from pippin.cli.main import main
from pippin.config import ConfigError
from pippin.data.config import CacheConfig, ImagesConfig
from pippin.data.importing.config import ImportConfig, ShardsConfig
from pippin.data.importing.importer import import_images
from pippin.data.importing.shards import PARTS
from pippin.data.streaming.build import build_streamed

pytest.importorskip("datasets")
fsspec = pytest.importorskip("fsspec")


class _Handler(SimpleHTTPRequestHandler):
    """Server with range requests and tags, as object stores have."""

    def do_GET(self):
        if self._is_redirected():
            return
        self.server.requests.append(self.path)
        if self.server.busy:
            self.server.busy -= 1
            self.send_error(503)
            return
        content = self._content()
        asked = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
        if content is None or self.path.partition("?")[0] in self.server.broken:
            self.send_error(404 if content is None else 403)
            return
        if not self.server.has_ranges:
            asked = None
        if self.server.cut:
            self.server.cut -= 1
            self.close_connection = True
            return
        first, last = (
            (int(asked[1]), int(asked[2] or len(content))) if asked else (0, len(content))
        )
        body = content[first : last + 1]
        self.send_response(206 if asked else 200)
        if asked:
            end = first + len(body) - 1
            self.send_header("Content-Range", f"bytes {first}-{end}/{len(content)}")
        self._describe(len(body))
        if self.server.short:
            self.server.short -= 1
            self.close_connection = True
            body = body[: len(body) // 2]
        self.wfile.write(body)
        self.server.read.append(self.path)

    def _is_redirected(self):
        if not self.path.startswith("/to/"):
            return False
        self.send_response(302)
        self.send_header("Location", self.path.removeprefix("/to"))
        self.send_header("Content-Length", "0")
        self.end_headers()
        return True

    def do_HEAD(self):
        if self._is_redirected():
            return
        self.server.requests.append(self.path)
        content = self._content()
        if content is None:
            self.send_error(404)
            return
        self.send_response(200)
        self._describe(len(content))

    def _describe(self, length):
        self.send_header("Content-Length", str(length))
        self.send_header("Accept-Ranges", "bytes" if self.server.has_ranges else "none")
        name = self.path.partition("?")[0]
        if name in self.server.tags:
            self.send_header("ETag", self.server.tags[name])
        self.end_headers()

    def _content(self):
        return self.server.contents.get(self.path.partition("?")[0])

    def log_message(self, *_):
        pass


@pytest.fixture
def server():
    """Four archives on a local server."""
    pytest.importorskip("aiohttp")
    served = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
    served.contents = {f"/s-{n:02d}.tar": captioned(2 * n) for n in range(4)}
    served.tags = {name: f'"{name}-1"' for name in served.contents}
    served.broken, served.read, served.requests = set(), [], []
    served.has_ranges, served.cut, served.busy, served.short = True, 0, 0, 0
    served.url = f"http://127.0.0.1:{served.server_port}"
    thread = threading.Thread(target=served.serve_forever)
    thread.start()
    yield served
    served.shutdown()
    thread.join()
    served.server_close()


@pytest.fixture
def memory():
    """In-memory store of this process."""
    store = fsspec.filesystem("memory")
    for n in range(3):
        store.pipe(f"/bucket/deep/s-{n}.tar", captioned(2 * n))
    store.pipe("/bucket/notes.txt", b"no shard")
    yield store
    store.rm("/bucket", recursive=True)


def without_parts(folder):
    return {name: one for name, one in files_of(folder).items() if not name.startswith(PARTS)}


def test_urls_give_what_files_give(server, tmp_path):
    (tmp_path / "here").mkdir()
    for name, content in server.contents.items():
        (tmp_path / "here" / name[1:]).write_bytes(content)
    import_images(ImportConfig(source=str(tmp_path / "here")), tmp_path / "files")
    config = ImportConfig(source=f"{server.url}/s-{{00..03}}.tar")
    import_images(config, tmp_path / "one")
    result = import_images(config, tmp_path / "two", processes=2)
    assert (result.images, result.shards) == (8, 4)
    assert [row["text"] for row in rows_of(tmp_path / "two")] == [f"image {n}" for n in range(8)]
    assert files_of(tmp_path / "one") == files_of(tmp_path / "two")
    assert without_parts(tmp_path / "one") == without_parts(tmp_path / "files")


def test_a_stopped_import_reads_only_what_is_missing(server, tmp_path):
    config = ImportConfig(source=f"{server.url}/s-{{00..03}}.tar")
    server.broken = {"/s-02.tar"}
    with pytest.raises(ConfigError, match=r"s-02\.tar.* cannot be read"):
        import_images(config, tmp_path / "out")
    assert not (tmp_path / "out/metadata.jsonl").exists()
    assert not (tmp_path / "out/00002").exists()
    server.broken, server.read = set(), []
    result = import_images(config, tmp_path / "out")
    assert (result.images, result.before) == (8, 2)
    assert set(server.read) == {"/s-02.tar", "/s-03.tar"}


@pytest.mark.parametrize("tagged", [True, False], ids=["tag", "size"])
def test_a_file_that_changed_on_its_server_is_refused(server, tmp_path, tagged):
    config = ImportConfig(source=f"{server.url}/s-{{00..01}}.tar")
    import_images(config, tmp_path / "out")
    if tagged:
        server.tags["/s-01.tar"] = '"another"'
    else:
        server.contents["/s-01.tar"] += bytes(512)
    with pytest.raises(ConfigError, match=r"shard 1 of .* was s-01\.tar, \d+ bytes, .*changed"):
        import_images(config, tmp_path / "out")


def test_a_signature_is_neither_kept_nor_compared(server, tmp_path):
    for signature in ("first", "second"):
        source = f"{server.url}/s-00.tar?signature={signature}"
        result = import_images(ImportConfig(source=source), tmp_path / "out")
    assert (result.before, result.images) == (1, 2)
    assert server.read and "?signature=first" in server.read[0]
    kept = b"".join(files_of(tmp_path / "out").values())
    assert b"signature" not in kept


def test_a_file_that_is_not_there_is_named_before_any_is_read(server, tmp_path):
    with pytest.raises(ConfigError, match=r"/s-04\.tar cannot be found"):
        import_images(ImportConfig(source=f"{server.url}/s-{{03..04}}.tar"), tmp_path / "out")
    with pytest.raises(ConfigError, match="folders cannot be listed over http"):
        import_images(ImportConfig(source=f"{server.url}/"), tmp_path / "out")
    assert not server.read and not (tmp_path / "out").exists()


@pytest.mark.parametrize("switch", ["PIPPIN_OFFLINE", "HF_HUB_OFFLINE", "--offline"])
@pytest.mark.parametrize(
    "place", ["{url}/s-{{00..01}}.tar", "memory://bucket/deep/s-0.tar::{url}/s-00.tar"]
)
def test_offline_no_server_is_asked(server, memory, tmp_path, monkeypatch, capsys, switch, place):
    flags = [switch] if switch.startswith("--") else monkeypatch.setenv(switch, "1") or []
    source = place.format(url=server.url)
    command = ["data", "import", source, "--folder", str(tmp_path / "out"), "--processes", "2"]
    assert main([*command, *flags]) == 2
    message = capsys.readouterr().err
    assert f"{server.url}/s-0" in message and switch in message
    assert "copy its files to this machine" in message and "unset" in message
    assert server.requests == [] and not (tmp_path / "out").exists()


def test_offline_stores_of_this_machine_are_read(memory, tmp_path, monkeypatch):
    monkeypatch.setenv("PIPPIN_OFFLINE", "1")
    result = import_images(ImportConfig(source="memory://bucket/deep"), tmp_path / "out")
    assert result.images == 6


@pytest.mark.parametrize(
    ("source", "shards"),
    [
        ("memory://bucket", 3),
        ("memory://bucket/deep/*.tar", 3),
        ("memory://bucket/deep/s-{1..2}.tar", 2),
        ("memory://bucket/deep/s-0.tar::memory://bucket/deep/s-2.tar", 2),
    ],
)
def test_folders_patterns_and_lists_of_a_store(memory, tmp_path, source, shards):
    result = import_images(ImportConfig(source=source), tmp_path / "out")
    assert (result.shards, result.images) == (shards, 2 * shards)


def test_a_name_with_signs_of_patterns_is_one_file(memory, tmp_path):
    memory.pipe("/bucket/odd/a[1].tar", captioned(0))
    memory.pipe("/bucket/odd/a1.tar", archive([{"png": image_bytes(9)}]))
    result = import_images(ImportConfig(source="memory://bucket/odd"), tmp_path / "out")
    assert (result.shards, result.images) == (2, 3)


def test_stores_without_shards_are_named(memory, tmp_path):
    memory.pipe("/bucket/other/x.txt", b"no shard")
    with pytest.raises(ConfigError, match=r"memory://bucket/other holds no \.parquet or \.tar"):
        import_images(ImportConfig(source="memory://bucket/other"), tmp_path / "out")
    with pytest.raises(ConfigError, match=r"nosuch://x/0\.tar cannot be opened: .*nosuch"):
        import_images(ImportConfig(source="nosuch://x/0.tar"), tmp_path / "out")


@pytest.mark.parametrize(
    ("source", "module", "package"),
    [
        ("s3://bucket/{00..99}.tar", "s3fs", "s3fs"),
        ("gs://bucket/folder", "gcsfs", "gcsfs"),
        ("https://host/{00..99}.tar", "fsspec.implementations.http", "aiohttp"),
    ],
)
def test_a_missing_package_is_named(monkeypatch, tmp_path, source, module, package):
    monkeypatch.setitem(sys.modules, module, None)  # as if it could not be imported
    monkeypatch.setattr(sys.modules["fsspec.registry"], "_registry", {})
    scheme = source.partition(":")[0]
    with pytest.raises(ConfigError, match=f"reading {scheme}:// .*: pip install {package}$"):
        import_images(ImportConfig(source=source), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_commands_are_not_run(tmp_path):
    source = f"pipe:touch {tmp_path}/ran; curl https://host/0.tar"
    with pytest.raises(ConfigError, match="commands are not run"):
        import_images(ImportConfig(source=source), tmp_path / "out")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("source", ["missing.tar?sig=SECRET", "s-00.tar?sig=SECRET&n=1"])
@pytest.mark.parametrize("user", ["", "me:SECRET@", "SECRET@"])
def test_no_secret_is_said_or_kept(server, tmp_path, capfd, source, user):
    url = f"{server.url.replace('http://', f'http://{user}')}/{source}"
    server.broken = {"/s-01.tar"}
    for place in (url, url.replace("s-00", "s-01"), f"{url}::/nowhere.tar", f"{url[:-4]}.parquet"):
        main(["data", "import", place, "--folder", str(tmp_path / "out")])
    messages = capfd.readouterr()
    assert "error: " in messages.err
    assert "SECRET" not in messages.out + messages.err
    assert b"SECRET" not in b"".join(files_of(tmp_path).values())


def test_no_server_and_damaged_files_say_no_secret(server, tmp_path, capfd, caplog):
    server.contents["/bad.parquet"] = b"no parquet at all"
    server.contents["/bad.tar"] = captioned(0)[:3000]
    for place in (
        "http://127.0.0.1:1/0.tar",
        f"{server.url}/bad.parquet",
        f"{server.url}/bad.tar",
    ):
        assert (
            main(["data", "import", f"{place}?sig=SECRET", "--folder", str(tmp_path / "o")]) == 2
        )
    messages = capfd.readouterr()
    assert messages.err.count("error: ") == 3
    assert "SECRET" not in messages.out + messages.err + caplog.text


def test_a_password_that_an_earlier_version_kept_is_removed(server, tmp_path):
    url = f"{server.url.replace('http://', 'http://me:SECRET@')}/s-00.tar"
    import_images(ImportConfig(source=url), tmp_path / "out")
    note = tmp_path / "out" / PARTS / "import.json"
    text = note.read_text()
    values = json.loads(text.replace("http://", "http://me:SECRET@"))
    del values["content_sha256"]
    note.write_text(json.dumps(values))
    assert import_images(ImportConfig(source=url), tmp_path / "out").before == 1
    assert note.read_text() == text


def test_parquet_files_are_read_from_servers_that_cannot_seek(server, tmp_path, monkeypatch):
    datasets = pytest.importorskip("datasets")
    rows = {"image": [{"bytes": image_bytes(n), "path": None} for n in range(3)]}
    datasets.Dataset.from_dict(rows).to_parquet(tmp_path / "0.parquet")
    server.contents["/0.parquet"] = (tmp_path / "0.parquet").read_bytes()
    source = f"{server.url}/0.parquet"
    assert import_images(ImportConfig(source=source), tmp_path / "ranges").images == 3
    server.has_ranges = False
    fsspec.filesystem("http").clear_instance_cache()
    assert import_images(ImportConfig(source=source), tmp_path / "stream").images == 3


@pytest.mark.parametrize("fault", ["cut", "busy", "short"])
@pytest.mark.parametrize("has_ranges", [True, False], ids=["ranges", "stream"])
def test_shards_behind_a_redirect_are_encoded_despite_faults(
    server, tmp_path, monkeypatch, encoder, fault, has_ranges
):
    monkeypatch.setattr("pippin.data.importing.retries.time.sleep", lambda seconds: None)
    fsspec.filesystem("http").clear_instance_cache()
    server.has_ranges = has_ranges
    built = []
    for count in (0, 3):
        setattr(server, fault, count)
        config = ShardsConfig(source=f"{server.url}/to/s-{{00..02}}.tar", keep=2)
        data = ImagesConfig(path=str(tmp_path / f"own{count}"), resolution=16, views=1)
        cache = CacheConfig(folder=str(tmp_path / f"caches{count}"))
        built.append(files_of(build_streamed(config, data, cache, encoder)))
        assert getattr(server, fault) == 0
        assert [row["text"] for row in rows_of(tmp_path / f"own{count}")] == [
            f"image {n}" for n in range(6)
        ]
    assert built[0] == built[1]


def test_a_server_that_stays_busy_fails_its_shards_by_name(server, tmp_path, monkeypatch, encoder):
    waits = []
    monkeypatch.setattr("pippin.data.importing.retries.time.sleep", waits.append)
    config = ShardsConfig(source=f"{server.url}/s-00.tar?signature=SECRET")
    data = ImagesConfig(path=str(tmp_path / "own"), resolution=16, views=1)
    cache, said = CacheConfig(folder=str(tmp_path / "caches")), []
    server.has_ranges = False
    build_streamed(config, data, cache, encoder)
    next(iter((tmp_path / "caches").glob("*/shard-00000.json"))).unlink()
    server.busy = 10**6
    with pytest.raises(ConfigError, match=r"1 of 1 shards cannot be read(.|\n)*503") as error:
        build_streamed(config, data, cache, encoder, say=said.append)
    assert waits == [1, 2, 4, 8, 16] and len(said) == 1
    assert "SECRET" not in str(error.value) + "".join(said)


def test_a_lost_connection_is_tried_again(server, tmp_path, monkeypatch):
    monkeypatch.setattr("pippin.data.importing.retries.time.sleep", lambda seconds: None)
    server.cut = 3
    source = f"{server.url}/s-00.tar"
    result = import_images(ImportConfig(source=source), tmp_path / "out")
    assert (result.images, server.cut) == (2, 0)
