# SPDX-License-Identifier: MIT
"""From samples to payloads and back: every function beside its inverse."""
