/* SPDX-License-Identifier: Apache-2.0 */

/*
 * The spool's readers: of a line, and of a file. What a line holds must come back the same after being
 * written; a file is always emptied in a bounded number of steps, whatever it holds.
 */

#include <string.h>

#include "agent/act/spool.h"
#include "common/file.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

/* Without an order between them they are the same; float-equal is a warning here. */
static bool same(double a, double b) {
        return !(a < b) && !(a > b);
}

static void check_line(const char *line, size_t n) {
        char path[DISK_PATH_MAX], path_back[DISK_PATH_MAX], written[SPOOL_LINE_MAX];
        SpoolItem item, back;
        size_t n_written = 0;

        if (spool_parse(line, n, path, &item) != 0)
                return;
        if (spool_format(&item, written, &n_written) != 0 ||
                spool_parse(written, n_written - 1, path_back, &back) != 0 ||
                !same(item.datum.min, back.datum.min) || !same(item.datum.max, back.datum.max) ||
                !same(item.datum.sum, back.datum.sum) || item.datum.at.usec != back.datum.at.usec ||
                !item.path != !back.path)
                abort();
}

static void on_item(const SpoolItem *item, void *userdata) {
        (void) item;
        (*(size_t *) userdata)++;
}

static void check_file(const char *text, size_t n) {
        static char directory[] = "/tmp/fuzz-spool-XXXXXX", path[64];
        Spool *spool = NULL;
        size_t seen = 0, steps = 0;

        if (!path[0]) {
                if (!mkdtemp(directory))
                        abort();
                (void) snprintf(path, sizeof(path), "%s/spool", directory);
        }
        if (file_write_atomic(path, text, n, 0600, false) != 0 || spool_new(&spool, path) != 0)
                abort();
        for (; spool_waiting(spool) > 0; steps++)
                if (spool_take(spool, 7, on_item, &seen) != 0 || steps > n)
                        abort();
        if (seen > n)
                abort();
        spool_free(spool);
        (void) unlink(path);
        (void) rmdir(directory);
        path[0] = '\0';
        (void) snprintf(directory, sizeof(directory), "/tmp/fuzz-spool-XXXXXX");
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n) {
        check_line((const char *) data, n);
        check_file((const char *) data, n);
        return 0;
}
