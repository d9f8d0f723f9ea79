// SPDX-License-Identifier: MIT
// The table of this instruction set's functions.  Compiled once for each: GM_ISA is its name, and a namespace.
#include "gmcodec.h"

#define GM_TEXT(name) #name
#define GM_NAME(name) GM_TEXT(name)

namespace gm::GM_ISA {
extern const gm_functions functions;
const gm_functions functions = {GM_NAME(GM_ISA)};
} // namespace gm::GM_ISA
