"""Uploading a bundle, against a stand-in of the hub's HTTP API on this machine."""

import base64
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest


class Hub(ThreadingHTTPServer):
    """What the client sees of the hub: repositories that are made, listed and committed to."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Answers)
        self.repos: dict[str, dict[str, bytes]] = {}
        self.made: list[dict[str, Any]] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class Answers(BaseHTTPRequestHandler):
    """One request of the client."""

    server: Hub

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing."""

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if not self._is_known():
            return None
        if self.path == "/api/repos/create":
            asked = json.loads(body)
            self.server.made.append(asked)
            name = f"{asked.get('organization', 'me')}/{asked['name']}"
            self.server.repos.setdefault(name, {".gitattributes": b"", "old.txt": b"of an older board"})
            return self._send({"url": f"{self.server.url}/spaces/{name}", "name": name, "id": "1"})
        if self.path == "/api/validate-yaml":
            return self._send({"warnings": [], "errors": []})
        name = self.path.split("/api/spaces/")[1].rsplit("/", 2)[0]
        if "/preupload/" in self.path:
            as_text = {"uploadMode": "regular", "shouldIgnore": False}
            return self._send({"files": [{"path": one["path"]} | as_text for one in json.loads(body)["files"]]})
        for line in body.decode().splitlines():
            part = json.loads(line)
            if part["key"] == "file":
                content = base64.b64decode(part["value"]["content"])
                self.server.repos[name][part["value"]["path"]] = content
            elif part["key"] == "deletedFile":
                del self.server.repos[name][part["value"]["path"]]
        url = f"{self.server.url}/spaces/{name}/commit/1"
        return self._send({"commitUrl": url, "commitOid": "1" * 40, "success": True})

    def do_GET(self) -> None:
        if not self._is_known():
            return None
        name = self.path.split("/api/spaces/")[1].split("/revision/")[0].split("/tree/")[0].split("?")[0]
        files = self.server.repos[name]
        if "/tree/" in self.path:
            listed = [
                {"type": "file", "path": path, "size": len(text), "oid": "1" * 40} for path, text in files.items()
            ]
            return self._send(listed)
        self._send({"id": name, "sha": "1" * 40, "siblings": [{"rfilename": path} for path in files]})

    def _is_known(self) -> bool:
        known = self.headers.get("Authorization") == "Bearer hf_right"
        if not known:
            self._send({"error": "Invalid username or password."}, 401)
        return known

    def _send(self, value: Any, status: int = 200) -> None:
        content = json.dumps(value).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        if status == 401:
            self.send_header("X-Error-Message", "Invalid username or password.")
        self.end_headers()
        self.wfile.write(content)


@pytest.fixture
def hub() -> Iterator[Hub]:
    with Hub() as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished bench, as small as one can be: nothing of it is trained here."""
    folder = tmp_path_factory.mktemp("bench")
    kept = Path(__file__).parents[2] / "leaderboard" / "published" / "quick"
    plan = json.loads((kept / "bench.json").read_text())
    (folder / "records").mkdir()
    (folder / "bench.json").write_text(json.dumps(plan | {"seeds": 1, "algorithms": []}))
    for row in ("start", "dpo"):
        name = f"records/{row}-seed0.json"
        (folder / name).write_text((kept / name).read_text())
    return folder


def test_a_board_is_on_the_hub_file_by_file_and_what_is_not_of_it_is_gone(
    hub: Hub, bench: Path, zoo: Any, tmp_path: Path
) -> None:
    told = {"HF_ENDPOINT": hub.url, "HF_TOKEN": "hf_right", "HF_HUB_OFFLINE": "0"}
    zoo("leaderboard", "publish", bench, "board", cwd=tmp_path)
    (tmp_path / "board" / ".env").write_text("HF_TOKEN=secret")
    done = zoo("leaderboard", "publish", bench, "board", "--to-hub", "me/board", cwd=tmp_path, **told)
    (tmp_path / "board" / ".env").unlink()
    assert done.returncode == 0, done.stderr
    assert f"on the hub: {hub.url}/spaces/me/board" in done.stdout
    (made,) = hub.made
    assert (made["type"], made["sdk"]) == ("space", "static")
    files = (path for path in (tmp_path / "board").rglob("*") if path.is_file())
    here = {path.relative_to(tmp_path / "board").as_posix(): path.read_bytes() for path in files}
    there = {path: text for path, text in hub.repos["me/board"].items() if path != ".gitattributes"}
    assert there == here
    assert here["README.md"].startswith(b'---\ntitle: "every-algorithm"\nsdk: static\n')


@pytest.mark.parametrize(
    ("told", "message"),
    [
        ({"HF_TOKEN": "hf_wrong", "HF_HUB_OFFLINE": "0"}, "Invalid username or password. Log in by `hf auth login`"),
        ({"HF_TOKEN": "hf_right", "HF_HUB_OFFLINE": "1"}, "HF_HUB_OFFLINE is set"),
    ],
)
def test_a_hub_that_refuses_ends_with_one_message_and_the_bundle_stays(
    hub: Hub, bench: Path, zoo: Any, tmp_path: Path, told: dict[str, str], message: str
) -> None:
    done = zoo(
        "leaderboard", "publish", bench, "board", "--to-hub", "me/board", cwd=tmp_path, HF_ENDPOINT=hub.url, **told
    )
    assert done.returncode == 2
    assert message in done.stderr
    assert done.stderr.count("error:") == 1
    assert (tmp_path / "board" / "bundle.json").is_file()
