# SPDX-License-Identifier: MIT
"""``python -m bench``: gmcodec beside other codecs, see gmcodec/bench/.

speed.py: gmcodec's own speed.  likelihood.py: its models of small images.  quality.py: how good their samples are, with
the features of classifier.py.
"""
