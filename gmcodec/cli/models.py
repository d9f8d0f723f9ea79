# SPDX-License-Identifier: MIT
"""The commands on models: ``models`` lists them, ``sample`` draws pictures with one."""

from __future__ import annotations

from pathlib import Path

import click

from gmcodec.cli import jobs
from gmcodec.cli.console import POSITIVE
from gmcodec.cli.paths import printable
from gmcodec.errors import WeightsError


@click.command()
def models() -> None:
    """List the learned models and whether their weights are installed."""
    show_models()


def show_models() -> None:
    """Print the table of models."""
    from gmcodec.models import registry

    click.echo(f"weights in {printable(registry.folder())}")
    width = max(len(entry.name) for entry in registry.ENTRIES)
    row = f"{{:{width}}} {{:>8}} {{:>4}}  {{:8}} {{:>9}} {{:>10}}".format
    click.echo(row("name", "channels", "form", "weights", "bytes", "parameters"))
    for entry in registry.ENTRIES:
        try:
            loaded = registry.load(entry.method)
            count = sum(layer.weight.size + layer.bias.size for layer in loaded.model.layers.values())
            size = sum(path.stat().st_size for path in registry.paths(entry))
            values: tuple = loaded.weights_id.hex(), size, count
        except WeightsError as error:
            values = "-", "-", f"- not installed: {jobs.one_line(error)}"
        click.echo(row(entry.name, entry.channels, entry.method, *values))


@click.command()
@click.argument("model")
@click.option("-o", "--output", type=click.Path(path_type=Path), required=True, help="The picture, a PNG file.")
@click.option("--rows", type=POSITIVE, default=8, show_default=True, help="Rows of images.")
@click.option("--columns", type=POSITIVE, default=8, show_default=True, help="Images in a row.")
@click.option("--size", type=POSITIVE, default=32, show_default=True, help="Side of an image, pixels.")
@click.option("--seed", type=int, default=0, show_default=True, help="Seed of the random bits.")
@click.option("--from", "source", type=click.Path(exists=True, path_type=Path),
              help="A mosaic: reconstruct its first images, one in each row.")  # fmt: skip
@click.option("-f", "--force", is_flag=True, help="Overwrite the output.")
def sample(model: str, output: Path, rows: int, columns: int, size: int, seed: int, source: Path | None,
           force: bool) -> None:  # fmt: skip
    """Draw pictures with MODEL, by decoding random bits.

    If the model has latents, the images of a row share one draw of them; before them stands the picture that these
    latents describe by themselves. With --from, the latents are those of an image, which stands first in its row.
    """
    jobs.refuse_to_overwrite(output, force)
    from PIL import Image

    from gmcodec.files import replacing
    from gmcodec.sampling import sample_page

    try:
        page = sample_page(model, rows, columns, size, seed, source)
    except ValueError as error:
        raise click.UsageError(str(error)) from error
    with replacing(output, append=False, force=force) as file:
        Image.fromarray(page.squeeze()).save(file, "PNG")
    click.echo(f"{printable(output)}: {rows} x {columns} images of {size}x{size} from {model}")
