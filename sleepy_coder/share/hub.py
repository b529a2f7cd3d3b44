"""Uploads to the Hugging Face Hub, or to whatever HF_ENDPOINT names: one commit makes the repository what was exported.

A loader takes what it finds first: an adapter's config beside a whole model, the index of shards that are gone. So the
commit also deletes what an earlier push left, and weights that are not ours are never put beside others.
"""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Collection, Generator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, Final, cast

from sleepy_coder.adapter_manifest import (
    CONFIG,
    MANIFEST,
    PROCESSOR_FILES,
    TOKENIZER_FILES,
    WEIGHTS,
    is_adapter_name,
)
from sleepy_coder.errors import HubError
from sleepy_coder.files import private_folder
from sleepy_coder.journal import alone
from sleepy_coder.share.bundle import Bundle
from sleepy_coder.types import Record

if TYPE_CHECKING:
    from huggingface_hub import HfApi

_LOGIN: Final = "log in with `hf auth login`, or set HF_TOKEN to a token that may write"
_MODEL: Final = "config.json"  # of a whole model, and of no adapter
_BESIDE_MODEL: Final = frozenset((_MODEL, "generation_config.json", *PROCESSOR_FILES, *TOKENIZER_FILES))
_WEIGHTS: Final = re.compile(r"model(-\d+-of-\d+)?\.safetensors|model\.safetensors\.index\.json")
_LOADABLE: Final = frozenset((".safetensors", ".gguf", ".bin", ".pt", ".pth", ".ckpt", ".onnx", ".h5", ".msgpack"))


class Pushed(Record):
    """The commit's URL, None without one; whether everybody sees it, and what of earlier pushes it deleted."""

    url: str | None
    public: bool
    deleted: tuple[str, ...] = ()


def check_name(repo: str) -> None:
    """Raises HubError for what cannot be a repository's name, without asking the Hub."""
    from huggingface_hub.utils import validate_repo_id

    with _explained("", repo):
        validate_repo_id(repo)


def look(repo: str, *, public: bool = False, endpoint: str | None = None) -> tuple[str, ...]:
    """The files that the repository `repo` holds now, none where it has yet to be made. Changes nothing.

    Raises HubError for whatever `push` would be refused for.
    """
    api = _api(endpoint)
    with _explained(api.endpoint, repo):
        return _look(api, repo, public) or ()


def push(bundle: Bundle, repo: str, *, public: bool = False, endpoint: str | None = None) -> Pushed:
    """Upload `bundle` to the model repository `repo` ("user/name"), which is made when it is missing.

    Private unless `public`; one that is there already and is otherwise is refused, and so is one with other people's
    weights. The token is the one of the environment or of `hf auth login`. Raises HubError when there is none or the
    Hub refuses or cannot be reached.
    """
    from huggingface_hub import CommitOperationAdd, CommitOperationDelete

    api = _api(endpoint)
    with _explained(api.endpoint, repo):
        there = _look(api, repo, public)
        if there is None:
            api.create_repo(repo, private=not public, exist_ok=True)
            there = _look(api, repo, public) or ()  # what the Hub made of it
        gone = leftovers(there, bundle)
        done = api.create_commit(
            repo,
            [
                *(CommitOperationAdd(name, bundle.folder / name) for name in bundle.files),
                *(CommitOperationDelete(name, is_folder=False) for name in gone),
            ],
            commit_message=f"{bundle.adapter} ({bundle.form})",
        )
    return Pushed(url=str(done.commit_url), public=public, deleted=gone)


def leftovers(there: Collection[str], bundle: Bundle) -> tuple[str, ...]:
    """Which of the files `there` an earlier push wrote and `bundle` does not: another form's, or another night's."""
    # Beside an adapter alone they are the owner's.
    beside = _BESIDE_MODEL if any(map(_WEIGHTS.fullmatch, there)) else frozenset[str]()

    def ours(name: str) -> bool:
        if name in (CONFIG, WEIGHTS) or name in beside or _WEIGHTS.fullmatch(name):
            return True
        return name.endswith(".gguf") and is_adapter_name(name.removesuffix(".gguf"))

    return tuple(sorted(name for name in there if ours(name) and name not in bundle.files))


