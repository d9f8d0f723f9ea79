# SPDX-License-Identifier: MIT
"""gmcodec beside every codec a user would pick instead: ``gmcodec bench FOLDER`` (needs the extra ``[bench]``).

images.py    sets: folders, files, tiles -> arrays
codecs.py    what a codec is here; one by its name (competitors.py, libjxl.py, ours.py make them)
measure.py   one image with one codec: bytes that count only if the decoded pixels are equal
archive.py   codecs that code a whole set into one archive
run.py       all images with all codecs, interleaved, resumable;  records.py: its file of rows
memory.py    peak memory, in a fresh process per codec
summary.py   rows -> figures;  tables.py, plots.py, report.py: figures -> Markdown, SVG and PNG, HTML
machine.py   where and with which versions it ran

Arrays are uint8 or uint16, [H, W] or [H, W, C], as ``gmcodec.encode`` takes them.
"""
