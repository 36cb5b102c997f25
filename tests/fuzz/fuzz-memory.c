/* SPDX-License-Identifier: Apache-2.0 */

/* The three files of memory: the same bytes go to each of their readers. */

#include <assert.h>

#include "agent/observe/memory.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n) {
        const char *text = (const char *) data;
        MemorySample sample = {};

        if (memory_parse_meminfo(text, n, &sample) == 0)
                assert(sample.used >= 0 && sample.used <= 10000 && sample.available >= 0 &&
                        sample.available <= 10000 && sample.swap_used >= 0 && sample.swap_used <= 10000);
        if (memory_parse_pressure(text, n, &sample) == 0)
                assert(sample.some >= 0 && sample.some <= 10000 && sample.full >= SHARE_NONE &&
                        sample.full <= 10000);
        if (memory_parse_vmstat(text, n, &sample) == 0)
                assert(sample.oom_kills >= 0);
        return 0;
}