@contextmanager
def workroom(state: Path) -> Generator[Path]:
    """A folder in `state` to export to, for as long as this is open: a merged model may be too large for /tmp.

    What a push that was killed left there is removed first. Raises AlreadyRuns while another push is at it.
    """
    private_folder(state)
    room = state / "push"
    with alone(state / "push.lock", "push"):
        shutil.rmtree(room, ignore_errors=True)
        try:
            yield room
        finally:
            shutil.rmtree(room, ignore_errors=True)


def _api(endpoint: str | None) -> HfApi:
    from huggingface_hub import HfApi, get_token

    if get_token() is None:
        raise HubError("there is no token for the Hub", _LOGIN)
    return HfApi(endpoint=endpoint)


def _look(api: HfApi, repo: str, public: bool) -> tuple[str, ...] | None:
    """Its files, None when there is no such repository. Raises HubError when it is not what a push may go to."""
    from huggingface_hub.errors import HfHubHTTPError
    from huggingface_hub.utils import validate_repo_id

    validate_repo_id(repo)
    if repo.count("/") != 1:
        raise HubError(f"{repo!r} cannot be a repository's name", "name it USER/NAME")
    try:
        found = api.model_info(repo)
    except HfHubHTTPError as error:
        if error.response.status_code != 404:
            raise
        return None
    if public and found.private:
        remedy = f"make it public at {api.endpoint}/{repo}/settings first, name another one, or leave out --public"
        raise HubError(f"{repo} is there already, and is private", remedy)
    if not public and not found.private:
        raise HubError(f"{repo} is there already, and is public", "name another one, or say --public")
    files = tuple(file.rfilename for file in found.siblings or ())
    foreign = [name for name in files if name in (_MODEL, CONFIG) or PurePosixPath(name).suffix in _LOADABLE]
    if foreign and not _is_ours(api, repo, files):
        raise HubError(
            f"{repo} holds {foreign[0]}, and was not pushed by sleepy-coder: a loader might take that for the adapter",
            "name another repository, or delete its weights there first",
        )
    return files


def _is_ours(api: HfApi, repo: str, files: Collection[str]) -> bool:
    """Whether an earlier push made the repository: it holds an adapter's manifest."""
    if MANIFEST not in files:
        return False
    with TemporaryDirectory() as cache:
        try:
            file = api.hf_hub_download(repo, MANIFEST, cache_dir=cache)  # pyright: ignore[reportUnknownMemberType]
            said = json.loads(Path(file).read_bytes())
        except ValueError:
            return False
    name = cast("dict[str, Any]", said).get("name") if isinstance(said, dict) else None
    return isinstance(name, str) and is_adapter_name(name)


@contextmanager
def _explained(endpoint: str, repo: str) -> Generator[None]:
    """The library's errors as one of ours."""
    from huggingface_hub.errors import (
        HfHubHTTPError,
        HFValidationError,
        HTTPError,  # pyright: ignore[reportPrivateImportUsage]  (of httpx or httpx2, as the version has it)
        OfflineModeIsEnabled,
    )

    try:
        yield
    except HfHubHTTPError as error:
        status = error.response.status_code
        remedy = _LOGIN if status in (401, 403) else "look at the status of the Hub, and try again"
        raise HubError(f"{endpoint} refused {repo} ({status}): {error.server_message or error}", remedy) from error
    except OfflineModeIsEnabled as error:
        raise HubError("huggingface_hub is in offline mode", "unset HF_HUB_OFFLINE") from error
    except HFValidationError as error:
        raise HubError(f"{repo!r} cannot be a repository's name", "name it USER/NAME") from error
    except (HTTPError, OSError, RuntimeError) as error:  # the last when a large file fails
        reason = error.__cause__ or error
        raise HubError(
            f"{endpoint} cannot be reached ({reason})", "go online, or export and copy the folder"
        ) from error
    except ValueError as error:
        raise HubError(
            f"{endpoint} does not accept the model card: {error}", "set model.hub_id or model.license"
        ) from error
