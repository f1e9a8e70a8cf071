# SPDX-License-Identifier: Apache-2.0
"""Latents straight from shards over HTTP: throughput, memory, files, kill -9, equal bytes.

    python scripts/shards_benchmark.py --folder DIR
    python scripts/shards_benchmark.py --folder DIR --images 100000 --shards 100 --side 64

Writes archives of noise images with captions into DIR and serves them on this machine, behind a
redirect, with faults: some first requests are answered with status 503, others with half of the
file. Every archive has a broken image, a repeated key and a sample without an image, and the last
one is cut in the middle of a member. Then `pippin data prepare` encodes them:

- a tenth of the shards and all of them, by one process: images/s, and peak memory of a process;
- all of them by each number of --processes: seconds, and one hash over the bytes of all outputs;
- all of them with kill -9 of the whole command after a third of the shards, and again: the number
  of shards that were encoded twice, and the hash.

The exit code is 1 if a hash differs, or if a tenth of the shards needs less than 0.8 times the
memory of all. DIR must be new. The latents of a trial are removed after it.
"""

import argparse
import io
import os
import shutil
import signal
import subprocess
import sys
import tarfile
import threading
import time
from collections import Counter
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
from folder_content import content
from PIL import Image

RECIPE = "folder/mmdit-disentangled"
MIN_MEMORY_SHARE = 0.8
KILL_AFTER = 1 / 3
"""Share of the shards after which the command is killed."""


def image(number: int, side: int) -> bytes:
    """JPEG file of noise on a gradient."""
    draws = np.random.default_rng(number)
    pixels = draws.integers(0, 256, (side, side + number % 9, 3), dtype=np.uint8)
    content = io.BytesIO()
    Image.fromarray(pixels).save(content, "JPEG", quality=90)
    return content.getvalue()


def add(archive: tarfile.TarFile, name: str, content: bytes) -> None:
    """Add a member."""
    member = tarfile.TarInfo(name)
    member.size = len(content)
    archive.addfile(member, io.BytesIO(content))


