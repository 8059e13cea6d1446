"""Trained networks at work: the weights that count come back, and pictures of any kind become what the network knows."""

import dataclasses

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

import unigrid
from unigrid.conv.weights import load_weights
from unigrid.files import FileError
from unigrid.training import ImageData, Split
from unigrid.training.images.inference import load_trained
from unigrid.training.images.pictures import fitted
from unigrid.training.runs import checkpoint
from unigrid.training.runs.checkpoint import CheckpointError

CLASSES = ("cross", "disk", "ring")


@pytest.fixture(scope="module")
def data():
    """Three classes that are told apart by their color, every ninth label wrong; not square, so that axes are not mixed up."""
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(96) % 3
    images = torch.randint(60, (96, 3, 16, 24), generator=generator, dtype=torch.uint8)
    images[torch.arange(96), labels] += 60
    labels[::9] = (labels[::9] + 1) % 3
    split = Split(images, labels)
    return ImageData("colors", split, split, CLASSES, (0.4, 0.3, 0.2), (0.2, 0.3, 0.4))


@pytest.fixture(scope="module")
def run(data, tmp_path_factory):
    """A run whose averaged weights differ from the last ones, and whose best epoch is not the last."""
    folder = tmp_path_factory.mktemp("runs") / "colors"
    choices = {"learning_rate": 0.5, "average": 0.7, "label_smoothing": 0.0, "pad": 0, "mixed_precision": False}
    return unigrid.train(data, "mgnet-4-Bl", epochs=8, batch_size=16, device="cpu", out=folder, validation=24, **choices)


@pytest.fixture
def folder(run):
    return run.runs[0].folder


def equal(found, expected):
    return torch.equal(found.confusion, expected.confusion) and found.loss == expected.loss


