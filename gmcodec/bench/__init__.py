# SPDX-License-Identifier: MIT
"""gmcodec beside other lossless codecs: ``gmcodec bench FOLDER`` (needs the extra ``[bench]``).

images.py     sets: folders, files, tiles -> arrays
codecs.py     what a codec is;  competitors.py, libjxl.py, ours.py: the codecs;  catalogue.py: all of them, by name
measure.py    one image with one codec: bytes that count only if the decoded pixels are equal
archive.py    codecs that code a whole set into one archive
run.py        all images with all codecs, interleaved, resumable;  records.py: its file of rows
memory.py     peak memory, in a fresh process per codec
summary.py    rows -> figures;  tables.py, plots.py, report.py: figures -> Markdown, SVG and PNG, HTML
labels.py     where the names of points stand in a plot
machine.py    the machine, and the versions that ran on it

Arrays are uint8 or uint16, [H, W] or [H, W, C], as ``gmcodec.encode`` takes them.
"""
