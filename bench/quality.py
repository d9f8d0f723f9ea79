# SPDX-License-Identifier: MIT
"""Quality and diversity of samples of 32x32, measured without a downloaded network.

python -m bench.quality test.webp samples.png... --classifier runs/classifier.safetensors -o bench/results/quality

=================  ===================================================================  ========================
column             is                                                                   from
=================  ===================================================================  ========================
Frechet distance   between Gaussians fitted to features; 0 is best                      Heusel et al. 2017
classifier score   exp of the information on the class, at most the number of classes   Salimans et al. 2016
F_1/8, F_8, area   precision, recall and area of the curve of histograms over clusters  Sajjadi et al. 2018
precision, recall  fraction of images inside balls around images of the other set       Kynkaanniemi et al. 2019
GAN-test           accuracy on samples of a classifier of real images                   Shmelkov et al. 2018
GAN-train          accuracy on real images of a classifier of samples                   Shmelkov et al. 2018
=================  ===================================================================  ========================

Thesis, sections 2.12.3 and 5.6.  Features are those of ``bench.classifier``, not of Inception, so figures can be
compared with each other, but not with FID and IS in papers.  REAL must be images that the classifier has not learned
from.  All figures depend on the number of images, so both sides have the same number.  The first row compares two
disjoint halves of REAL, which is the result that perfect samples would have.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import click
import numpy as np

from gmcodec.errors import BenchError, GmcError
from gmcodec.files import write_then_rename

from .classifier import Classifier, Recipe, load, read_mosaics, train

CLUSTERS, CLUSTERINGS, ANGLES = 20, 10, 1001  # as in the code of Sajjadi et al.
NEIGHBOURS = 3  # as in Kynkaanniemi et al.
DISTANCE_ROWS = 1_000  # rows of a matrix of distances that are computed at once


# -- two sets of features --------------------------------------------------------------------------------------------


def frechet_distance(a: np.ndarray, b: np.ndarray) -> float:
    """|mu_a - mu_b|^2 + tr(A + B - 2 (AB)^(1/2)) of features [N, F], [M, F] with covariances A, B (Heusel et al. 2017).

    tr (AB)^(1/2) is the sum of the singular values of A^(1/2) B^(1/2).  This needs roots of symmetric matrices only,
    and avoids eigenvalues of AB that should be zero but are not because of rounding.
    """
    a, b = a.astype(np.float64), b.astype(np.float64)
    covariances = [np.atleast_2d(np.cov(x, rowvar=False)) for x in (a, b)]
    first, second = (_root(c) for c in covariances)
    cross = np.linalg.svd(first @ second, compute_uv=False).sum()
    apart = a.mean(0) - b.mean(0)
    return float(apart @ apart + sum(np.trace(c) for c in covariances) - 2 * cross)


def _root(covariance: np.ndarray) -> np.ndarray:
    """The symmetric root of a symmetric matrix whose eigenvalues are not negative, except by rounding."""
    values, vectors = np.linalg.eigh(covariance)
    return (vectors * np.sqrt(values.clip(0))) @ vectors.T


def precision_recall_curve(
    real: np.ndarray, generated: np.ndarray, clusters: int = CLUSTERS, seed: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    """Precision [ANGLES], falling, and recall [ANGLES], rising, of features [N, F], [N, F] (Sajjadi et al. 2018).

    With histograms p of real and q of generated images over joint clusters, precision at slope s is sum min(s p, q),
    and recall is that divided by s.  Both are averaged over several clusterings with random initialisation.
    """
    try:
        from sklearn.cluster import MiniBatchKMeans
        from threadpoolctl import threadpool_limits  # a requirement of scikit-learn
    except ImportError as error:
        raise BenchError("precision and recall need scikit-learn: pip install 'gmcodec[bench]'") from error

    if len(real) != len(generated) or 2 * len(real) < clusters:
        raise BenchError(f"{len(real)} real and {len(generated)} generated images for {clusters} clusters of both")
    slopes = np.tan(np.linspace(1e-6, np.pi / 2 - 1e-6, ANGLES))[:, None]
    both = np.concatenate([real, generated])
    precision, recall = np.zeros(ANGLES), np.zeros(ANGLES)
    for run in range(CLUSTERINGS):
        means = MiniBatchKMeans(clusters, n_init=10, random_state=seed + run)
        with threadpool_limits(1, "openmp"):  # with several threads the order of sums is random
            found = means.fit(both).labels_
        p, q = (np.bincount(part, minlength=clusters) / len(part) for part in np.split(found, 2))
        precision += np.minimum(slopes * p, q).sum(1) / CLUSTERINGS
        recall += np.minimum(p, q / slopes).sum(1) / CLUSTERINGS
    return precision[::-1], recall[::-1]


def f_beta(precision: np.ndarray, recall: np.ndarray, beta: float) -> float:
    """The largest F_beta along a curve, in which recall has beta times the weight of precision."""
    below = beta**2 * precision + recall
    return float(np.divide((1 + beta**2) * precision * recall, below, out=np.zeros_like(below), where=below > 0).max())


def precision_recall(precision: np.ndarray, recall: np.ndarray) -> dict[str, float]:
    """The summary of a curve by Sajjadi et al. 2018, and the area under it (thesis, Figure 5.11); all from 0 to 1."""
    area = ((precision[1:] + precision[:-1]) / 2 * np.diff(recall)).sum()
    return {"F_1/8": f_beta(precision, recall, 1 / 8), "F_8": f_beta(precision, recall, 8), "area": float(area)}


def neighbour_precision_recall(
    real: np.ndarray, generated: np.ndarray, neighbours: int = NEIGHBOURS
) -> tuple[float, float]:
    """Fractions of generated images in the support of real ones, and the reverse, from features [N, F], [M, F].

    A support is the union of balls around images.  The radius of a ball is the distance to the ``neighbours``-th
    nearest image of the same set (Kynkaanniemi et al. 2019).
    """
    if min(len(real), len(generated)) <= neighbours:
        raise BenchError(f"{len(real)} and {len(generated)} images have no {neighbours} neighbours each")
    real, generated = real.astype(np.float64), generated.astype(np.float64)
    return _inside(generated, real, neighbours), _inside(real, generated, neighbours)


def _inside(points: np.ndarray, others: np.ndarray, neighbours: int) -> float:
    """The fraction of ``points`` in the support of ``others``."""
    # the nearest neighbour, number 0, is the image itself
    radii = [np.partition(d, neighbours, axis=1)[:, neighbours] for d in _distances(others, others)]
    radius = np.concatenate(radii)
    return float(np.concatenate([(d <= radius).any(1) for d in _distances(points, others)]).mean())


def _distances(a: np.ndarray, b: np.ndarray) -> Iterator[np.ndarray]:
    """Squared Euclidean distances [N, M] between features [N, F] and [M, F], some rows at a time."""
    for start in range(0, len(a), DISTANCE_ROWS):
        part = a[start : start + DISTANCE_ROWS]
        yield ((part**2).sum(1)[:, None] - 2 * part @ b.T + (b**2).sum(1)).clip(0)


def classifier_score(probabilities: np.ndarray) -> float:
    """exp E KL(p(y | x) || p(y)) of [N, classes] (Salimans et al. 2016): from 1 to the number of classes."""
    p = probabilities.astype(np.float64)
    ratio = np.divide(p, p.mean(0), out=np.ones_like(p), where=p > 0)
    return float(np.exp((p * np.log(ratio)).sum(1).mean()))


# -- two sets of images ----------------------------------------------------------------------------------------------


def gan_test(net: Classifier, images: np.ndarray, labels: np.ndarray) -> float:
    """Quality of samples uint8 [N, 3, 32, 32] of classes int [N]: accuracy of a classifier of real images on them."""
    return net.accuracy(images, labels)


def gan_train(
    images: np.ndarray, labels: np.ndarray, real: np.ndarray, classes: np.ndarray, recipe: Recipe
) -> float:  # fmt: skip
    """Quality and diversity of samples: accuracy of a classifier that learns from them on ``real`` images."""
    return train(images, labels, recipe).accuracy(real, classes)


def inception(real: np.ndarray, generated: np.ndarray, weights: Path) -> dict[str, float]:
    """FID and Inception score of images uint8 [N, 3, 32, 32], by torch-fidelity, which is in no extra of gmcodec.

    ``weights``: its file ``pt_inception-2015-12-05-6726825d.pth``, which is unpickled, so it must be trusted.
    """
    try:
        from torch_fidelity import calculate_metrics
    except ImportError as error:
        raise BenchError("FID and Inception score need torch-fidelity: pip install torch-fidelity") from error
    import torch
    from torch.utils.data import Subset

    if not weights.is_file():
        raise BenchError(f"{weights}: no such file; the weights of Inception are not downloaded")
    found = calculate_metrics(
        input1=Subset(torch.from_numpy(generated), range(len(generated))),  # type: ignore[arg-type]
        input2=Subset(torch.from_numpy(real), range(len(real))),  # type: ignore[arg-type]
        isc=True,
        fid=True,
        feature_extractor_weights_path=str(weights),
        cuda=torch.cuda.is_available(),
        save_cpu_ram=True,
        verbose=False,
    )
    return {"FID": found["frechet_inception_distance"], "IS": found["inception_score_mean"]}


# -- the command -----------------------------------------------------------------------------------------------------


@dataclass
class Set:
    """A set of images, uint8 [N, 3, 32, 32], and their classes, int64 [N], if they are known."""

    name: str
    images: np.ndarray
    labels: np.ndarray | None

    def part(self, chosen: np.ndarray, name: str | None = None) -> Set:
        """The images at these indices."""
        return Set(name or self.name, self.images[chosen], None if self.labels is None else self.labels[chosen])


def measure(
    net: Classifier, real: Set, generated: Set, recipe: Recipe | None, weights: Path | None, seed: int
) -> tuple[dict[str, float], list[np.ndarray]]:
    """All figures of a set by column, and its curve of precision and recall.  ``recipe``: of GAN-train, or None."""
    features = net.features(real.images), net.features(generated.images)
    curve = precision_recall_curve(*features, seed=seed)
    precision, recall = neighbour_precision_recall(*features)
    found = {
        "Frechet distance": frechet_distance(*features),
        "classifier score": classifier_score(net.probabilities(generated.images)),
        **precision_recall(*curve),
        "precision": precision,
        "recall": recall,
    }
    if generated.labels is not None:
        found["GAN-test"] = gan_test(net, generated.images, generated.labels)
        if recipe is not None and real.labels is not None:
            found["GAN-train"] = gan_train(generated.images, generated.labels, real.images, real.labels, recipe)
    if weights is not None:
        found |= inception(real.images, generated.images, weights)
    return found, list(curve)


def table(found: dict[str, dict[str, float]]) -> str:
    """A row for each set in Markdown, with "-" for figures that were not measured."""
    columns = list(dict.fromkeys(column for figures in found.values() for column in figures))
    lines = ["| set | " + " | ".join(columns) + " |", "|---|" + "---:|" * len(columns)]
    for name, figures in found.items():
        cells = [f"{figures[c]:.4f}" if c in figures else "-" for c in columns]
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def plot(curves: dict[str, list[np.ndarray]], path: Path) -> None:
    """Plot precision against recall, as in Figure 5.11."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    pyplot.figure(figsize=(5, 5))
    for name, (precision, recall) in curves.items():
        pyplot.plot(recall, precision, label=name)
    pyplot.xlabel("recall")
    pyplot.ylabel("precision")
    pyplot.legend()
    pyplot.grid(alpha=0.3)
    pyplot.tight_layout()
    pyplot.savefig(path, metadata={"Date": None})
    pyplot.close()


