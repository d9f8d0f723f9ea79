# SPDX-License-Identifier: MIT
"""``python -m bench``: gmcodec beside other codecs, see gmcodec/bench/.

speed.py: gmcodec's own speed.  likelihood.py: its models of small images.
"""
