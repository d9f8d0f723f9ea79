# SPDX-License-Identifier: MIT
"""Pictures that models draw: a decoder fed with random bits."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import toy
from click.testing import CliRunner
from PIL import Image

from gmcodec import sampling
from gmcodec.cli.main import cli
from gmcodec.models import registry

pytestmark = pytest.mark.usefixtures("toy_weights")


def mosaic(folder: Path) -> tuple[Path, np.ndarray]:
    random = np.random.default_rng(0)
    squares = np.stack([toy.smooth(random, (3, 8, 8)) for _ in range(6)])
    Image.fromarray(squares.reshape(2, 3, 3, 8, 8).transpose(0, 3, 1, 4, 2).reshape(16, 24, 3)).save(folder / "set.png")
    return folder / "set.png", squares


def test_samples_are_drawn_by_the_seed() -> None:
    loaded = registry.named("local-rgb")
    pictures = sampling.sample(loaded, 5, 6, 7, seed=3)
    assert pictures.shape == (5, 3, 6, 7)
    assert np.array_equal(sampling.sample(loaded, 5, 6, 7, seed=3), pictures)
    assert not np.array_equal(sampling.sample(loaded, 5, 6, 7, seed=4), pictures)
    assert len({picture.tobytes() for picture in pictures}) == 5
    # neighbours are alike, as the toy model expects: its logistics are a few grey levels wide
    steps = np.abs(np.diff(pictures.astype(int), axis=3))
    assert np.median(steps) < 30


def test_samples_of_a_flow() -> None:
    loaded = registry.named("ade")
    pictures = sampling.sample(loaded, 3, 16, 8, seed=3)
    assert pictures.shape == (3, 3, 16, 8)
    assert np.array_equal(sampling.sample(loaded, 3, 16, 8, seed=3), pictures)
    assert not np.array_equal(sampling.sample(loaded, 3, 16, 8, seed=4), pictures)


def test_latents_of_a_row_are_shared() -> None:
    model = registry.named("agave").model
    means, pictures = sampling.sample_latents(model, 3, 4, 8, 8)
    assert means.shape == (3, 3, 8, 8)
    assert pictures.shape == (3, 4, 3, 8, 8)
    assert len({row.tobytes() for row in means}) == 3
    assert len({picture.tobytes() for picture in pictures.reshape(12, -1)}) == 12
    with pytest.raises(ValueError, match="does not consist of cells"):
        sampling.sample_latents(model, 1, 1, 7, 8)


def test_reconstructions_depend_on_the_images(tmp_path: Path) -> None:
    _, squares = mosaic(tmp_path)
    model = registry.named("agave").model
    means = [sampling.sample_latents(model, 3, 1, 8, 8, seed, squares[:3])[0] for seed in (1, 2)]
    other = sampling.sample_latents(model, 3, 1, 8, 8, 1, squares[3:])[0]
    assert not np.array_equal(means[0], other)
    assert not np.array_equal(means[0], means[1])


def test_the_command(tmp_path: Path) -> None:
    source, squares = mosaic(tmp_path)
    out = tmp_path / "page.png"

    def run(*arguments: object) -> tuple[int, str]:
        result = CliRunner().invoke(cli, ["sample", *map(str, arguments)])
        return result.exit_code, result.output

    common = ("-o", out, "--rows", 2, "--columns", 3, "--size", 8)
    assert run("local-grey", *common)[0] == 0
    with Image.open(out) as page:
        assert page.size == (3 * 10 - 2, 2 * 10 - 2)
    assert run("agave", *common)[0] == 11  # it exists
    code, said = run("agave", *common, "--from", source, "-f")
    assert (code, "2 x 3 images of 8x8 from agave" in said) == (0, True)
    with Image.open(out) as opened:
        page = np.asarray(opened)
    assert page.shape == (18, 5 * 10 - 2, 3)  # the image, f(z), three samples
    assert np.array_equal(page[:8, :8], squares[0].transpose(1, 2, 0))
    assert np.array_equal(page[10:, :8], squares[1].transpose(1, 2, 0))
    for arguments, problem in (
        (("nonsense", *common, "-f"), "unknown model"),
        (("local-rgb", *common, "-f", "--from", source), "no f(z)"),
        (("ade", *common, "-f", "--from", source), "no f(z)"),
        (("ade", *common[:6], "--size", 9, "-f"), "does not consist of cells"),
        (("agave", *common[:6], "--size", 9, "-f"), "does not consist of cells"),
        (("agave", "-o", out, "--rows", 7, "--size", 8, "-f", "--from", source), "does not hold 7 squares"),
    ):
        code, said = run(*arguments)
        assert (code, problem in said) == (2, True), said