def open_sets(real: Path, generated: tuple[Path, ...], count: int | None, seed: int) -> tuple[Set, list[Set]]:
    """A random half of ``real``; and its other half and the generated sets, with as many images each."""
    names = [p.name if sum(q.name == p.name for q in generated) == 1 else str(p) for p in generated]
    if len(set(names)) < len(names):
        raise BenchError("a generated set is named twice")
    whole = Set(real.name, *read_mosaics(real))
    sets = [Set(name, *read_mosaics(path)) for name, path in zip(names, generated, strict=True)]
    most = min(len(whole.images) // 2, *(len(s.images) for s in sets))
    if count is not None and count > most:
        raise BenchError(f"cannot compare {count} images: the smallest generated set, or half of {real}, has {most}")
    count = count or most
    random = np.random.default_rng(seed)
    order = random.permutation(len(whole.images))
    halves = whole.part(order[:count]), whole.part(order[count : 2 * count], f"{real.name}, other images")
    return halves[0], [halves[1], *(s.part(random.permutation(len(s.images))[:count]) for s in sets)]


@click.command()
@click.argument("real", type=click.Path(exists=True, path_type=Path))
@click.argument("generated", nargs=-1, required=True, type=click.Path(exists=True, path_type=Path))
@click.option("--classifier", type=click.Path(exists=True, dir_okay=False, path_type=Path), required=True)
@click.option("-o", "--out", type=click.Path(file_okay=False, path_type=Path), required=True, help="A folder.")
@click.option("--count", type=click.IntRange(CLUSTERS), help="Images of each set; default: all that can be used.")
@click.option("--gan-train", "steps", type=click.IntRange(1), help="Also GAN-train, with this number of steps.")
@click.option(
    "--inception", "weights", type=click.Path(exists=True, path_type=Path), help="Also FID and IS, with this file."
)
@click.option("--seed", default=0, show_default=True, help="Seed of images, clusters and GAN-train.")
def main(
    real: Path, generated: tuple[Path, ...], classifier: Path, out: Path, count: int | None, steps: int | None,
    weights: Path | None, seed: int,
) -> None:  # fmt: skip
    """Compare mosaics of samples with REAL ones; write results.json, table.md and curves.svg."""
    try:
        net = load(classifier)
        half, sets = open_sets(real, generated, count, seed)
        recipe = replace(net.recipe, steps=steps, seed=seed) if steps else None
        if recipe and (half.labels is None or all(s.labels is None for s in sets[1:])):
            raise BenchError("GAN-train needs *_labels.npy beside REAL and beside a generated set")
        found, curves = {}, {}
        for one in sets:
            found[one.name], curves[one.name] = measure(net, half, one, recipe, weights, seed)
            click.echo(f"{one.name}: Frechet distance {found[one.name]['Frechet distance']:.4f}")
    except GmcError as error:
        raise click.ClickException(str(error)) from error
    accuracies = ", ".join(f"{accuracy:.2%} ({name})" for name, accuracy in net.accuracies.items()) or "unknown"
    summary = f"{len(half.images)} images on each side; accuracy of the classifier: {accuracies}"
    summary += f"; GAN-train with {steps} steps" if steps else ""
    results: dict[str, Any] = {
        "count": len(half.images),
        "features": net.recipe.widths[-1],
        "accuracies": net.accuracies,
        "gan_train_steps": steps,
        "seed": seed,
        "sets": found,
    }
    out.mkdir(parents=True, exist_ok=True)
    with write_then_rename(out / "results.json") as file:
        file.write(json.dumps(results, indent=1).encode())
    (out / "table.md").write_text(f"{table(found)}\n{summary}\n", "utf-8")
    plot(curves, out / "curves.svg")
    click.echo(f"{table(found)}\n{summary}")


if __name__ == "__main__":
    main()
