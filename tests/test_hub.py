"""Models by name: from a local stand-in of the hub's cache, and to a stand-in of its upload."""

from pathlib import Path

import pytest
import torch
from huggingface_hub import constants

from inference import saved
from model import WatermarkSegmenter

COMMITS = {"main": "1" * 40, "v1": "2" * 40}


def first_weights(model) -> torch.Tensor:
    return next(model.network.parameters())


@pytest.fixture
def hub(tmp_path, monkeypatch, make_model):
    """The hub's cache with owner/marks: two commits, as a download leaves them."""
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    root = tmp_path / "hub" / "models--owner--marks"
    for branch, commit in COMMITS.items():
        model, folder = make_model(), root / "snapshots" / commit
        torch.nn.init.constant_(first_weights(model), float(branch == "main"))
        model.save(tmp_path / branch)
        for path in (root / "refs", root / "blobs", folder):
            path.mkdir(parents=True, exist_ok=True)
        (root / "refs" / branch).write_text(commit)
        for file in (tmp_path / branch).iterdir():
            blob = file.rename(root / "blobs" / f"{commit}-{file.name}")
            (folder / file.name).symlink_to(Path("../../blobs") / blob.name)
    return root


def test_errors_without_a_text_are_named():
    assert saved._reason(OSError()) == "OSError: "


def test_a_name_loads_from_the_cache_without_a_network(hub):
    assert (first_weights(WatermarkSegmenter.from_pretrained("owner/marks")) == 1).all()


@pytest.mark.parametrize("revision", ["v1", COMMITS["v1"]])
def test_revision_is_a_branch_or_a_commit(hub, revision):
    model = WatermarkSegmenter.from_pretrained("owner/marks", revision=revision)
    assert (first_weights(model) == 0).all()


def test_a_folder_loads_like_load_does(tmp_path, make_model):
    model = make_model().eval()
    model.save(tmp_path)
    loaded = WatermarkSegmenter.from_pretrained(tmp_path, learning_rate=0.5)
    image = torch.zeros(1, 3, 32, 32)
    assert torch.equal(loaded(image)[0], model(image)[0])
    assert loaded.hparams.learning_rate == 0.5 and not loaded.training


@pytest.mark.parametrize(
    "name, revision, message",
    [
        ("owner/unknown", None, "owner/unknown is no folder here.*hf download owner/unknown"),
        ("owner/marks", "v9", "owner/marks is no folder here, nor can it be had from the hub"),
        ("not/a/name", None, "not/a/name is no folder here.*Repo id must be"),
    ],
)
def test_a_name_that_cannot_be_had_says_what_to_do(hub, name, revision, message):
    with pytest.raises((FileNotFoundError, ValueError), match=message):
        WatermarkSegmenter.from_pretrained(name, revision)


def test_a_local_folder_has_no_revision(tmp_path):
    with pytest.raises(ValueError, match="is a local folder, which has no revision v1"):
        WatermarkSegmenter.from_pretrained(tmp_path, "v1")


def test_a_download_without_weights_is_explained(hub):
    (hub / "snapshots" / COMMITS["main"] / "model.safetensors").unlink()
    with pytest.raises(FileNotFoundError, match=r"No model.safetensors in"):
        WatermarkSegmenter.from_pretrained("owner/marks")


class Recorder:
    """In place of the hub's API: keeps what would be uploaded."""

    def __init__(self, token=None):
        self.token = token

    def create_repo(self, name, private, exist_ok):
        Recorder.created = name, private, exist_ok

    def upload_folder(self, repo_id, folder_path, allow_patterns):
        Recorder.files = {path.name: path.read_bytes() for path in Path(folder_path).iterdir()}
        return f"commit of {repo_id}"


def test_push_uploads_what_save_writes(monkeypatch, tmp_path, make_model):
    monkeypatch.setattr(saved, "HfApi", Recorder)
    model = make_model()
    assert model.push_to_hub("owner/marks", private=True) == "commit of owner/marks"
    model.save(tmp_path)
    assert Recorder.created == ("owner/marks", True, True)
    assert Recorder.files == {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    assert sorted(Recorder.files) == ["config.json", "model.safetensors"]


def test_push_without_a_network_says_what_to_do(make_model):
    with pytest.raises(ConnectionError, match=r"owner/marks cannot be uploaded .*hf auth login"):
        make_model().push_to_hub("owner/marks")
