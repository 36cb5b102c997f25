/* SPDX-License-Identifier: Apache-2.0 */

/* The journal's text, and its two copies. */

#include "agent/act/journal.h"

#include <assert.h>
#include <inttypes.h>
#include <openssl/evp.h>
#include <stdio.h>
#include <string.h>

#include "common/cleanup.h"
#include "common/file.h"
#include "common/parse.h"

#define JOURNAL_VERSION_LINE  "ecs-health-agent-journal 1\n"
#define JOURNAL_HASH_KEY      "sha256 "
#define JOURNAL_HASH_HEX      64
#define JOURNAL_HASH_LINE_MAX (sizeof(JOURNAL_HASH_KEY) - 1 + JOURNAL_HASH_HEX + 1)

typedef enum JournalFieldType {
        JOURNAL_FIELD_U64,
        JOURNAL_FIELD_U32,
        JOURNAL_FIELD_WALL, /* microseconds since 1970 */
        JOURNAL_FIELD_BOOL,
        JOURNAL_FIELD_TEXT,
} JournalFieldType;

typedef struct JournalField {
        const char *key;
        JournalFieldType type;
        size_t offset;
        uint64_t max; /* of a number; size of a text's buffer */
} JournalField;

#define JOURNAL_NUMBER(key, type, member, max)                                                              \
        { key, type, offsetof(JournalEntry, member), max }
#define JOURNAL_TEXT(key, member)                                                                           \
        { key, JOURNAL_FIELD_TEXT, offsetof(JournalEntry, member), sizeof(((JournalEntry *) NULL)->member) }

/* clang-format off */
static const JournalField journal_fields[] = {
        JOURNAL_NUMBER("sequence", JOURNAL_FIELD_U64, sequence, UINT64_MAX - 1), /* one more can be counted */
        JOURNAL_TEXT("instance", target.instance_id),
        JOURNAL_TEXT("cluster", target.cluster),
        JOURNAL_TEXT("arn", target.arn),
        JOURNAL_TEXT("zone", target.zone),
        JOURNAL_TEXT("group", target.group),
        JOURNAL_TEXT("boot", boot_id),
        JOURNAL_NUMBER("answered", JOURNAL_FIELD_BOOL, answered_this_boot, 1),
        JOURNAL_NUMBER("incident", JOURNAL_FIELD_U64, record.incident, UINT64_MAX - 1),
        JOURNAL_NUMBER("stage", JOURNAL_FIELD_U32, record.stage, STAGE_N - 1),
        JOURNAL_NUMBER("cause", JOURNAL_FIELD_U32, record.cause, CAUSE_N - 1),
        JOURNAL_NUMBER("opened", JOURNAL_FIELD_WALL, record.opened, INT64_MAX),
        JOURNAL_NUMBER("changed", JOURNAL_FIELD_WALL, record.changed, INT64_MAX),
        JOURNAL_NUMBER("closed", JOURNAL_FIELD_WALL, record.closed, INT64_MAX),
        JOURNAL_NUMBER("repaired", JOURNAL_FIELD_WALL, record.repaired, INT64_MAX),
        JOURNAL_NUMBER("detach_sent", JOURNAL_FIELD_WALL, record.detach_sent, INT64_MAX),
        JOURNAL_NUMBER("drained", JOURNAL_FIELD_BOOL, record.drained, 1),
        JOURNAL_NUMBER("marked", JOURNAL_FIELD_BOOL, record.marked, 1),
        JOURNAL_NUMBER("acted", JOURNAL_FIELD_BOOL, record.acted, 1),
        JOURNAL_NUMBER("looped", JOURNAL_FIELD_BOOL, record.looped, 1),
        JOURNAL_NUMBER("released", JOURNAL_FIELD_BOOL, record.released, 1),
        JOURNAL_NUMBER("ended", JOURNAL_FIELD_BOOL, record.ended, 1),
        JOURNAL_NUMBER("action", JOURNAL_FIELD_U32, record.action, ACTION_N - 1),
        JOURNAL_NUMBER("peer_stage", JOURNAL_FIELD_U32, record.peer_stage, PATROL_STAGE_N - 1),
        JOURNAL_NUMBER("peer_action", JOURNAL_FIELD_U32, record.peer_action, ACTION_N - 1),
        JOURNAL_NUMBER("peer_changed", JOURNAL_FIELD_WALL, record.peer_changed, INT64_MAX),
        JOURNAL_NUMBER("peer_sent", JOURNAL_FIELD_WALL, record.peer_sent, INT64_MAX),
        JOURNAL_TEXT("peer_arn", record.peer.arn),
        JOURNAL_TEXT("peer", record.peer.instance_id),
};
/* clang-format on */

