/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Takes the fuzzer's place where there is none: feeds each file of the corpus directories given to the target, whole
 * and cut short at up to CUTS places, and reports one TAP line a file. Every input lies in a block of exactly its
 * size, so that a sanitizer sees a read past its end. A crash leaves the file's name as the last line.
 */

#include <dirent.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define CUTS 256

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);
int LLVMFuzzerInitialize(int *argc, char ***argv) __attribute__((weak)); /* few targets have one */

static void feed(const uint8_t *data, size_t n) {
        uint8_t *copy = malloc(n > 0 ? n : 1);

        if (!copy)
                abort();
        memcpy(copy, data, n);
        (void) LLVMFuzzerTestOneInput(copy, n);
        free(copy);
}

static int read_whole(const char *path, uint8_t **ret, size_t *ret_n) {
        FILE *file = fopen(path, "rbe");
        uint8_t *data = NULL;
        long size;

        if (!file)
                return -1;
        if (fseek(file, 0, SEEK_END) < 0 || (size = ftell(file)) < 0 || fseek(file, 0, SEEK_SET) < 0)
                goto failed;
        data = malloc((size_t) size + 1);
        if (!data || fread(data, 1, (size_t) size, file) != (size_t) size)
                goto failed;
        (void) fclose(file);
        *ret = data;
        *ret_n = (size_t) size;
        return 0;

failed:
        free(data);
        (void) fclose(file);
        return -1;
}

static int replay_file(const char *path, unsigned number) {
        uint8_t *data = NULL;
        size_t n = 0;

        printf("# %s\n", path);
        if (read_whole(path, &data, &n) < 0) {
                printf("not ok %u - %s cannot be read\n", number, path);
                return -1;
        }
        for (size_t cut = 0; cut < n; cut += n / CUTS + 1)
                feed(data, cut);
        feed(data, n);
        free(data);
        printf("ok %u - %s\n", number, path);
        return 0;
}

static int is_file(const struct dirent *entry) {
        return entry->d_name[0] != '.';
}

static int replay_directory(const char *directory, unsigned *number) {
        struct dirent **entries = NULL;
        char path[4096];
        int failed = 0, n;

        n = scandir(directory, &entries, is_file, alphasort); /* in order, so that runs compare */
        for (int i = 0; i < n; i++) {
                (void) snprintf(path, sizeof(path), "%s/%s", directory, entries[i]->d_name);
                if (replay_file(path, ++*number) < 0)
                        failed++;
                free(entries[i]);
        }
        free(entries);
        if (n <= 0) {
                printf("not ok %u - %s has files\n", ++*number, directory);
                failed++;
        }
        return failed;
}

int main(int argc, char **argv) {
        unsigned number = 0;
        int failed = 0;

        setvbuf(stdout, NULL, _IOLBF, 0);
        if (LLVMFuzzerInitialize)
                (void) LLVMFuzzerInitialize(&argc, &argv);
        for (int i = 1; i < argc; i++)
                failed += replay_directory(argv[i], &number);
        printf("1..%u\n# %u files replayed\n", number, number);
        return failed > 0 || number == 0 ? EXIT_FAILURE : EXIT_SUCCESS;
}
