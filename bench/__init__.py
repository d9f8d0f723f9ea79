# SPDX-License-Identifier: MIT
"""Benchmarks and experiments that are not part of the package.  ``python -m bench`` is ``gmcodec bench``.

speed.py       speed and memory of gmcodec
promise.py     file sizes beside lossless WebP
high_depth.py  images of 12 to 16 bits beside JPEG XL
learning.py    gain of models that learn while they code;  online.py: the same in floats, with other rules
likelihood.py  models of small images
agave.py       experiments of the thesis, as is ade.py;  runs.py: their training runs
quality.py     quality of samples, with the features of classifier.py;  draw.py: draws them
readme.py      copies measured tables into the README;  redraw.py: draws plots again
"""

HELD_OUT_IMAGES = 2_000  # the last training images of CIFAR-10, which no net learns from
