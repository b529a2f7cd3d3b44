"""Uploads to the Hugging Face Hub, or to whatever HF_ENDPOINT names: one commit with all files of an export."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from typing import Final

from sleepy_coder.errors import HubError
from sleepy_coder.share.bundle import Bundle

_LOGIN: Final = "log in with `hf auth login`, or set HF_TOKEN to a token that may write"


def push(bundle: Bundle, repo: str, *, public: bool = False, endpoint: str | None = None) -> str:
    """Upload `bundle` to the model repository `repo` ("user/name"), which is made when it is missing; the commit's URL.

    Private unless `public`: what is there already in public is refused then. The token is the one of the
    environment or of `hf auth login`. Raises HubError when there is none or the Hub refuses or cannot be reached.
    """
    from huggingface_hub import CommitOperationAdd, HfApi, get_token

    if get_token() is None:
        raise HubError("there is no token for the Hub", _LOGIN)
    api = HfApi(endpoint=endpoint)
    with _explained(api.endpoint, repo):
        api.create_repo(repo, private=not public, exist_ok=True)
        if not public and not api.model_info(repo).private:
            raise HubError(f"{repo} is there already, and is public", "name another one, or say --public")
        done = api.create_commit(
            repo,
            [CommitOperationAdd(name, bundle.folder / name) for name in bundle.files],
            commit_message=f"{bundle.adapter} ({bundle.form})",
        )
    return str(done.commit_url)


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