def write_shard(path: Path, numbers: range, side: int, *, cut: bool) -> None:
    """Write an archive of images with captions, and its faulty members."""
    with tarfile.open(path, "w") as archive:
        for number in numbers:
            add(archive, f"{number:07d}.jpg", image(number, side))
            add(archive, f"{number:07d}.txt", f"image {number}".encode())
        first = numbers[0]
        add(archive, f"{first:07d}.jpg", image(-first - 1 + 2**31, side))  # a repeated key
        broken = image(first, side)
        add(archive, "broken.jpg", broken[: len(broken) * 3 // 4])
        add(archive, "none.json", b"{}")
    if cut:
        content = path.read_bytes()
        path.write_bytes(content[: content.rindex(b"broken.jpg") + 600])


class Handler(BaseHTTPRequestHandler):
    """Server of a folder behind a redirect, which fails at some first requests."""

    def do_HEAD(self) -> None:
        """Headers only."""
        self._answer(body=False)

    def do_GET(self) -> None:
        """The whole file, or a fault."""
        self._answer(body=True)

    def _answer(self, *, body: bool) -> None:
        server = self.server
        assert isinstance(server, Server)
        if self.path.startswith("/to/"):
            self.send_response(302)
            self.send_header("Location", self.path.removeprefix("/to"))
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        path = server.folder / self.path.lstrip("/")
        content = path.read_bytes()
        server.requests[self.path] += body
        number, is_first = int(path.stem), body and server.requests[self.path] == 1
        if is_first and number % 5 == 1:
            server.faults["503"] += 1
            self.send_response(503)
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        self.send_response(200)
        self.send_header("Content-Length", str(len(content)))
        self.send_header("Accept-Ranges", "none")
        self.end_headers()
        if is_first and number % 5 == 2:
            server.faults["half a file"] += 1
            content = content[: len(content) // 2]
            self.close_connection = True
        if body:
            self.wfile.write(content)

    def log_message(self, *_: object) -> None:
        """Print nothing."""


class Server(ThreadingHTTPServer):
    """Server with the folder, its requests, and the faults that it made."""

    daemon_threads = True

    def __init__(self, folder: Path) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.folder = folder
        self.requests: Counter[str] = Counter()
        self.faults: Counter[str] = Counter()
        threading.Thread(target=self.serve_forever, daemon=True).start()


@dataclass(frozen=True, kw_only=True)
class Trial:
    """One command."""

    seconds: float
    rate: float
    """Images/s between the first and the last finished shard."""
    megabytes: float
    """Largest peak of resident memory of a process."""
    content: str
    """Hash over names and bytes of all outputs."""
    files: int


@dataclass(frozen=True, kw_only=True)
class Bench:
    """Settings of all trials."""

    folder: Path
    server: Server
    side: int
    per_shard: int
    keep: int

    def command(self, name: str, shards: int, processes: int) -> list[str]:
        """Command that encodes the first shards into a folder."""
        url = f"http://127.0.0.1:{self.server.server_port}/to/{{0000..{shards - 1:04d}}}.tar"
        options = {
            "data.path": self.folder / name / "images",
            "cache.folder": self.folder / name / "caches",
            "data.resolution": self.side,
            "data.views": 1,
            "data.max-lost-share": 0.5,
            "shards.source": url,
            "shards.keep": self.keep,
            "train.device": "cpu",
            "processes": processes,
        }
        words = [word for key, value in options.items() for word in (f"--{key}", str(value))]
        return [sys.executable, "-m", "pippin", "data", "prepare", RECIPE, *words]

    def run(self, name: str, shards: int, processes: int) -> Trial:
        """Run the command to its end."""
        self.server.requests.clear()
        start = time.perf_counter()
        log = (self.folder / f"{name}.log").open("wb")
        running = subprocess.Popen(
            self.command(name, shards, processes), stdout=log, stderr=log, start_new_session=True
        )
        _, status, usage = os.wait4(running.pid, 0)
        seconds = time.perf_counter() - start
        if status:
            sys.exit(f"the command failed: see {self.folder / f'{name}.log'}")
        times = sorted(path.stat().st_mtime for path in self.records(name))
        span = times[-1] - times[0]
        trial = Trial(
            seconds=seconds,
            rate=(len(times) - 1) * self.per_shard / span if span else 0.0,
            megabytes=usage.ru_maxrss / 1024,
            content=content(self.folder / name),
            files=sum(path.is_file() for path in (self.folder / name).rglob("*")),
        )
        shutil.rmtree(self.folder / name / "caches")
        return trial

    def records(self, name: str) -> list[Path]:
        """Records of finished shards."""
        return list((self.folder / name / "caches").glob("*/shard-?????.json"))

    def kill(self, name: str, shards: int, processes: int) -> set[str]:
        """Kill the command in the middle; returns the shards that are finished."""
        self.server.requests.clear()
        running = subprocess.Popen(
            self.command(name, shards, processes),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        while len(self.records(name)) < max(1, int(KILL_AFTER * shards)):
            if running.poll() is not None:
                sys.exit("the command ended before it was killed")
            time.sleep(0.02)
        os.killpg(running.pid, signal.SIGKILL)
        running.wait()
        return {path.name for path in self.records(name)}


def show(name: str, trial: Trial) -> None:
    """Print one line."""
    print(
        f"{name}: {trial.seconds:.1f} s, {trial.rate:.0f} images/s once started, "
        f"{trial.megabytes:.0f} MB, {trial.files} files, content {trial.content}",
        flush=True,
    )


def main() -> int:
    """Run all trials."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--folder", type=Path, required=True, help="new folder of all files")
    parser.add_argument("--images", type=int, default=2000)
    parser.add_argument("--shards", type=int, default=20)
    parser.add_argument("--side", type=int, default=32, help="pixels")
    parser.add_argument("--keep", type=int, default=100, help="--shards.keep")
    parser.add_argument("--processes", type=int, nargs="+", default=[1, 2, 4])
    options = parser.parse_args()
    served = options.folder / "shards"
    served.mkdir(parents=True)
    per_shard = options.images // options.shards
    for number in range(options.shards):
        numbers = range(number * per_shard, (number + 1) * per_shard)
        is_last = number == options.shards - 1
        write_shard(served / f"{number:04d}.tar", numbers, options.side, cut=is_last)
    bench = Bench(
        folder=options.folder,
        server=Server(served),
        side=options.side,
        per_shard=per_shard,
        keep=options.keep,
    )
    small = bench.run("tenth", max(2, options.shards // 10), 1)
    show("a tenth of the shards, 1 process", small)
    trials = {}
    for processes in options.processes:
        trials[processes] = bench.run(f"p{processes}", options.shards, processes)
        show(f"all shards, {processes} processes", trials[processes])
    finished = bench.kill("killed", options.shards, 2)
    resumed = bench.run("killed", options.shards, 2)
    requested = {f"shard-0{path[1:5]}.json" for path, n in bench.server.requests.items() if n}
    show(f"kill -9 after {len(finished)} shards, again with 2 processes", resumed)
    print(f"finished shards that were requested again: {len(finished & requested)}")
    print(f"faults of the server: {dict(bench.server.faults)}")
    print((bench.folder / "p1/images/.parts/summary.txt").read_text().strip())
    contents = {trial.content for trial in (*trials.values(), resumed)}
    share = small.megabytes / next(iter(trials.values())).megabytes
    print(f"{len(contents)} content; memory of a tenth / of all: {share:.2f}")
    return 0 if len(contents) == 1 and share >= MIN_MEMORY_SHARE else 1


if __name__ == "__main__":
    sys.exit(main())
