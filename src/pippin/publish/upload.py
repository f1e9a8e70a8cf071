# SPDX-License-Identifier: Apache-2.0
"""Upload of an exported folder to the hub, as one commit.

The token is found by the hub's own client (``hf auth login`` or ``HF_TOKEN``). No function here
reads it except to test that there is one and to remove it from messages.
"""

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pippin.encoders.hub_files import hub_errors, without_token
from pippin.encoders.snapshots import SnapshotError
from pippin.runs.exports import AUTOENCODER_FOLDER, TEXT_FOLDER, TOKENIZER_FOLDER
from pippin.runs.hub_source import check_hub_name
from pippin.system.offline import is_offline, offline_reason, online_advice
from pippin.system.text import printable

MAIN = "main"
INITIAL_FILES = {".gitattributes", "README.md", "LICENSE"}
"""Files of a model that somebody has just created on the hub."""
OWNED = re.compile(
    rf"({AUTOENCODER_FOLDER}|({TEXT_FOLDER}|{TOKENIZER_FOLDER})(_\d+)?)/.*|inputs\.json|samples\.png"
)
"""Files that an export may have, and that a later export may lack."""
MAX_REASON = 300
"""Maximum number of characters of the hub's own words in a message."""
LOGIN = "log in with `hf auth login`, or set HF_TOKEN"


@dataclass(frozen=True, kw_only=True)
class UploadTarget:
    """Branch of a model on the hub."""

    name: str
    """USER/NAME."""
    revision: str = MAIN
    exists: bool
    """Whether the model exists."""
    branch_exists: bool
    commit: str | None = None
    """Last commit of the branch, or of main for a branch that is yet to be created."""
    files: tuple[str, ...] = ()
    """Files of that commit."""


@dataclass(frozen=True, kw_only=True)
class Uploaded:
    """An upload."""

    url: str
    commit: str


def check_target(name: str, revision: str | None, *, update: bool) -> UploadTarget:
    """Look a model up on the hub, before anything is computed or sent.

    Args:
        name: USER/NAME.
        revision: branch; None = main.
        update: whether a branch with a model may get another commit.

    Raises:
        ValueError: a wrong name, offline, no token, no access, no network, or a name that is
            taken; the message says what to type.
    """
    check_hub_name(name)
    _check_login()
    from huggingface_hub import HfApi
    from huggingface_hub.errors import RepositoryNotFoundError

    api, branch = HfApi(), revision or MAIN
    with _upload_errors(name):
        try:
            info = api.model_info(name)
        except RepositoryNotFoundError as error:
            if _status(error) != 404:  # 401: the token is wrong
                raise
            return UploadTarget(name=name, revision=branch, exists=False, branch_exists=False)
        branches = {ref.name: ref.target_commit for ref in api.list_repo_refs(name).branches}
        if branch in branches and branch != MAIN:
            info = api.model_info(name, revision=branch)
    files = tuple(entry.rfilename for entry in info.siblings or ())
    # A branch of main's commit holds nothing of its own, as after a failed upload.
    is_new = branch != MAIN and branches.get(branch) in (None, branches.get(MAIN))
    if not is_new and set(files) - INITIAL_FILES and not update:
        raise ValueError(
            f"{name} is taken: its branch {branch} holds {len(files)} files. Give another name; "
            "or, if it is yours, add a commit with --update, or keep both versions with "
            "--revision BRANCH"
        )
    return UploadTarget(
        name=name,
        revision=branch,
        exists=True,
        branch_exists=branch in branches,
        commit=info.sha,
        files=files,
    )


def _check_login() -> None:
    from huggingface_hub import constants, get_token

    if is_offline():
        raise ValueError(
            f"{offline_reason()}, and pippin push uploads: type it where there is a network, and "
            f"{online_advice()}; --dry-run prepares the files without a network"
        )
    if get_token() is None:
        raise ValueError(
            f"no token of the hub is on this machine: {LOGIN}; a token with write access comes "
            f"from {constants.ENDPOINT}/settings/tokens"
        )


def stale_files(target: UploadTarget, names: Sequence[str]) -> list[str]:
    """Files of an earlier export on the branch that the new one lacks, and that would be read."""
    return sorted({name for name in target.files if OWNED.fullmatch(name)} - set(names))