struct Journal {
        char *run, *state; /* the two directories */
        char *run_file, *state_file;
        uint64_t sequence; /* the highest ever seen, another instance's included */
};

/* Text */

static void *member_of(const JournalEntry *entry, const JournalField *field) {
        return (char *) entry + field->offset;
}

static uint64_t field_get(const JournalEntry *entry, const JournalField *field) {
        const void *member = member_of(entry, field);

        switch (field->type) {
        case JOURNAL_FIELD_U64: return *(const uint64_t *) member;
        case JOURNAL_FIELD_U32: return *(const uint32_t *) member;
        case JOURNAL_FIELD_WALL: return (uint64_t) ((const Wall *) member)->usec;
        case JOURNAL_FIELD_BOOL: return *(const bool *) member;
        case JOURNAL_FIELD_TEXT: break;
        }
        return 0;
}

static void field_set(JournalEntry *entry, const JournalField *field, uint64_t value) {
        void *member = member_of(entry, field);

        switch (field->type) {
        case JOURNAL_FIELD_U64: *(uint64_t *) member = value; break;
        case JOURNAL_FIELD_U32: *(uint32_t *) member = (uint32_t) value; break;
        case JOURNAL_FIELD_WALL: ((Wall *) member)->usec = (int64_t) value; break;
        case JOURNAL_FIELD_BOOL: *(bool *) member = value > 0; break;
        case JOURNAL_FIELD_TEXT: break;
        }
}

static int text_hash(const char *text, size_t n, char hex[static JOURNAL_HASH_HEX + 1]) {
        unsigned char digest[EVP_MAX_MD_SIZE];
        unsigned n_digest = 0;

        if (EVP_Digest(text, n, digest, &n_digest, EVP_sha256(), NULL) != 1 ||
                n_digest * 2 != JOURNAL_HASH_HEX)
                return -EIO;
        for (size_t i = 0; i < n_digest; i++)
                (void) snprintf(hex + 2 * i, 3, "%02x", digest[i]);
        return 0;
}

/** A buffer being filled; too much shows as n >= size. */
typedef struct JournalText {
        char *buffer;
        size_t n, size;
} JournalText;

static void text_put(JournalText *output, const char *text, size_t n) {
        if (n < output->size - output->n)
                memcpy(output->buffer + output->n, text, n);
        else
                n = output->size - output->n;
        output->n += n;
}

/* A group's name may hold line breaks: control characters and '%' are written as %XX. */
static void text_put_escaped(JournalText *output, const char *text) {
        for (; *text; text++) {
                unsigned char c = (unsigned char) *text;
                char escaped[4];

                if (c >= ' ' && c != 0x7f && c != '%') {
                        text_put(output, text, 1);
                        continue;
                }
                (void) snprintf(escaped, sizeof(escaped), "%%%02X", c);
                text_put(output, escaped, 3);
        }
}

static void text_put_field(JournalText *output, const JournalEntry *entry, const JournalField *field) {
        char number[24];

        text_put(output, field->key, strlen(field->key));
        text_put(output, " ", 1);
        if (field->type == JOURNAL_FIELD_TEXT) {
                text_put_escaped(output, member_of(entry, field));
        } else {
                (void) snprintf(number, sizeof(number), "%" PRIu64, field_get(entry, field));
                text_put(output, number, strlen(number));
        }
        text_put(output, "\n", 1);
}

