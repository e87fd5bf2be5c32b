/* SPDX-License-Identifier: Apache-2.0 */
#ifndef FUZZ_FUZZ_H
#define FUZZ_FUZZ_H

/*
 * fuzz: what every target defines. A broken property ends the process (CHECK of base/mem.h).
 */

#include <stddef.h>
#include <stdint.h>

/* Called with many inputs, each in memory of exactly `size` bytes. Returns 0. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#endif
