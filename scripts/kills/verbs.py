# SPDX-License-Identifier: Apache-2.0
"""All verbs that write, in small configurations for repeated kills."""

import io
import random
import runpy
import sys
import tarfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

TESTS = Path(__file__).parents[2] / "tests"
OPTIONS = [
    *("--data.resolution", "32", "--data.views", "2", "--data.max-pictures", "96"),
    *("--cache.shard-size", "16", "--denoiser.depth", "1", "--denoiser.width", "16"),
    *("--denoiser.num-heads", "2", "--denoiser.patch-size", "4", "--train.device", "cpu"),
    *("--train.batch-size", "16", "--train.images", "800", "--train.checkpoint-every", "80"),
    *("--train.preview-every", "400", "--train.validate-every", "400", "--sampling.steps", "2"),
    *("--train.workers", "2", "--train.log-every", "80", "--evaluation.num-samples", "32"),
    *("--evaluation.input-size", "32", "--evaluation.drift-pairs", "3"),
    *("--evaluation.kid-subset-size", "16"),
]
RECIPE = "openmoji/mmdit-disentangled"
TORCHRUN = ["--standalone", "--nproc-per-node", "2", "-m", "pippin"]
Work = Callable[[], int]


@dataclass(frozen=True, kw_only=True)
class Verb:
    """One verb.

    Every trial runs in a new folder; :func:`make_inputs` created ``inputs``.
    """

    call: Callable[[Path], Work]
    """Inputs -> the work, which starts or resumes in the working directory."""
    copies: tuple[str, ...] = ()
    """Inputs that the work modifies: copied into the working directory."""
    refuses: str = ""
    """Message, with exit code 2, if the output exists already."""
    kinds: tuple[str, ...] = ("parent", "child", "group")
    own_words: bool = True
    """Whether only pippin prints; torchrun prints a traceback when a rank dies."""


def command(*arguments: str) -> Work:
    """Run a command line in this process."""

    def work() -> int:
        from pippin.cli.main import main

        return main(list(arguments))

    return work


def by_torchrun(*arguments: str) -> Work:
    """Run a command line in two ranks of torchrun."""

    def work() -> int:
        from torch.distributed.run import main

        main([*TORCHRUN, *arguments])
        return 0

    return work


def train(inputs: Path) -> Work:
    """Train or resume, with latents cached already."""
    place = ["--folder", "run", "--resume", "auto", "--cache.folder", str(inputs / "caches")]
    return command("train", RECIPE, *OPTIONS, *place)


def study(inputs: Path) -> Work:
    """Run a study of two arms and one seed in two concurrent processes."""

    def work() -> int:
        from pippin.cli.main import RESUMABLE
        from pippin.recipes.openmoji import mmdit_demo
        from pippin.studies.execution import execute
        from pippin.studies.executors import LocalExecutor
        from pippin.studies.runner import run_study
        from pippin.studies.shipped.demo import demo_study
        from pippin.system.signals import signals_interrupt

        base = mmdit_demo()
        base = replace(
            base,
            data=replace(base.data, resolution=32, views=2, max_pictures=96),
            cache=replace(base.cache, folder=str(inputs / "caches"), shard_size=16),
            denoiser=replace(base.denoiser, depth=1, width=16, num_heads=2),
            train=replace(
                base.train,
                images=800,
                batch_size=16,
                checkpoint_every=80,
                device="cpu",
                workers=1,
            ),
            sampling=replace(base.sampling, steps=2),
            evaluation=replace(
                base.evaluation, num_samples=32, input_size=32, drift_pairs=3, kid_subset_size=16
            ),
        )
        with signals_interrupt():
            done = run_study(
                demo_study(base), Path("study"), execute, print, executor=LocalExecutor(2)
            )
        if done.interrupted:
            return RESUMABLE
        return 1 if "failed" in done.statuses.values() else 0

    return work


