"""`evaluate.py average`: the mean of trained networks."""

import pytest
import torch

import evaluate
from inference.weights import load_network
from samples.splits import make_manifest, read_manifest, write_manifest


@pytest.fixture
def two(make_model, tmp_path):
    """Two weights folders whose networks differ in every number."""
    folders = [tmp_path / name for name in "ab"]
    for number, folder in enumerate(folders):
        model = make_model()
        with torch.no_grad():
            for value in model.network.state_dict().values():
                value.fill_(3 * number)
        model.save(folder)
    return list(map(str, folders))


def average(*folders, output):
    evaluate.main(["average", *folders, "--output", str(output)])
    return load_network(output).state_dict().values()


def test_every_number_is_the_mean(two, tmp_path, capsys):
    assert all((value == 1.5).all() for value in average(*two, output=tmp_path / "c")
               if value.is_floating_point())  # fmt: skip
    assert "the mean of 2 networks. Nobody knows its training files" in capsys.readouterr().out
    for value in average(two[0], *two, output=two[0]):  # the first twice, and written over it
        assert (value == 1).all()


def test_the_mean_lists_the_training_files_of_all(two, photos, tmp_path):
    for folder, files in zip(two, (photos[:2], photos[1:4])):
        write_manifest(make_manifest(photos=files), f"{folder}/trained_on.json")
    average(*two, output=tmp_path / "c")
    assert read_manifest(tmp_path / "c/trained_on.json") == make_manifest(photos=photos[:4])
    (tmp_path / "b/trained_on.json").unlink()
    average(*two, output=tmp_path / "c")
    assert not (tmp_path / "c/trained_on.json").exists()


def test_different_networks_and_a_single_one_are_refused(two, make_model, tmp_path):
    make_model(decoder_channels=(24, 16, 16, 8)).save(tmp_path / "other")
    with pytest.raises(SystemExit, match="Only weights of the same network have a mean"):
        average(two[0], str(tmp_path / "other"), output=tmp_path / "c")
    with pytest.raises(SystemExit, match=r"No config\.json in "):
        average(two[0], str(tmp_path / "missing"), output=tmp_path / "c")
    assert not (tmp_path / "c").exists()
    with pytest.raises(SystemExit, match="A mean needs two folders or more, but only "):
        average(two[0], output=tmp_path / "c")
