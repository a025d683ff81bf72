"""Upload a bundle to a Space of Hugging Face, which shows its page."""

from pathlib import Path

from huggingface_hub import HfApi
from huggingface_hub.errors import HfHubHTTPError, HFValidationError, OfflineModeIsEnabled
from zoo_leaderboard.bundle import MANIFEST, read_manifest

from zoo_core.errors import StorageError, first_line


def upload(bundle: Path, name: str) -> str:
    """Make the Space `name` (USER/BOARD) if there is none, upload the bundle, remove what is not of it; return its URL.

    `StorageError` if the hub refuses, or cannot be reached.
    """
    api = HfApi(library_name="rlhf-zoo")
    try:
        url = api.create_repo(name, repo_type="space", space_sdk="static", exist_ok=True)
        api.upload_folder(
            repo_id=name,
            repo_type="space",
            folder_path=bundle,
            allow_patterns=[MANIFEST, *read_manifest(bundle)["files"]],
            delete_patterns="*",
            commit_message="Publish a board of RLHF Zoo",
        )
    except OfflineModeIsEnabled:
        raise StorageError(f"--to-hub {name}: HF_HUB_OFFLINE is set; unset it. The bundle is in {bundle}.") from None
    except HfHubHTTPError as error:
        login = " Log in by `hf auth login`, or set HF_TOKEN." if error.response.status_code in (401, 403) else ""
        said = (error.server_message or first_line(error)).rstrip(".")
        raise StorageError(f"--to-hub {name}: {said}.{login} The bundle is in {bundle}.") from error
    except (HFValidationError, OSError) as error:
        raise StorageError(f"--to-hub {name}: {first_line(error).rstrip('.')}. The bundle is in {bundle}.") from error
    return str(url)
