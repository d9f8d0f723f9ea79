/* SPDX-License-Identifier: MIT
 *
 * The native core of gmcodec: one table of functions for each instruction set.
 */
#ifndef GMCODEC_H
#define GMCODEC_H

#include <stdint.h>

#if defined(_WIN32)
#define GM_EXPORT __declspec(dllexport)
#else
#define GM_EXPORT __attribute__((visibility("default")))
#endif

#ifdef __cplusplus
extern "C" {
#endif

typedef struct gm_functions {
  const char *isa; /* name of the instruction set these functions were compiled for */
} gm_functions;

/* The functions for an instruction set by name, or for an empty name the best that this processor has.
 * Null for a name that is unknown or that this processor does not have. */
GM_EXPORT const gm_functions *gm_open(const char *isa);

/* Names of the instruction sets in this library that this processor has, the best first, separated by commas. */
GM_EXPORT const char *gm_isas(void);

#ifdef __cplusplus
}
#endif
#endif
