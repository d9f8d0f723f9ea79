// SPDX-License-Identifier: MIT
// Units and sizes that the kernels share with the specification: exact/logistic.py has the same names.
#pragma once

#include "gmcodec.h"

namespace gm::GM_ISA {

constexpr int MAX_CHANNELS = 3;
constexpr int MAX_MIXTURES = 32; // logistics of a net
constexpr int POSITION = 64;     // units of a position or a mean per grey level
constexpr int LOG_SCALE_MIN = -4, LOG_SCALE_MAX = 6, LOG_SCALE_UNIT = 32; // nats; units of a log-scale per nat

// How samples lie on the grey levels of a net: logistic.Scale.
typedef gm_scale Scale;
constexpr Scale BYTES = {0, 0, 255, POSITION / 2}; // samples of 8 bits

} // namespace gm::GM_ISA
