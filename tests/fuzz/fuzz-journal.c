/* SPDX-License-Identifier: Apache-2.0 */

/*
 * The journal's reader. The input is read as it is, and once more with the hash that makes it whole, for
 * hardly any input has the right one. What is read must come back the same after being written.
 */

#include <openssl/evp.h>
#include <string.h>

#include "agent/act/journal.h"

#define HASH_LINE 72 /* "sha256 ", 64 digits, '\n' */

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

static void check(const char *text, size_t n) {
        JournalEntry entry, back;
        char written[JOURNAL_TEXT_MAX];
        size_t n_written = 0;

        if (journal_parse(text, n, &entry) != 0)
                return;
        if (journal_format(&entry, written, sizeof(written), &n_written) != 0 ||
                journal_parse(written, n_written, &back) != 0 || back.sequence != entry.sequence ||
                strcmp(back.target.group, entry.target.group) != 0)
                abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n) {
        char sealed[JOURNAL_TEXT_MAX + 1];
        unsigned char digest[EVP_MAX_MD_SIZE];
        unsigned n_digest = 0;
        size_t at = n;

        check((const char *) data, n);
        if (n > JOURNAL_TEXT_MAX - HASH_LINE ||
                EVP_Digest(data, n, digest, &n_digest, EVP_sha256(), NULL) != 1)
                return 0;
        memcpy(sealed, data, n);
        at += (size_t) snprintf(sealed + at, sizeof(sealed) - at, "sha256 ");
        for (unsigned i = 0; i < n_digest; i++)
                at += (size_t) snprintf(sealed + at, sizeof(sealed) - at, "%02x", digest[i]);
        sealed[at++] = '\n';
        check(sealed, at);
        return 0;
}
