/* SPDX-License-Identifier: Apache-2.0 */

/* One line of mountinfo: anybody who may mount chooses paths and options. */

#include <assert.h>
#include <string.h>

#include "agent/observe/disks.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n) {
        DisksMountLine line;

        if (disks_parse_mount((const char *) data, n, &line) < 0)
                return 0;
        assert(line.path[0] == '/' && strlen(line.path) < sizeof(line.path));
        assert(strlen(line.fstype) < sizeof(line.fstype) && strlen(line.source) < sizeof(line.source));
        return 0;
}