def upload(folder: Path, target: UploadTarget, *, private: bool) -> Uploaded:
    """Create the model and its branch where they are missing, and add the folder as one commit.

    Content that the hub has already is not sent again, so a failed upload continues. Files appear
    all at once, and only on the commit that :func:`check_target` saw.

    Args:
        folder: an exported folder with its card.
        target: where it goes.
        private: visibility of a new model; an existing one keeps its own.

    Raises:
        ValueError: as :func:`check_target`; no right to write, or another upload came between.
    """
    from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi

    api, names = HfApi(), folder_files(folder)
    added = [CommitOperationAdd(path_in_repo=n, path_or_fileobj=folder / n) for n in names]
    removed = [CommitOperationDelete(path_in_repo=n) for n in stale_files(target, names)]
    with _upload_errors(target.name):
        if not target.exists:
            api.create_repo(target.name, private=private)
        if not target.branch_exists and target.revision != MAIN:
            api.create_branch(target.name, branch=target.revision)
        info = api.create_commit(
            target.name,
            [*added, *removed],
            commit_message="Upload a model with pippin push",
            revision=target.revision,
            parent_commit=target.commit,
        )
    return Uploaded(url=f"{api.endpoint}/{target.name}", commit=str(info.oid))


def folder_files(folder: Path) -> list[str]:
    """Names of all files of a folder, relative to it, in order; hidden files are left out."""
    files = (path.relative_to(folder) for path in folder.rglob("*") if path.is_file())
    return sorted(
        path.as_posix() for path in files if not any(part.startswith(".") for part in path.parts)
    )


@contextmanager
def _upload_errors(name: str) -> Iterator[None]:
    """Convert errors of the hub's client to messages for an upload.

    Raises:
        ValueError: in their place.
    """
    from huggingface_hub.errors import HfHubHTTPError

    try:
        with hub_errors(name, None):
            try:
                yield
            except (HfHubHTTPError, RuntimeError) as error:  # threads of the client wrap errors
                if (message := _refusal(name, _status(error))) is None:
                    raise
                raise ValueError(message + _reason(error)) from error
    except SnapshotError as error:
        text = str(error).replace("could not be fetched", "could not be pushed")
        raise ValueError(f"{name} {text}") from error
    except ValueError as error:
        message = without_token(str(error))
        if "Invalid metadata in README.md" in message:
            message = f"{_refusal(name, 400)} ({' '.join(message.split())})"
        raise ValueError(message) from error


def _refusal(name: str, status: int | None) -> str | None:
    """Message of a refused upload; None for a status that means the same in a download."""
    from huggingface_hub import constants

    tokens = f"{constants.ENDPOINT}/settings/tokens"
    user = name.partition("/")[0]
    if status == 401:
        return f"the hub refuses the token (status 401): it is wrong or has expired; {LOGIN}"
    if status == 403:
        return (
            f"the token may not write to {name} (status 403): make one with write access at "
            f"{tokens} and {LOGIN}; or push to your own user name or an organisation of yours, "
            f"if {user} is not one"
        )
    if status == 404:
        return (
            f"{name} is not on the hub, or the token does not see it (status 404): check that "
            f"{user} is your user name or an organisation of yours (`hf auth whoami`)"
        )
    if status in (409, 412):
        return (
            f"{name} was created or changed meanwhile (status {status}): type the command again, "
            "with --update if the model is yours, or give another name"
        )
    if status == 400:
        return (
            f"the hub refuses the files of {name} (status 400): the licence may be unknown to it; "
            "give --license other --license-link URL, and look at the model card with --dry-run"
        )
    return None


def _reason(error: Any) -> str:
    """The hub's own words on a refusal, such as a full storage; empty without any."""
    words = (getattr(source, "server_message", None) for source in (error, error.__cause__))
    said = printable(next(filter(None, words), ""))
    return f"; the hub says: {' '.join(said.split())[:MAX_REASON]}" if said else ""


def _status(error: Any) -> int | None:
    """Status of the answer that an error, or its cause, comes from; None without an answer."""
    answers = (getattr(source, "response", None) for source in (error, error.__cause__))
    return next((answer.status_code for answer in answers if answer is not None), None)