class TestLoading:
    def test_it_evaluates_as_its_training_run_did(self, run, folder, data):
        trained = load_trained(folder, device="cpu")
        assert run.test_accuracy > 0.5
        assert equal(trained.evaluate(data), run.runs[0].test)
        assert trained.path == run.checkpoint
        assert (trained.epoch, trained.step) == (8, run.history[-1]["step"])
        assert trained.classes == CLASSES
        assert trained.shape == (3, 16, 24)
        assert trained.configuration == run.configuration
        assert not trained.model.training
        assert repr(trained) == (
            f"TrainedModel(MgNet, {trained.parameters:,} parameters, trained on colors, epoch 8: {run.checkpoint})"
        )

    def test_the_weights_are_the_averaged_ones(self, run, folder):
        trained = load_trained(folder, device="cpu")
        expected = unigrid.create_model("mgnet-4-Bl", num_classes=3)
        load_weights(expected, folder / "weights.safetensors")
        for name, value in expected.state_dict().items():
            assert torch.equal(trained.model.state_dict()[name], value), name
        last = checkpoint.load(run.checkpoint)["model"]
        assert any(not torch.equal(value, last[name]) for name, value in expected.state_dict().items())

    def test_without_an_average_they_are_the_last_ones(self, data, tmp_path):
        result = unigrid.train(data, "mgnet-4-Bl", "paper", epochs=1, batch_size=32, device="cpu", out=tmp_path)
        assert equal(load_trained(tmp_path, device="cpu").evaluate(data), result.runs[0].test)

    def test_the_best_epoch(self, run, folder, data):
        trained = load_trained(folder / "best.pt", device="cpu")
        assert run.runs[0].best_epoch < 8
        assert equal(trained.evaluate(data), run.runs[0].best_test)
        assert (trained.epoch, trained.step) == (run.runs[0].best_epoch, None)

    def test_a_checkpoint_by_its_name(self, run, tmp_path):
        state = checkpoint.load(run.checkpoint)
        checkpoint.save(tmp_path, state, 2)
        state["progress"] |= {"epoch": 1, "step": 1}
        assert load_trained(str(checkpoint.save(tmp_path, state, 1)), device="cpu").epoch == 1
        assert load_trained(tmp_path, device="cpu").epoch == 8

    def test_a_damaged_last_checkpoint_is_told_and_passed_over(self, run, tmp_path, capsys):
        whole = checkpoint.save(tmp_path, checkpoint.load(run.checkpoint), 1)
        damaged = tmp_path / "checkpoint-000000002.pt"
        damaged.write_bytes(whole.read_bytes()[:-1])
        assert load_trained(tmp_path, device="cpu").path == whole
        assert f"unigrid: {damaged}: truncated" in capsys.readouterr().err

    def test_a_network_of_ones_own(self, data, tmp_path):
        class Own(nn.Module):
            def __init__(self):
                super().__init__()
                self.module = nn.Linear(3, 3)  # a name that a wrapper uses, too

            def forward(self, images):
                return self.module(images.mean((2, 3)))

        result = unigrid.train(data, Own(), epochs=1, batch_size=16, device="cpu", out=tmp_path)
        with pytest.raises(CheckpointError, match=r"of its owner's making, Own; .*load_trained\(path, model=\.\.\.\)"):
            load_trained(tmp_path, device="cpu")
        assert equal(load_trained(tmp_path, device="cpu", model=Own()).evaluate(data), result.runs[0].test)
        with pytest.raises(CheckpointError, match=r"checkpoint-\d+\.pt: these 2 tensors do not fit the model's 4"):
            load_trained(tmp_path, device="cpu", model=nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3)))

    def test_several_seeds(self, folder, tmp_path):
        for seed in (0, 1):
            (tmp_path / f"seed-{seed}").mkdir()
        with pytest.raises(CheckpointError, match="the runs of several seeds; give one of seed-0, seed-1 in it"):
            load_trained(tmp_path)

    def test_a_folder_without_a_checkpoint(self, tmp_path):
        with pytest.raises(CheckpointError, match="holds no checkpoint; give the folder of a run"):
            load_trained(tmp_path)

    def test_a_file_that_is_not_there(self, folder):
        with pytest.raises(FileError, match=r"no such file; did you mean 'best\.pt'"):
            load_trained(folder / "bset.pt")

    def test_a_device_that_is_not_there(self, folder):
        with pytest.raises(ValueError, match=r"device 'cuda:99': (there are|no GPU is there)"):
            load_trained(folder, device="cuda:99")

    @pytest.mark.parametrize(
        "state",
        [
            {"weights": torch.zeros(3)},
            {"configuration": 3, "model": {}},
            {"configuration": {"model": {"kind": "MgNetConfig"}, "dataset": {}, "protocol": {}}, "model": {"weight": 3}},
            {"configuration": {"model": {"kind": 5}, "dataset": {}, "protocol": {}}, "model": {}},
        ],
    )
    def test_a_checkpoint_of_something_else(self, tmp_path, state):
        path = checkpoint.save(tmp_path, state, 1)
        with pytest.raises(CheckpointError, match="a checkpoint of something else than a training run") as caught:
            load_trained(path)
        assert str(caught.value).startswith(str(path))

    def test_a_file_of_another_program(self, tmp_path):
        torch.save({"state_dict": {}}, tmp_path / "other.pt")
        with pytest.raises(CheckpointError, match="not a checkpoint of unigrid"):
            load_trained(tmp_path / "other.pt")

    @pytest.mark.parametrize("change", [{"kind": "NewNet"}, {"no_such_field": 1}, {"activation": "no-such"}])
    def test_a_network_of_another_version(self, run, tmp_path, change):
        state = checkpoint.load(run.checkpoint)
        state["configuration"]["model"] |= change
        path = checkpoint.save(tmp_path, state, 1)
        with pytest.raises(CheckpointError, match="cannot be rebuilt by this version of unigrid"):
            load_trained(path)

    def test_weights_that_do_not_fit_their_configuration(self, run, tmp_path):
        state = checkpoint.load(run.checkpoint)
        state["configuration"]["model"]["features"] = 5
        path = checkpoint.save(tmp_path, state, 1)
        with pytest.raises(CheckpointError, match="of other shape") as caught:
            load_trained(path)
        assert str(caught.value).startswith(str(path))


