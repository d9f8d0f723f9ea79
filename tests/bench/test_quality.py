# SPDX-License-Identifier: MIT
"""Measures of samples where the answer is known, the classifier on a toy set, and the commands."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import toy
from click.testing import CliRunner
from PIL import Image, ImageFilter

from gmcodec.errors import BenchError, TrainingError

pytest.importorskip("torch")
pytest.importorskip("sklearn")
pytest.importorskip("matplotlib")

import torch

from bench import classifier, draw, quality
from gmcodec.models.ade.float import Ade
from gmcodec.training.nets import load_whole, save_float
from gmcodec.training.presets import PRESETS

RECIPE = classifier.Recipe(classes=3, widths=(8, 16), steps=25, batch=30)


def coloured(seed: int, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Pictures of three classes: waves, with one channel brighter than the others."""
    random = np.random.default_rng(seed)
    labels = random.integers(3, size=count)
    images = np.stack([toy.smooth(random, (3, 32, 32)) // 2 for _ in range(count)])
    images[np.arange(count), labels] += 100
    return images, labels


def write(path: Path, images: np.ndarray, labels: np.ndarray | None = None) -> Path:
    """A mosaic of ten squares a row."""
    rows = images.reshape(-1, 10, 3, 32, 32).transpose(0, 3, 1, 4, 2).reshape(-1, 320, 3)
    Image.fromarray(rows).save(path)
    if labels is not None:
        np.save(path.with_name(f"{path.stem}_labels.npy"), labels)
    return path


@pytest.fixture(autouse=True, scope="module")  # as wide as ``net``, which would else be trained by several threads
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def net() -> classifier.Classifier:
    return classifier.train(*coloured(1, 300), RECIPE)


# -- distances of features --------------------------------------------------------------------------------------------


def with_moments(random: np.random.Generator, mean: np.ndarray, covariance: np.ndarray, count: int) -> np.ndarray:
    """Random features whose mean and covariance are exactly these."""
    x = random.normal(size=(count, len(mean)))
    x = (x - x.mean(0)) @ np.linalg.inv(np.linalg.cholesky(np.cov(x, rowvar=False))).T
    return x @ np.linalg.cholesky(covariance).T + mean


def test_the_frechet_distance_of_gaussians() -> None:
    random = np.random.default_rng(0)
    a = with_moments(random, np.array([1.0, 2.0, 0.0]), np.diag([4.0, 1.0, 9.0]), 50)
    b = with_moments(random, np.array([1.0, 0.0, 1.0]), np.diag([1.0, 1.0, 16.0]), 80)
    assert quality.frechet_distance(a, b) == pytest.approx((2 - 0) ** 2 + 1 + (2 - 1) ** 2 + (3 - 4) ** 2)
    assert quality.frechet_distance(b, a) == pytest.approx(quality.frechet_distance(a, b))


def test_the_frechet_distance_when_covariances_do_not_commute() -> None:
    random = np.random.default_rng(1)
    first, second = np.array([[2.0, 1.0], [1.0, 3.0]]), np.array([[5.0, -2.0], [-2.0, 1.0]])
    a, b = (with_moments(random, np.zeros(2), c, 40) for c in (first, second))
    product = first @ second  # of two rows: tr of its root is the root of tr + 2 sqrt(det)
    root = np.sqrt(np.trace(product) + 2 * np.sqrt(np.linalg.det(product)))
    assert quality.frechet_distance(a, b) == pytest.approx(np.trace(first + second) - 2 * root)


def test_equal_sets_are_at_no_distance_even_with_fewer_images_than_features() -> None:
    a = np.random.default_rng(2).normal(size=(10, 40)).astype(np.float32)
    assert abs(quality.frechet_distance(a, a)) < 1e-9
    assert quality.frechet_distance(a, a + np.float32(0.5)) == pytest.approx(40 * 0.25, rel=1e-5)


def test_the_score_of_the_unsure_and_of_the_sure() -> None:
    assert quality.classifier_score(np.full((20, 10), 0.1, np.float32)) == pytest.approx(1)
    assert quality.classifier_score(np.eye(10)[np.arange(50) % 10]) == pytest.approx(10)
    assert quality.classifier_score(np.eye(10)[np.zeros(50, int)]) == pytest.approx(1)  # one class only
    assert quality.classifier_score(np.eye(10)[np.arange(40) % 4]) == pytest.approx(4)


# -- precision and recall ---------------------------------------------------------------------------------------------


def blobs(seed: int, which: list[int], count: int = 200) -> np.ndarray:
    """As many features of each of some well separated blobs."""
    random = np.random.default_rng(seed)
    centres = 100 * np.eye(4)[which]
    return np.repeat(centres, count // len(which), 0) + random.normal(size=(count, 4))


def summary(real: np.ndarray, generated: np.ndarray, clusters: int = 4) -> dict[str, float]:
    return quality.precision_recall(*quality.precision_recall_curve(real, generated, clusters))


def test_histograms_of_identical_disjoint_and_nested_supports() -> None:
    both, one = blobs(0, [0, 1]), blobs(1, [0])
    assert summary(both, both, 20) == pytest.approx({"F_1/8": 1, "F_8": 1, "area": 1}, abs=1e-3)
    assert summary(both, blobs(2, [2, 3]), 4) == pytest.approx({"F_1/8": 0, "F_8": 0, "area": 0}, abs=1e-9)
    # one of two blobs generated: all of it is real, half of the real ones are covered.  The curve is
    # precision min(1, s/2), recall min(1/2, 1/s): straight down at 1/2
    dropped = summary(both, one, 2)
    assert dropped["F_1/8"] == pytest.approx(65 * 0.5 / (1 / 64 + 0.5) / 64, abs=2e-3)
    assert dropped["F_8"] == pytest.approx(65 * 0.5 / (64 + 0.5), abs=2e-3)
    assert dropped["area"] == pytest.approx(0.5, abs=2e-3)
    invented = summary(one, both, 2)  # the reverse
    assert invented["F_8"] == pytest.approx(dropped["F_1/8"], abs=1e-9)
    assert invented["F_1/8"] == pytest.approx(dropped["F_8"], abs=1e-9)


def test_neighbours_of_identical_disjoint_and_nested_supports() -> None:
    both, one = blobs(0, [0, 1]), blobs(0, [0])
    assert quality.neighbour_precision_recall(both, both) == (1, 1)
    assert quality.neighbour_precision_recall(both, blobs(2, [2, 3])) == (0, 0)
    precision, recall = quality.neighbour_precision_recall(both, one)
    assert precision > 0.8
    assert 0.4 < recall <= 0.5
    assert quality.neighbour_precision_recall(one, both) == (recall, precision)


def test_neighbours_by_hand() -> None:
    real, generated = np.array([[0.0], [1.0], [3.0]]), np.array([[5.0], [5.1], [-0.5], [9.0]])
    # radii of real at one neighbour: 1, 1, 2; of generated: 0.1, 0.1, 5.5, 3.9
    assert quality.neighbour_precision_recall(real, generated, 1) == (2 / 4, 3 / 3)


def test_rows_of_distances_are_joined(monkeypatch: pytest.MonkeyPatch) -> None:
    a, b = blobs(3, [0, 1], 60), blobs(4, [1, 2], 50)
    whole = quality.neighbour_precision_recall(a, b)
    monkeypatch.setattr(quality, "DISTANCE_ROWS", 7)
    assert quality.neighbour_precision_recall(a, b) == whole
    assert 0 < whole[0] < 1


def test_too_few_images() -> None:
    with pytest.raises(BenchError, match="3 neighbours"):
        quality.neighbour_precision_recall(np.zeros((3, 2)), np.zeros((9, 2)))
    with pytest.raises(BenchError, match="8 real and 8 generated images"):
        quality.precision_recall_curve(np.zeros((8, 2)), np.zeros((8, 2)))


# -- the classifier ---------------------------------------------------------------------------------------------------


def test_it_learns_what_is_easy_and_is_kept(net: classifier.Classifier, tmp_path: Path) -> None:
    images, labels = coloured(2, 200)
    assert net.accuracy(images, labels) > 0.95
    assert classifier.Classifier(RECIPE).accuracy(images, labels) < 0.7
    net.accuracies["held out"] = 0.5
    classifier.save(net, tmp_path / "net.safetensors")
    back = classifier.load(tmp_path / "net.safetensors")
    assert back.recipe == RECIPE
    assert back.accuracies == {"held out": 0.5}
    assert back.features(images).shape == (200, 16)
    assert back.features(images).dtype == np.float32
    np.testing.assert_allclose(back.probabilities(images), net.probabilities(images), atol=0.02)
    np.testing.assert_allclose(back.probabilities(images).sum(1), 1, atol=1e-6)
    (tmp_path / "cut").write_bytes((tmp_path / "net.safetensors").read_bytes()[:-10])
    with pytest.raises(TrainingError, match="not a classifier"):
        classifier.load(tmp_path / "cut")


def test_training_is_repeatable(net: classifier.Classifier) -> None:
    again = classifier.train(*coloured(1, 300), RECIPE)
    assert all(torch.equal(a, b) for a, b in zip(net.parameters(), again.parameters(), strict=True))
    other = classifier.train(*coloured(1, 300), replace(RECIPE, seed=1))
    assert not torch.equal(net.head.weight, other.head.weight)


def test_an_epoch_shows_every_image_once_shifted_or_mirrored() -> None:
    images = coloured(3, 60)[0]
    source = classifier.batches(images, np.arange(60), RECIPE)
    shown = [next(source) for _ in range(2)]
    assert sorted(torch.cat([number for _, number in shown]).tolist()) == list(range(60))
    plain, mirrored = 0, 0
    for batch, numbers in shown:
        for picture, number in zip(batch.numpy(), numbers.tolist(), strict=True):
            wide = np.pad(images[number], ((0, 0), (2, 2), (2, 2)), mode="reflect")
            cuts = [wide[:, y : y + 32, x : x + 32] for y in range(5) for x in range(5)]
            plain += any(np.array_equal(picture, c) for c in cuts)
            mirrored += any(np.array_equal(picture[:, :, ::-1], c) for c in cuts)
    assert plain + mirrored == 60
    assert 15 < plain < 45


def test_minutes_become_steps() -> None:
    images, labels = coloured(1, 60)
    tiny = replace(RECIPE, widths=(2, 2), batch=2, steps=10**9)
    net = classifier.train(images, labels, tiny, minutes=0.5 / 60)
    assert classifier.TIMED_STEPS.stop < net.recipe.steps < 10**5


def test_labels_must_fit(tmp_path: Path) -> None:
    images, labels = coloured(1, 20)
    with pytest.raises(TrainingError, match="2 classes"):
        classifier.train(images, labels, replace(RECIPE, classes=2))
    path = write(tmp_path / "a.png", images, labels)
    found, classes = classifier.read_mosaics(path)
    assert np.array_equal(found, images)
    assert np.array_equal(classes, labels)
    write(tmp_path / "b.png", images)
    assert classifier.read_mosaics(tmp_path)[0].shape == (40, 3, 32, 32)
    assert classifier.read_mosaics(tmp_path)[1] is None
    np.save(tmp_path / "a_labels.npy", labels[:-1])
    with pytest.raises(TrainingError, match="should hold 20 classes"):
        classifier.read_mosaics(path)


def test_gan_train_and_gan_test(net: classifier.Classifier) -> None:
    real, classes = coloured(4, 200)
    samples, labels = coloured(5, 200)
    assert quality.gan_test(net, samples, labels) > 0.95
    assert quality.gan_test(net, samples, (labels + 1) % 3) < 0.05
    assert quality.gan_train(samples, labels, real, classes, RECIPE) > 0.95
    one = labels == 0  # fine pictures, but of a single class
    assert quality.gan_test(net, samples[one], labels[one]) > 0.95
    assert quality.gan_train(samples[one], labels[one], real, classes, RECIPE) < 0.5


# -- the commands -----------------------------------------------------------------------------------------------------


def blurred(images: np.ndarray) -> np.ndarray:
    soft = [Image.fromarray(i.transpose(1, 2, 0)).filter(ImageFilter.GaussianBlur(2)) for i in images]
    return np.stack([np.asarray(i).transpose(2, 0, 1) for i in soft])


def grained(seed: int, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Pictures of three classes: waves under fine, middling and coarse grain."""
    random = np.random.default_rng(seed)
    labels = random.integers(3, size=count)
    return np.stack([toy.smooth(random, (3, 32, 32), (4, 12, 36)[label]) for label in labels]), labels


def test_worse_pictures_are_farther_away() -> None:
    net = classifier.train(*grained(1, 300), RECIPE)
    real, _ = grained(7, 400)
    noise = np.random.default_rng(8).integers(256, size=(200, 3, 32, 32), dtype=np.uint8)
    first, *others = (net.features(i) for i in (real[:200], real[200:], blurred(real[200:]), noise))
    near, middle, far = (quality.frechet_distance(first, other) for other in others)
    assert near < middle / 10 < far / 20
    recall = [quality.neighbour_precision_recall(first, other)[1] for other in others]
    assert recall[0] > 0.8 > 0.5 > recall[1] > recall[2]


def run(command, *arguments: object):
    return CliRunner().invoke(command, [str(a) for a in arguments])


@pytest.mark.slow
def test_from_mosaics_to_a_table(tmp_path: Path) -> None:
    data = tmp_path / "data"
    data.mkdir()
    for number, name in enumerate(("train_0", "train_1", "test")):
        write(data / f"{name}.png", *coloured(number, 120))
    weights = tmp_path / "net.safetensors"
    arguments = (data, "-o", weights, "--steps", 12, "--held-out", 40, "--test", data / "test.png")
    done = run(classifier.main, *arguments)
    assert done.exit_code == 0, done.output
    accuracies = classifier.load(weights).accuracies
    assert accuracies["held out"] > 0.8
    assert f"{accuracies['test']:.2%} of 120 images" in done.output
    assert "12 steps of 100 images" in done.output
    assert run(classifier.main, *arguments).exit_code == 1  # it is not overwritten

    samples, labels = coloured(9, 100)
    good, bad = write(tmp_path / "good.png", samples, labels), write(tmp_path / "bad.webp.png", blurred(samples))
    compare = (quality.main, data / "test.png", good, bad, "--classifier", weights, "--gan-train", 8, "-o")
    done = run(*compare, tmp_path / "a")
    assert done.exit_code == 0, done.output
    results = json.loads((tmp_path / "a" / "results.json").read_text())
    assert results["count"] == 60  # half of the real images
    assert results["accuracies"] == accuracies
    floor, first, second = results["sets"].values()
    assert list(results["sets"]) == ["test.png, other images", "good.png", "bad.webp.png"]
    assert max(floor["Frechet distance"], first["Frechet distance"]) < second["Frechet distance"]
    assert first["GAN-test"] > 0.8
    assert "GAN-test" not in second
    assert min(floor["GAN-train"], first["GAN-train"]) > 0.4
    table = (tmp_path / "a" / "table.md").read_text()
    assert f"| good.png | {first['Frechet distance']:.4f} |" in table
    assert f"{accuracies['test']:.2%} (test)" in table
    assert "60 images on each side" in table
    assert "<svg" in (tmp_path / "a" / "curves.svg").read_text()
    assert run(*compare[:-3], "-o", tmp_path / "b").exit_code == 0  # again, without GAN-train
    again = json.loads((tmp_path / "b" / "results.json").read_text())["sets"]
    assert again == {n: {k: v for k, v in f.items() if k != "GAN-train"} for n, f in results["sets"].items()}


def test_samples_become_mosaics_with_their_classes(tmp_path: Path) -> None:
    preset = replace(PRESETS["toy-av-ade"], adversary=None, patch=32)
    for name, classes in (("one", 0), ("all", 3)):
        preset = replace(preset, model=replace(preset.model, classes=classes))
        (tmp_path / name).mkdir()
        save_float(Ade(preset.model), preset, tmp_path / name / "float.safetensors")
    weights = [tmp_path / name / "float.safetensors" for name in ("one", "all")]
    done = run(draw.main, *weights, "-o", tmp_path / "drawn", "--count", 12, "--columns", 4)
    assert done.exit_code == 0, done.output
    images, labels = classifier.read_mosaics(tmp_path / "drawn" / "all.png")
    assert images.shape == (12, 3, 32, 32)
    assert labels is not None
    assert labels.tolist() == [0, 1, 2] * 4
    assert classifier.read_mosaics(tmp_path / "drawn" / "one.png")[1] is None
    torch.manual_seed(0)
    expected, _ = draw.draw(load_whole(weights[1:]).eval(), 12, 32, 1.0)
    assert np.array_equal(images, expected)
    assert "two folders of the same name" in run(draw.main, weights[0], weights[0], "-o", tmp_path).output


def test_mistakes_are_told(net: classifier.Classifier, tmp_path: Path) -> None:
    real, samples = write(tmp_path / "real.png", coloured(1, 100)[0]), write(tmp_path / "a.png", coloured(2, 60)[0])
    weights, out = tmp_path / "net.safetensors", tmp_path / "out"
    classifier.save(net, weights)
    odd = tmp_path / "odd.png"
    Image.new("RGB", (33, 32)).save(odd)
    for message, arguments in {
        "cannot compare 51 images": (real, samples, "--count", 51),
        "a generated set is named twice": (real, samples, samples),
        "squares of 32x32": (real, odd),
        "GAN-train needs": (real, samples, "--gan-train", 5),
        "not a classifier": (real, samples, "--classifier", real),
    }.items():
        done = run(quality.main, "--classifier", weights, "-o", out, *arguments)
        assert done.exit_code == 1
        assert message in done.output
    done = run(classifier.main, real, "-o", tmp_path / "new.safetensors")
    assert done.exit_code == 1
    assert "without *_labels.npy" in done.output
    assert not out.exists()
    assert not (tmp_path / "new.safetensors").exists()


def test_inception_is_the_users_to_bring(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    images = coloured(1, 20)[0]
    monkeypatch.setitem(sys.modules, "torch_fidelity", None)
    with pytest.raises(BenchError, match="pip install torch-fidelity"):
        quality.inception(images, images, tmp_path / "weights.pth")