int journal_format(const JournalEntry *entry, char *buffer, size_t n_buffer, size_t *ret_n) {
        JournalText output = { .buffer = buffer, .size = n_buffer };
        char hex[JOURNAL_HASH_HEX + 1];
        int r;

        text_put(&output, JOURNAL_VERSION_LINE, strlen(JOURNAL_VERSION_LINE));
        for (size_t i = 0; i < ELEMENTSOF(journal_fields); i++) {
                /* What could not be read back must not be written over what can. */
                if (journal_fields[i].type != JOURNAL_FIELD_TEXT &&
                        field_get(entry, &journal_fields[i]) > journal_fields[i].max)
                        return -EINVAL;
                text_put_field(&output, entry, &journal_fields[i]);
        }
        if (output.n >= output.size)
                return -E2BIG;
        r = text_hash(buffer, output.n, hex);
        if (r < 0)
                return r;
        text_put(&output, JOURNAL_HASH_KEY, strlen(JOURNAL_HASH_KEY));
        text_put(&output, hex, JOURNAL_HASH_HEX);
        text_put(&output, "\n", 1);
        if (output.n >= output.size)
                return -E2BIG;

        *ret_n = output.n;
        return 0;
}

static int journal_hex_digit(char c) {
        return c >= '0' && c <= '9' ? c - '0' : c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

static int journal_read_text(const char *value, char *buffer, size_t size) {
        size_t n = 0;

        for (; *value; value++) {
                int high, low;
                char c = *value;

                if (c == '%') {
                        high = journal_hex_digit(value[1]);
                        low = high < 0 ? -1 : journal_hex_digit(value[2]);
                        if (low < 0 || high + low == 0)
                                return -EBADMSG;
                        c = (char) (high << 4 | low);
                        value += 2;
                }
                if (n + 1 >= size)
                        return -EBADMSG;
                buffer[n++] = c;
        }
        buffer[n] = '\0';
        return 0;
}

static int journal_read_field(JournalEntry *entry, const JournalField *field, const char *value) {
        uint64_t number = 0;

        if (field->type == JOURNAL_FIELD_TEXT)
                return journal_read_text(value, member_of(entry, field), field->max);
        if (parse_u64(value, &number) < 0 || number > field->max)
                return -EBADMSG;
        field_set(entry, field, number);
        return 0;
}

/* One line, NUL-terminated. A key that is not known is a later version's, and ignored. */
static int journal_read_line(JournalEntry *entry, char *line, uint64_t *seen) {
        char *value = strchr(line, ' ');

        if (!value)
                return -EBADMSG;
        *value++ = '\0';
        for (size_t i = 0; i < ELEMENTSOF(journal_fields); i++) {
                if (strcmp(journal_fields[i].key, line) != 0)
                        continue;
                if (*seen & UINT64_C(1) << i)
                        return -EBADMSG;
                *seen |= UINT64_C(1) << i;
                return journal_read_field(entry, &journal_fields[i], value);
        }
        return 0;
}

/* The last line must be the hash of all before it. Return: bytes before it; -EBADMSG; -EIO. */
static ssize_t journal_check_hash(const char *text, size_t n) {
        char hex[JOURNAL_HASH_HEX + 1];
        size_t n_before;
        int r;

        if (n > JOURNAL_TEXT_MAX || n < JOURNAL_HASH_LINE_MAX + 1)
                return -EBADMSG;
        n_before = n - JOURNAL_HASH_LINE_MAX;
        if (text[n_before - 1] != '\n' || text[n - 1] != '\n' ||
                memcmp(text + n_before, JOURNAL_HASH_KEY, strlen(JOURNAL_HASH_KEY)) != 0)
                return -EBADMSG;
        r = text_hash(text, n_before, hex);
        if (r < 0)
                return r;
        if (memcmp(text + n_before + strlen(JOURNAL_HASH_KEY), hex, JOURNAL_HASH_HEX) != 0)
                return -EBADMSG;
        return (ssize_t) n_before;
}

int journal_parse(const char *text, size_t n, JournalEntry *ret) {
        char buffer[JOURNAL_TEXT_MAX];
        JournalEntry entry = {};
        uint64_t seen = 0;
        ssize_t n_before;
        int r;

        n_before = journal_check_hash(text, n);
        if (n_before < 0)
                return (int) n_before;
        if ((size_t) n_before < strlen(JOURNAL_VERSION_LINE) ||
                memcmp(text, JOURNAL_VERSION_LINE, strlen(JOURNAL_VERSION_LINE)) != 0 ||
                memchr(text, '\0', (size_t) n_before))
                return -EBADMSG;

        memcpy(buffer, text, (size_t) n_before);
        for (char *line = buffer + strlen(JOURNAL_VERSION_LINE); line < buffer + n_before;) {
                char *end = memchr(line, '\n', (size_t) (buffer + n_before - line));

                assert(end); /* journal_check_hash() has seen the last one */
                *end = '\0';
                r = journal_read_line(&entry, line, &seen);
                if (r < 0)
                        return r;
                line = end + 1;
        }

        *ret = entry;
        return 0;
}

/* The two copies */

int journal_new(Journal **ret, const char *run, const char *state) {
        _cleanup_(journal_freep) Journal *journal = calloc(1, sizeof(*journal));

        if (!journal)
                return -ENOMEM;
        journal->run = strdup(run);
        journal->state = strdup(state);
        if (!journal->run || !journal->state)
                return -ENOMEM;
        if (asprintf(&journal->run_file, "%s/journal", run) < 0) {
                journal->run_file = NULL; /* asprintf() leaves it undefined */
                return -ENOMEM;
        }
        if (asprintf(&journal->state_file, "%s/journal", state) < 0) {
                journal->state_file = NULL;
                return -ENOMEM;
        }
        /* Tried again when something is written; until then a disk that is read-only hinders nobody. */
        (void) file_mkdir(run, 0755);
        (void) file_mkdir(state, 0750);

        *ret = steal_ptr(journal);
        return 0;
}

Journal *journal_free(Journal *journal) {
        if (!journal)
                return NULL;
        free(journal->run);
        free(journal->state);
        free(journal->run_file);
        free(journal->state_file);
        free(journal);
        return NULL;
}

/* Return: 0; -ENOENT; JOURNAL_E_CORRUPT. */
static int copy_read(Journal *journal, const char *path, JournalEntry *ret) {
        _cleanup_(freep) char *text = NULL;
        size_t n = 0;
        int r;

        r = file_read(path, JOURNAL_TEXT_MAX, &text, &n);
        if (r == -ENOENT || r == -ENOTDIR)
                return -ENOENT;
        if (r < 0 || journal_parse(text, n, ret) < 0)
                return JOURNAL_E_CORRUPT;
        if (ret->sequence > journal->sequence)
                journal->sequence = ret->sequence;
        return 0;
}

int journal_read(Journal *journal, const char *instance_id, JournalEntry *ret) {
        const char *files[] = { journal->run_file, journal->state_file };
        JournalEntry best = {};
        bool found = false, corrupt = false, whole = false;

        for (size_t i = 0; i < ELEMENTSOF(files); i++) {
                JournalEntry entry = {};
                int r = copy_read(journal, files[i], &entry);

                corrupt |= r == JOURNAL_E_CORRUPT;
                if (r != 0)
                        continue;
                whole = true;
                if (instance_id && strcmp(entry.target.instance_id, instance_id) != 0)
                        continue;
                if (!found || entry.sequence > best.sequence)
                        best = entry;
                found = true;
        }
        if (!found)
                return corrupt && !whole ? JOURNAL_E_CORRUPT : -ENOENT;

        *ret = best;
        return 0;
}

static int copy_write(
        const char *directory, unsigned mode, const char *path, const char *text, size_t n, bool sync) {
        int r;

        r = file_write_atomic(path, text, n, 0600, sync);
        if (r != -ENOENT)
                return r;
        r = file_mkdir(directory, mode);
        return r < 0 ? r : file_write_atomic(path, text, n, 0600, sync);
}

int journal_write(Journal *journal, JournalEntry *entry, int *ret_disk) {
        JournalEntry numbered = *entry;
        char text[JOURNAL_TEXT_MAX];
        size_t n = 0;
        int r, run, disk;

        numbered.sequence = journal->sequence + 1;
        r = journal_format(&numbered, text, sizeof(text), &n);
        if (r < 0) {
                if (ret_disk)
                        *ret_disk = r;
                return r;
        }
        journal->sequence = entry->sequence = numbered.sequence;

        run = copy_write(journal->run, 0755, journal->run_file, text, n, false);
        disk = copy_write(journal->state, 0750, journal->state_file, text, n, true);
        if (ret_disk)
                *ret_disk = disk;
        return disk == 0 ? 0 : run;
}