VERBS = {
    "import": Verb(
        call=lambda inputs: command(
            *("data", "import", str(inputs / "shards"), "--folder", "photos", "--processes", "2")
        )
    ),
    "prepare": Verb(
        call=lambda inputs: command(
            *("data", "prepare", RECIPE, *OPTIONS, "--cache.folder", "caches"),
            *("--data.views", "12", "--processes", "2", "--train.workers", "1"),
        )
    ),
    "recaption": Verb(
        call=lambda inputs: command(
            *("data", "recaption", "photos", "--column", "caption_blip", "--device", "cpu"),
            *("--captioner", str(inputs / "blip"), "--batch-size", "2", "--max-tokens", "12"),
        ),
        copies=("photos",),
        kinds=("parent", "group"),
    ),
    "autoencoder": Verb(
        call=lambda inputs: command(
            *("autoencoder", "train", "--out", "autoencoder", "--resume", "True"),
            *("--train.images", "384", "--train.batch-size", "16", "--train.device", "cpu"),
            *("--train.block-channels", "8", "8", "--train.log-every", "64"),
            *("--train.checkpoint-every", "64", "--train.norm-groups", "4"),
            *("--data.resolution", "16", "--data.max-pictures", "96"),
        ),
        kinds=("parent", "group"),
    ),
    "train": Verb(call=train),
    "sample": Verb(
        call=lambda inputs: by_torchrun(
            *("sample", str(inputs / "run"), "--out", "samples", "--seeds", "0:256"),
            *("--batch-size", "8", "--sampling.steps", "8"),
        ),
        own_words=False,
    ),
    "evaluate": Verb(call=lambda inputs: command("evaluate", "run"), copies=("run",)),
    "reference": Verb(
        call=lambda inputs: command(
            *("reference", str(inputs / "photos"), "--out", "reference.npz", "--device", "cpu"),
            *("--input-size", "64", "--batch-size", "2"),
        ),
        refuses="must be a new file",
        kinds=("parent", "group"),
    ),
    "study": Verb(call=study),
    "convert": Verb(
        call=lambda inputs: command(
            *("convert", str(inputs / "pipeline"), "model", "--from", "diffusers"),
            *("--autoencoder", "pippin/openmoji-f4"),
        ),
        refuses="is not empty",
        kinds=("parent", "group"),
    ),
    "export": Verb(
        call=lambda inputs: command("export", str(inputs / "run"), "model"),
        refuses="is not empty",
        kinds=("parent", "group"),
    ),
    "export --to diffusers": Verb(
        call=lambda inputs: command(
            "export", str(inputs / "converted"), "model", "--to", "diffusers"
        ),
        refuses="is not empty",
        kinds=("parent", "group"),
    ),
}


def make_inputs(folder: Path) -> None:
    """Create random images, shards, a captioning model and a pipeline."""
    import numpy as np
    import torch
    from diffusers import DDIMScheduler, DiTTransformer2DModel
    from PIL import Image

    sys.path.insert(0, str(TESTS))  # the tiny tokenizer
    runpy.run_path(str(TESTS / "tiny_blip.py"))["save_blip"](folder / "blip")
    sys.path.remove(str(TESTS))
    for number in range(64):
        place = folder / "photos" / ("cat", "dog")[number % 2] / f"{number:02d}.png"
        place.parent.mkdir(parents=True, exist_ok=True)
        noise = np.random.default_rng(number).integers(0, 256, (40, 40, 3), dtype=np.uint8)
        Image.fromarray(noise).save(place)
    (folder / "shards").mkdir()
    for shard in range(4):
        _write_shard(folder / "shards" / f"{shard:05d}.tar", shard)
    torch.manual_seed(0)
    sizes = {"num_attention_heads": 4, "attention_head_dim": 16, "num_layers": 4}
    model = DiTTransformer2DModel(**sizes, sample_size=16, num_embeds_ada_norm=10)
    state = model.state_dict()
    for name in state:  # shared by the published blocks
        if ".norm1.emb." in name:
            state[name] = state[".0.".join((name.split(".")[0], name.split(".", 2)[2]))]
    model.load_state_dict(state)
    model.save_pretrained(folder / "pipeline" / "transformer")
    DDIMScheduler().save_pretrained(folder / "pipeline" / "scheduler")


def _write_shard(path: Path, number: int) -> None:
    from PIL import Image

    draws = random.Random(number)
    with tarfile.open(path, "w") as tar:
        for row in range(200):
            for suffix, content in (("png", _png(Image, draws)), ("txt", f"image {row}".encode())):
                member = tarfile.TarInfo(f"{row:05d}.{suffix}")
                member.size = len(content)
                tar.addfile(member, io.BytesIO(content))


def _png(image: object, draws: random.Random) -> bytes:
    buffer = io.BytesIO()
    image.frombytes("RGB", (24, 24), draws.randbytes(1728)).save(buffer, "PNG")  # type: ignore[attr-defined]
    return buffer.getvalue()