class TestEvaluation:
    @pytest.fixture
    def trained(self, folder):
        return load_trained(folder, device="cpu")

    def test_the_checkpoints_own_normalization(self, trained, run, data):
        other = dataclasses.replace(data, mean=(0.1, 0.1, 0.1), std=(0.9, 0.9, 0.9))
        assert equal(trained.evaluate(other), run.runs[0].test)

    def test_other_channels(self, trained, data):
        gray = Split(data.test.images[:, :1], data.test.labels)
        other = dataclasses.replace(data, name="gray", train=gray, test=gray)
        with pytest.raises(ValueError, match="trained on colors, images of 3 channels; gray has images of 1 channel"):
            trained.evaluate(other)

    def test_another_number_of_classes(self, trained, data):
        with pytest.raises(ValueError, match="trained on colors; other has a label 2, but 2 classes, 0 to 1"):
            trained.evaluate(dataclasses.replace(data, name="other", classes=("a", "b")))

    def test_other_classes(self, trained, data):
        with pytest.raises(
            ValueError, match="trained on colors; other has images of a, b, c, not among the classes cross, disk, ring; "
        ):
            trained.evaluate(dataclasses.replace(data, name="other", classes=("a", "b", "c")))

    def test_classes_without_names_may_be_any(self, trained, run, data):
        arrays = (data.test.images.numpy(), data.test.labels.numpy())
        assert equal(trained.evaluate((arrays, arrays)), run.runs[0].test)

    def test_data_without_a_name_must_be_given(self, run, tmp_path, data):
        state = checkpoint.load(run.checkpoint)
        state["configuration"]["dataset"]["name"] = "custom"
        trained = load_trained(checkpoint.save(tmp_path, state, 1), device="cpu")
        with pytest.raises(ValueError, match="trained on data that have no name"):
            trained.evaluate()
        assert equal(trained.evaluate(data), run.runs[0].test)

    @pytest.mark.parametrize(
        ("test_flip", "flip", "expected"), [(True, True, True), (True, False, False), (False, True, False)]
    )
    def test_mirrored_where_training_did(self, run, tmp_path, data, test_flip, flip, expected):
        state = checkpoint.load(run.checkpoint)
        state["configuration"]["protocol"]["test_flip"] = test_flip
        state["configuration"]["dataset"]["flip"] = flip
        trained = load_trained(checkpoint.save(tmp_path, state, 1), device="cpu")
        assert trained.flips is expected
        assert equal(trained.evaluate(data), run.runs[0].test) is expected

    def test_mixed_precision_where_training_did(self, run, tmp_path, data):
        state = checkpoint.load(run.checkpoint)
        state["configuration"]["protocol"]["mixed_precision"] = True
        trained = load_trained(checkpoint.save(tmp_path, state, 1), device="cpu")
        found = trained.evaluate(data)
        assert found.loss != run.runs[0].test.loss
        assert found.loss == pytest.approx(run.runs[0].test.loss, rel=0.05)


class TestPredictions:
    @pytest.fixture
    def trained(self, folder):
        return load_trained(folder, device="cpu")

    def test_probabilities_are_the_softmax_of_the_logits(self, trained, data):
        (found,) = trained.predict([data.test.images[4]], top=3)
        mean, std = (torch.tensor(values).view(3, 1, 1) for values in (data.mean, data.std))
        image = ((data.test.images[4] / 255 - mean) / std)[None]
        with torch.no_grad():
            logits = (trained.model(image) + trained.model(image.flip(3))) / 2
        expected, order = logits.softmax(1)[0].sort(descending=True)
        assert found.classes == tuple(CLASSES[index] for index in order)
        assert found.probabilities == pytest.approx(expected.tolist(), rel=1e-4)
        assert sum(found.probabilities) == pytest.approx(1, abs=1e-6)

    def test_the_likeliest_class_is_what_evaluation_counts(self, trained, run, data):
        answers = trained.predict(list(data.test.images), top=1)
        right = [answer.classes == (CLASSES[label],) for answer, label in zip(answers, data.test.labels, strict=True)]
        assert np.mean(right) == run.test_accuracy
        assert len(right) == 96

    def test_batches_do_not_mix_pictures_up(self, trained, data, monkeypatch):
        whole = trained.predict(list(data.test.images[:7]), top=1)
        monkeypatch.setattr("unigrid.training.images.evaluation.BATCH", 3)
        assert [one.classes for one in trained.predict(list(data.test.images[:7]), top=1)] == [one.classes for one in whole]

    def test_how_many_are_told(self, trained, data):
        assert [len(trained.predict([data.test.images[0]], top)[0].classes) for top in (1, 2, 3, 9)] == [1, 2, 3, 3]
        assert trained.predict([]) == []
        for top in (0, -1, 1.5, True):
            with pytest.raises(ValueError, match="top must be an integer >= 1"):
                trained.predict([data.test.images[0]], top)

    def test_one_picture_is_no_list_of_them(self, trained, data):
        for picture in ("a.png", data.test.images[0], data.test.images[0].numpy(), Image.new("RGB", (4, 4))):
            with pytest.raises(TypeError, match=r"write \[picture\]"):
                trained.predict(picture)

    def test_a_network_of_other_channels_takes_no_pictures(self, trained):
        trained.configuration["dataset"]["shape"] = [4, 16, 24]
        with pytest.raises(ValueError, match="images of 4 channels; pictures have 1 or 3"):
            trained.require_pictures()
        with pytest.raises(ValueError, match="images of 4 channels"):
            trained.predict([Image.new("RGB", (4, 4))])


