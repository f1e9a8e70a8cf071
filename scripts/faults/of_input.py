# SPDX-License-Identifier: Apache-2.0
"""Wrong input, and two processes that use one folder."""

from fault import RECIPE, RESUME, SAMPLE, locked, mistake, train, written

NEVER_DROPPED = [
    *("--conditioning.drop.keep", "1", "--conditioning.drop.control", "0"),
    *("--conditioning.drop.semantic", "0", "--conditioning.drop.both", "0"),
]
MISTAKES = [
    mistake("unknown verb", ["fly"], "unknown verb 'fly'; `pippin --help` lists all", quick=True),
    mistake(
        "unknown option",
        ["train", RECIPE, "--train.lerning-rate", "1"],
        "--train.learning-rate",
        quick=True,
    ),
    mistake(
        "wrong type", ["train", RECIPE, "--train.images", "many"], "train.images.*many", quick=True
    ),
    mistake(
        "impossible number",
        ["train", RECIPE, "--train.batch-size", "0"],
        "train.batch_size must be 1 or more; got 0",
        quick=True,
    ),
    mistake(
        "unknown device of a plan",
        ["plan", RECIPE, "--device", "v100"],
        "no device 'v100'; there are: a100-40, a100-80, h100",
        quick=True,
    ),
    mistake("unknown recipe", ["train", "openmoji/none"], "near it are openmoji/", quick=True),
    mistake(
        "recaption without a captioner",
        ["data", "recaption", "photos", "--column", "caption_x"],
        "give either --captioner MODEL or --captions FILE.jsonl",
        quick=True,
    ),
    mistake(
        "column that cannot hold captions",
        ["data", "recaption", "photos", "--captioner", "x", "--column", "label"],
        "--column must be caption_ and a name of letters.*got 'label'",
        quick=True,
    ),
    mistake(
        "kinds of captions without weights",
        ["train", RECIPE, "--text.captions", "name", "0.5", "caption_x"],
        "give each name once, with its weight",
        quick=True,
    ),
    mistake(
        "unknown study", ["study", "run", "none"], "no study 'none'; `pippin study list` lists all"
    ),
    mistake("missing run folder", ["sample", "nowhere"], "no run folder", quick=True),
    mistake("missing folder", ["evaluate", "nowhere"], "does not exist", quick=True),
    mistake(
        "features of Inception without its weights",
        ["reference", "photos", "--out", "x.npz", "--features", "inception"],
        "features inception and evaluation.inception, a file of its weights, belong together",
        quick=True,
    ),
    mistake(
        "missing reference",
        ["evaluate", "{run}/samples", "--reference", "none.npz"],
        "there is no file none.npz",
        prepare=written("samples/note.txt", b""),
    ),
    mistake(
        "--config of a missing file", ["train", "--config", "none.json"], "none.json", quick=True
    ),
    mistake(
        "--config of garbage",
        ["train", "--config", "{run}/garbage.json"],
        "garbage.json is not JSON",
        prepare=written("garbage.json", b"\xff\x00garbage"),
        quick=True,
    ),
    mistake(
        "--config of another thing",
        ["train", "--config", "{run}/list.json"],
        "list.json must hold a JSON object",
        prepare=written("list.json", b"[1]"),
        quick=True,
    ),
    mistake(
        "--config with an unknown setting",
        ["train", "--config", "{run}/extra.json"],
        "extra.json is not a valid Recipe.*colour",
        prepare=written("extra.json", b'{"colour": 1}'),
        quick=True,
    ),
    mistake(
        "class that does not exist", [*SAMPLE, "--labels", "dog"], "no class 'dog'; there are"
    ),
    mistake("malformed seeds", [*SAMPLE[:2], "--seeds", "4:x"], "seeds must look like 0:64"),
    mistake(
        "crop outside the image",
        [*SAMPLE, "--control.crop-corner", "200", "0", "--control.crop-size", "99", "99"],
        "control: a crop of .* does not lie inside",
    ),
    mistake(
        "unknown autoencoder",
        train("--folder", "{run}-new", "--autoencoder.source", "pippin/none"),
        "no autoencoder 'pippin/none' is shipped",
    ),
    mistake(
        "folder that holds a run",
        train("--folder", "{run}"),
        "already holds a run; resume it with --resume True",
    ),
    mistake(
        "resume with other settings",
        [*RESUME, "--train.learning-rate", "0.5"],
        r"train.learning_rate: 0.001 -> 0.5",
    ),
    mistake("nothing to resume", train("--folder", "{run}-new", "--resume", "True"), "nothing to"),
    mistake(
        "output folder that is a file",
        train("--folder", "{run}/config.json"),
        "a folder is needed, but a file exists there",
    ),
    mistake("output folder that cannot be created", train("--folder", "/proc/none"), "/proc/none"),
    mistake(
        "samples of another protocol",
        [*SAMPLE, "--steps", "3"],
        "sampling.steps: 2 there, 3 here",
    ),
    mistake(
        "control that the model was never trained to be guided by",
        train("--folder", "{run}-new", *NEVER_DROPPED),
        "semantic_scale 2.0 needs .*conditioning.drop.both above 0",
    ),
    mistake(
        "study folder measured as images",
        ["evaluate", "{run}/study"],
        "folder of a study, not of images",
        prepare=written("study/study.json", b"{}"),
    ),
    mistake(
        "missing device",
        train("--folder", "{run}-new", "--train.device", "cuda:9"),
        "cuda:9",
    ),
]

TWO = [
    mistake(
        "two trainings in one run folder",
        RESUME,
        "is in use by another pippin process",
        prepare=locked(""),
    ),
    mistake(
        "two studies in one folder",
        ["demo", "--folder", "{run}/study"],
        "is in use by another pippin process",
        prepare=locked("study"),
    ),
    mistake(
        "two samplings into one folder",
        SAMPLE,
        "is in use by another pippin process",
        prepare=locked("samples"),
    ),
    mistake(
        "two evaluations of one run",
        ["evaluate", "{run}"],
        "is in use by another pippin process",
        prepare=locked("evaluation"),
    ),
    mistake(
        "two trainings of one autoencoder",
        ["autoencoder", "train", "--out", "{run}/autoencoder", "--train.device", "cpu"],
        "is in use by another pippin process",
        prepare=locked("autoencoder/run"),
    ),
]
