# SPDX-License-Identifier: Apache-2.0
"""Words that ask for help, and the examples that end the help of each verb."""

HELP = ("-h", "--help", "--help-all")
"""Words that ask for help; ``--help-all`` lists all options where ``--help`` lists common ones."""
SHARED_FLAGS = ("--quiet", "--verbose", "--offline")
"""Flags of every verb: hide progress; show more of it; download nothing."""
EXAMPLES: dict[str, tuple[str, ...]] = {
    "demo": ("pippin demo --folder runs/demo",),
    "data": (
        "pippin data check photos",
        "pippin data prepare folder/mmdit-disentangled --data.path photos --processes 2",
    ),
    "show": (
        "pippin show openmoji/mmdit-disentangled",
        "pippin show openmoji/mmdit-disentangled --yaml > mine.yaml",
    ),
    "fetch": (
        "pippin fetch folder/mmdit-b-256-text --list",
        "pippin fetch paper/mmdit-256-disentangled --to models",
    ),
    "plan": ("pippin plan folder/mmdit-b-256 --devices 8 --device h100 --images 1000000",),
    "train": (
        "pippin train openmoji/mmdit-disentangled --train.images 20000 --folder runs/first",
        "pippin train --config mine.yaml --train.batch-size 64 --resume",
    ),
    "sample": (
        'pippin sample --prompts "smiling cat" --seeds 0:4',
        "pippin sample runs/first --labels 0 1 2 --seeds 0:12 --control.flip",
    ),
    "play": (
        "pippin play",
        "pippin play pippin/openmoji-mmdit-disentangled pippin/openmoji-mmdit-entangled",
    ),
    "evaluate": (
        "pippin evaluate runs/first --parts held-out quality --num-samples 500",
        "pippin evaluate images --data.path photos --out measures.jsonl",
    ),
    "average": ("pippin average runs/first --sigma-rel 0.08 0.12",),
    "reference": ("pippin reference photos --out photos.npz --resolution 256",),
    "convert": ("pippin convert DiT-XL-2-256x256.pt models/dit-xl --from dit",),
    "export": (
        "pippin export runs/first models/first --dtype float16",
        "pippin export runs/first pipelines/first --to diffusers",
    ),
    "push": (
        "pippin push runs/first ada/emoji-first --license cc-by-sa-4.0 --dry-run",
        "pippin push runs/first ada/emoji-first --license cc-by-sa-4.0 --private",
    ),
    "bench": (
        "pippin bench openmoji/mmdit-disentangled --bench.compile --out bench.json",
        "pippin bench --scaling --out scaling.json --page scaling.html",
    ),
    "report": (
        "pippin report runs/first",
        "pippin report studies/control-gates studies/control --out both.html",
    ),
    "study": ("pippin study list", "pippin study run control-gates --scale cpu --seeds 0:3"),
    "autoencoder": (
        "pippin autoencoder train --data.path photos --out models/autoencoder --resume",
        "pippin autoencoder measure --autoencoder.source models/autoencoder",
    ),
    "runs": ("pippin runs", "pippin runs studies/control-gates"),
    "cache": ("pippin cache list", "pippin cache clear --unused"),
    "completion": ("pippin completion bash > pippin.bash", "pippin completion zsh > _pippin"),
}
"""Verb -> commands that can be typed as they stand, but for the user's own folders."""


def examples_text(verb: str) -> str:
    """Examples of a verb, one per line."""
    lines = EXAMPLES[verb]
    title = "example" if len(lines) == 1 else "examples"
    return "\n".join(["", f"{title}:", *(f"  {line}" for line in lines)])