class TestPictures:
    @pytest.fixture
    def pixels(self, rng):
        return rng.integers(256, size=(12, 12, 3), dtype=np.uint8)

    def test_one_of_the_right_size_is_left_as_it_is(self, pixels, tmp_path):
        Image.fromarray(pixels).save(tmp_path / "p.png")
        expected = torch.from_numpy(np.moveaxis(pixels, 2, 0).copy())
        ways = [
            tmp_path / "p.png", str(tmp_path / "p.png"), Image.fromarray(pixels), pixels, np.moveaxis(pixels, 2, 0),
            torch.from_numpy(pixels), pixels / 255, (pixels / 255).astype(np.float32),
        ]  # fmt: skip
        for picture in ways:
            assert torch.equal(fitted(picture, (3, 12, 12)), expected)

    def test_a_wide_one_loses_its_sides_and_a_tall_one_its_ends(self, pixels):
        wide = np.concatenate([np.zeros((12, 8, 3), np.uint8), pixels, np.zeros((12, 8, 3), np.uint8)], axis=1)
        expected = torch.from_numpy(np.moveaxis(pixels, 2, 0).copy())
        assert torch.equal(fitted(wide, (3, 12, 12)), expected)
        assert torch.equal(fitted(wide.swapaxes(0, 1), (3, 12, 12)), expected.swapaxes(1, 2))

    def test_the_shape_of_the_training_images(self, pixels):
        assert fitted(pixels, (3, 16, 24)).shape == (3, 16, 24)
        assert fitted(pixels, (1, 16, 24)).shape == (1, 16, 24)

    def test_it_is_resized_with_antialiasing(self):
        stripes = np.zeros((256, 256, 3), np.uint8)
        stripes[:, ::2] = 255
        small = fitted(stripes, (3, 32, 32))[:, :, 2:-2].float()
        assert (small - 127.5).abs().max() < 4

    def test_gray_to_color_and_color_to_gray(self):
        gray = np.arange(144, dtype=np.uint8).reshape(12, 12)
        color = fitted(gray, (3, 12, 12))
        assert all(torch.equal(color[channel], torch.from_numpy(gray)) for channel in range(3))
        red = np.zeros((12, 12, 3), np.uint8)
        red[..., 0] = 255
        assert fitted(red, (1, 12, 12)).unique().tolist() == [76]  # 0.299 * 255
        assert torch.equal(fitted(gray[:, :, None], (1, 12, 12))[0], torch.from_numpy(gray))

    @pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "I;16"])
    def test_every_mode_of_a_file(self, mode, tmp_path):
        deep = Image.fromarray(np.full((12, 12), 65535, np.uint16))
        image = deep if mode == "I;16" else Image.new("RGB", (12, 12), (255, 255, 255)).convert(mode)
        path = tmp_path / ("p.jpg" if mode == "CMYK" else "p.png")
        image.save(path)
        for channels in (1, 3):
            assert int(fitted(path, (channels, 12, 12)).min()) >= 254

    def test_sixteen_bits_are_scaled_and_not_clipped(self, tmp_path):
        Image.fromarray(np.full((12, 12), 257 * 100, np.uint16)).save(tmp_path / "p.png")
        assert fitted(tmp_path / "p.png", (1, 12, 12)).unique().tolist() == [100]

    def test_floats_of_a_file_are_no_picture_beyond_white(self, tmp_path):
        Image.fromarray(np.full((12, 12), 0.5, np.float32)).save(tmp_path / "p.tif")
        assert fitted(tmp_path / "p.tif", (1, 12, 12)).unique().tolist() == [128]
        Image.fromarray(np.full((12, 12), 300, np.float32)).save(tmp_path / "q.tif")
        with pytest.raises(FileError, match=r"q\.tif: pictures that are floats must lie in 0\.\.1, got 300 to 300"):
            fitted(tmp_path / "q.tif", (1, 12, 12))

    def test_a_palette_with_transparency(self, tmp_path):
        Image.new("RGB", (12, 12), (10, 20, 30)).convert("P").save(tmp_path / "p.png", transparency=b"\x00\x01\x02")
        assert fitted(tmp_path / "p.png", (3, 12, 12)).shape == (3, 12, 12)

    def test_the_cameras_rotation(self, tmp_path):
        image = Image.new("RGB", (12, 12))
        image.paste((255, 255, 255), (0, 0, 6, 12))  # the left half
        exif = Image.Exif()
        exif[0x0112] = 6  # to be turned by 90 degrees clockwise
        image.save(tmp_path / "p.jpg", exif=exif, quality=95)
        turned = fitted(tmp_path / "p.jpg", (1, 12, 12))[0].float()
        assert turned[:5].mean() > 240
        assert turned[7:].mean() < 15

    @pytest.mark.parametrize("size", [(1, 1), (1, 500), (3000, 2)])
    def test_tiny_and_thin_ones(self, size):
        assert torch.equal(
            fitted(Image.new("RGB", size, (9, 9, 9)), (3, 12, 12)), torch.full((3, 12, 12), 9, dtype=torch.uint8)
        )

    def test_a_huge_one(self, tmp_path, monkeypatch):
        Image.new("RGB", (40, 40), (7, 7, 7)).save(tmp_path / "p.png")
        monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)  # Pillow warns from here, and refuses from twice as many
        assert fitted(tmp_path / "p.png", (3, 12, 12)).unique().tolist() == [7]
        monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
        with pytest.raises(FileError, match=r"p\.png: not a readable picture \(Image size \(1600 pixels\)"):
            fitted(tmp_path / "p.png", (3, 12, 12))

    def test_files_that_are_no_pictures(self, tmp_path):
        (tmp_path / "text.png").write_text("hello")
        (tmp_path / "empty.png").touch()
        Image.fromarray(np.random.default_rng(0).integers(256, size=(50, 50, 3), dtype=np.uint8)).save(tmp_path / "half.png")
        whole = (tmp_path / "half.png").read_bytes()
        (tmp_path / "half.png").write_bytes(whole[: len(whole) // 2])
        for name, text in {
            "text.png": "not a picture, or of a format", "empty.png": "the file is empty",
            "half.png": "not a readable picture (", "hal.png": "no such file; did you mean 'half.png'",
            "": "is a directory, give a picture",
        }.items():  # fmt: skip
            with pytest.raises(FileError) as caught:
                fitted(tmp_path / name, (3, 12, 12))
            assert str(caught.value).startswith(f"{tmp_path / name}: {text}")
            assert "\n" not in str(caught.value)

    @pytest.mark.parametrize(
        ("picture", "error", "text"),
        [
            (np.zeros((5, 5, 4), np.uint8), ValueError, r"got shape \(5, 5, 4\)"),
            (np.zeros((2, 3, 5, 5), np.uint8), ValueError, r"got shape \(2, 3, 5, 5\)"),
            (np.zeros((3, 5, 3), np.uint8), ValueError, r"shape \(3, 5, 3\) may have its channels first or last"),
            (np.zeros((0, 5), np.uint8), ValueError, r"got shape \(0, 5\)"),
            (np.full((5, 5), 2.0), ValueError, r"lie in 0\.\.1, got 2 to 2"),
            (np.full((5, 5), np.nan), ValueError, r"lie in 0\.\.1, got nan"),
            (np.zeros((5, 5), np.int64), ValueError, "must be uint8, uint16, or floats from 0 to 1, got int64"),
            (3, TypeError, "a path, a PIL image or an array, got int"),
        ],
    )
    def test_arrays_that_are_no_pictures(self, picture, error, text):
        with pytest.raises(error, match=text):
            fitted(picture, (3, 12, 12))


@pytest.mark.parametrize(
    "change",
    [
        lambda state: state["configuration"]["dataset"].pop("classes"),
        lambda state: state["configuration"]["dataset"].update(shape="3 x 8 x 8"),
        lambda state: state["configuration"]["dataset"].update(mean=None),
        lambda state: state["configuration"]["protocol"].update(mixed_precision="no"),
        lambda state: state["configuration"]["model"].update(kind=3),
        lambda state: state["configuration"]["model"].update(unheard_of=3),
        lambda state: state["configuration"].update(dataset=[1, 2]),
        lambda state: state.update(model=[1, 2], average=None),
        lambda state: state.update(model="weights", average=None),
        lambda state: state["model"].update({next(iter(state["model"])): None}) or state.update(average=None),
        lambda state: state["model"].pop(next(iter(state["model"]))) is None or state.update(average=None),
        lambda state: state["progress"].pop("epoch"),
        lambda state: state.update(configuration="none"),
    ],
)
def test_a_field_that_is_missing_unknown_or_of_another_type_is_one_line(run, tmp_path, change):
    state = checkpoint.load(run.checkpoint)
    change(state)
    path = checkpoint.save(tmp_path, state, 1)
    with pytest.raises(CheckpointError) as error:
        load_trained(path, device="cpu")
    assert str(error.value).startswith(f"{path}: ")
    assert "\n" not in str(error.value)
