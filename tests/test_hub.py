"""Loading a model by name from a fake Hub cache, and uploading it to a fake Hub."""

import json
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from huggingface_hub import HfApi, constants

from model import WatermarkSegmenter

COMMITS = {"main": "1" * 40, "v1": "2" * 40}


def first_weights(model) -> torch.Tensor:
    return next(model.network.parameters())


@pytest.fixture
def hub(tmp_path, monkeypatch, make_model):
    """A Hub cache that holds two commits of owner/marks, as a download writes them."""
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    root = tmp_path / "hub" / "models--owner--marks"
    for branch, commit in COMMITS.items():
        model, folder = make_model(), root / "snapshots" / commit
        torch.nn.init.constant_(first_weights(model), float(branch == "main"))
        model.save(tmp_path / branch, half=branch == "v1")
        for path in (root / "refs", root / "blobs", folder):
            path.mkdir(parents=True, exist_ok=True)
        (root / "refs" / branch).write_text(commit)
        for file in (tmp_path / branch).iterdir():
            blob = file.rename(root / "blobs" / f"{commit}-{file.name}")
            (folder / file.name).symlink_to(Path("../../blobs") / blob.name)
    return root


@pytest.mark.parametrize("revision, value", [(None, 1), ("v1", 0), (COMMITS["v1"], 0)])
def test_a_name_loads_from_the_cache_without_a_network(hub, revision, value):
    model = WatermarkSegmenter.from_pretrained("owner/marks", revision=revision)
    assert (first_weights(model) == value).all()


def test_a_folder_loads_like_load_does(tmp_path, make_model):
    model = make_model().eval()
    model.save(tmp_path)
    loaded = WatermarkSegmenter.from_pretrained(tmp_path, learning_rate=0.5)
    image = torch.zeros(1, 3, 32, 32)
    assert torch.equal(loaded(image)[0], model(image)[0])
    assert loaded.hparams.learning_rate == 0.5 and not loaded.training


@pytest.mark.parametrize("name", ["owner/unknown", "not/a/name"])
def test_a_name_that_is_not_found_is_an_error(hub, name):
    with pytest.raises((FileNotFoundError, ValueError), match=r"on the Hub|Repo id must be"):
        WatermarkSegmenter.from_pretrained(name)


def test_push_uploads_what_save_writes(monkeypatch, tmp_path, make_model):
    uploaded = {}

    def upload(self, repo_id, folder_path, **options):
        uploaded.update({path.name: path.read_bytes() for path in Path(folder_path).iterdir()})
        return f"commit of {repo_id}"

    monkeypatch.setattr(
        HfApi, "create_repo", lambda self, repo_id, **options: SimpleNamespace(repo_id=repo_id)
    )
    monkeypatch.setattr(HfApi, "upload_folder", upload)
    model = make_model()
    assert model.push_to_hub("owner/marks", private=True) == "commit of owner/marks"
    model.save(tmp_path)
    assert {path.name: uploaded[path.name] for path in tmp_path.iterdir()} == {
        path.name: path.read_bytes() for path in tmp_path.iterdir()
    }
    assert json.loads(uploaded["config.json"])["format"] == "watermark-segmentation"
