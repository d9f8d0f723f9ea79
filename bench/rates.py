# SPDX-License-Identifier: MIT
"""Rates on a folder of images: bytes of files that were decoded and compared, every image, headers included.

python -m bench.rates FOLDER [--codecs PNG,WebP,...] [--json OUT] [--grey]
"""

from __future__ import annotations

import json
import platform
import time
from pathlib import Path

import click
import numpy as np
from tqdm import tqdm

from gmcodec import __version__, codec, pixels

from .codecs import ALL, GMCODEC


def measure(path: Path, names: list[str], grey: bool) -> dict:
    """Bytes and seconds of one image with every codec; raises if anything does not decode to the same pixels."""
    planes = pixels.read(path, strip=True)
    if grey:
        planes = pixels.from_image(pixels.to_image(planes).convert("L"), strip=True)
    image = pixels.to_array(planes)
    row: dict = {"image": path.name, "shape": list(image.shape), "dimensions": image.size, "bytes": {}, "encode_s": {},
                 "decode_s": {}}  # fmt: skip
    for competitor in ALL:
        if competitor.name not in names:
            continue
        start = time.perf_counter()
        if competitor is GMCODEC:
            encoded = codec.encode_planes(planes)
            data, row["estimated_bits"] = encoded.data, encoded.estimated_bits
        else:
            data = competitor.encode(image)
        middle = time.perf_counter()
        back = competitor.decode(data)
        end = time.perf_counter()
        if image.ndim == 2 and back.ndim == 3 and (back == back[..., :1]).all():
            back = back[..., 0]  # WebP has no grey: it gives three equal channels
        if not np.array_equal(back, image):
            raise AssertionError(f"{competitor.name} did not return the pixels of {path}")
        row["bytes"][competitor.name] = len(data)
        row["encode_s"][competitor.name] = middle - start
        row["decode_s"][competitor.name] = end - middle
    return row


def table(rows: list[dict], names: list[str]) -> str:
    """Markdown: bytes of every image, totals in bits per sample."""
    lines = ["| image | " + " | ".join(names) + " |", "|---|" + "---:|" * len(names)]
    for row in rows:
        lines.append(f"| {row['image']} | " + " | ".join(f"{row['bytes'][n]:,}" for n in names) + " |")
    dimensions = sum(r["dimensions"] for r in rows)
    total = {n: sum(r["bytes"][n] for r in rows) for n in names}
    lines.append("| **all** | " + " | ".join(f"**{total[n]:,}**" for n in names) + " |")
    lines.append("| **bits per sample** | " + " | ".join(f"**{8 * total[n] / dimensions:.4f}**" for n in names) + " |")
    for kind in ("encode_s", "decode_s"):
        mean = {n: np.mean([r[kind][n] for r in rows]) for n in names}
        lines.append(f"| {kind[:6]} seconds, mean | " + " | ".join(f"{mean[n]:.2f}" for n in names) + " |")
    return "\n".join(lines)


@click.command()
@click.argument("folder", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--codecs", default="PNG,WebP,JPEG XL -e 7,gmcodec", show_default=True, help="Comma-separated names.")
@click.option("--grey", is_flag=True, help="Convert to grey (Pillow's L) first.")
@click.option("--json", "json_path", type=click.Path(dir_okay=False, path_type=Path), help="Also write JSON here.")
def main(folder: Path, codecs: str, grey: bool, json_path: Path | None) -> None:
    """Compare lossless codecs on every image of FOLDER."""
    names = [n.strip() for n in codecs.split(",")]
    paths = sorted(
        p for p in folder.iterdir() if p.suffix.lower() in {".png", ".webp", ".tif", ".tiff", ".ppm", ".bmp"}
    )
    rows = [measure(p, names, grey) for p in tqdm(paths, unit="image")]
    click.echo(table(rows, names))
    if "gmcodec" in names:
        dimensions = sum(r["dimensions"] for r in rows)
        estimate = sum(r["estimated_bits"] for r in rows) / dimensions
        real = sum(8 * r["bytes"]["gmcodec"] for r in rows) / dimensions
        click.echo(f"\ngmcodec: the model's own estimate {estimate:.4f}, files {real:.4f} bits per sample "
                   f"({100 * (real / estimate - 1):.3f} % over)")  # fmt: skip
        for other in names:
            if other != "gmcodec":
                ratio = sum(r["bytes"]["gmcodec"] for r in rows) / sum(r["bytes"][other] for r in rows)
                click.echo(f"gmcodec against {other}: {100 * (ratio - 1):+.2f} %")
    if json_path:
        machine = {
            "machine": platform.machine(),
            "processor": platform.processor(),
            "python": platform.python_version(),
        }
        json_path.write_text(json.dumps({"gmcodec": __version__, **machine, "rows": rows}, indent=1))


if __name__ == "__main__":
    main()
