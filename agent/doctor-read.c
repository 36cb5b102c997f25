/* SPDX-License-Identifier: Apache-2.0 */

/* The doctor's readers of texts. All of them are written by others, so nothing in them is taken for granted. */

#include <arpa/inet.h>
#include <string.h>
#include <strings.h>

#include "agent/doctor.h"
#include "common/parse.h"

void text_printable(char *text) {
        for (; *text; text++)
                if (*text < 0x20 || *text > 0x7e)
                        *text = *text == '\n' || *text == '\t' ? ' ' : '?';
}

static void facts_copy(char *buffer, size_t n_buffer, const char *value) {
        if (strlen(value) < n_buffer)
                memcpy(buffer, value, strlen(value) + 1);
}

void ecs_facts_read(char *text, EcsFacts *facts) {
        const size_t n = strlen(text);
        const char *key, *value;
        char *rest = text;

        while (parse_env(&rest, &key, &value)) {
                if (strcmp(key, "ECS_LOG_DRIVER") == 0)
                        facts_copy(facts->log_driver, sizeof(facts->log_driver), value);
                else if (strcmp(key, "ECS_LOGLEVEL") == 0)
                        facts_copy(facts->log_level, sizeof(facts->log_level), value);
                else if (strcmp(key, "ECS_LOGLEVEL_ON_INSTANCE") == 0)
                        facts_copy(
                                facts->log_level_on_instance, sizeof(facts->log_level_on_instance), value);
                else if (strcmp(key, "ECS_AWSVPC_BLOCK_IMDS") == 0)
                        facts->block_imds = parse_flag(value);
                else if (strcasecmp(key, "NO_PROXY") == 0)
                        facts_copy(facts->no_proxy, sizeof(facts->no_proxy), value);
                else if (strcasecmp(key, "HTTPS_PROXY") == 0 ||
                         (strcasecmp(key, "HTTP_PROXY") == 0 && !facts->https_named)) {
                        facts_copy(facts->proxy, sizeof(facts->proxy), value);
                        facts->https_named |= strcasecmp(key, "HTTPS_PROXY") == 0;
                }
        }
        /* Registry passwords are kept there. */
        explicit_bzero(text, n);
}

/*
 * Source: ecs-agent/logger/log.go: without a level of its own the file is off where there is a log driver, else it has
 * the common level, which is info by default. A level that is not known counts as not set.
 */
const char *ecs_log_hidden(const EcsFacts *facts, const char **ret_fix) {
        static const char *const hiding[] = { "warn", "error", "crit", "critical", "none" };
        bool own = *facts->log_level_on_instance != '\0';

        if (!own && *facts->log_driver) {
                *ret_fix = "ECS_LOGLEVEL_ON_INSTANCE=info";
                return "ECS_LOG_DRIVER sends the log elsewhere and ECS_LOGLEVEL_ON_INSTANCE is not set, so "
                       "that "
                       "the ECS agent keeps none on this host";
        }
        for (size_t i = 0; i < ELEMENTSOF(hiding); i++) {
                if (strcasecmp(own ? facts->log_level_on_instance : facts->log_level, hiding[i]) != 0)
                        continue;
                *ret_fix = own ? "ECS_LOGLEVEL_ON_INSTANCE=info" : "ECS_LOGLEVEL=info";
                return own ? "ECS_LOGLEVEL_ON_INSTANCE hides the lines that tell of the connection"
                           : "ECS_LOGLEVEL hides the lines that tell of the connection";
        }
        return NULL;
}

/* Proxies */

#define PROXY_METADATA 0xa9fea9feu /* 169.254.169.254 */

/* "169.254.169.254", "169.254.0.0/16", either with ":80", or "*" */
static bool entry_is_metadata(char *entry) {
        struct in_addr address;
        uint64_t bits = 32;
        char *mark;

        if (strcmp(entry, "*") == 0)
                return true;
        mark = strchr(entry, ':');
        if (mark) {
                if (strcmp(mark, ":80") != 0)
                        return false;
                *mark = '\0';
        }
        mark = strchr(entry, '/');
        if (mark) {
                *mark = '\0';
                if (parse_u64(mark + 1, &bits) < 0 || bits > 32)
                        return false;
        }
        if (inet_pton(AF_INET, entry, &address) != 1)
                return false;
        return bits == 0 || (ntohl(address.s_addr) ^ PROXY_METADATA) >> (32 - bits) == 0;
}

bool proxy_exempts_metadata(const char *list) {
        char entry[64];

        while (*list) {
                size_t n = strcspn(list, ", \t");

                if (n > 0 && n < sizeof(entry)) {
                        memcpy(entry, list, n);
                        entry[n] = '\0';
                        if (entry_is_metadata(entry))
                                return true;
                }
                list += n;
                list += strspn(list, ", \t");
        }
        return false;
}

char *proxy_public(const char *proxy, char *buffer, size_t n_buffer) {
        const char *scheme = strstr(proxy, "://"), *host = scheme ? scheme + 3 : proxy;
        const char *at = strrchr(host, '@');

        (void) snprintf(
                buffer, n_buffer, "%.*s%s", scheme ? (int) (host - proxy) : 0, proxy, at ? at + 1 : host);
        text_printable(buffer);
        return buffer;
}

/* Files of /proc */

/* What follows @name at the beginning of a line; NULL if there is no such line. */
static const char *line_of(const char *text, const char *name) {
        for (const char *line = text; line; line = strchr(line, '\n')) {
                line += *line == '\n';
                if (strncmp(line, name, strlen(name)) == 0)
                        return line + strlen(name);
        }
        return NULL;
}

int limits_memory_lock(const char *text, uint64_t *ret) {
        const char *value = line_of(text, "Max locked memory");
        char number[32];
        size_t n;

        if (!value)
                return -EBADMSG;
        value += strspn(value, " ");
        n = strcspn(value, " \n");
        if (n == 0 || n >= sizeof(number))
                return -EBADMSG;
        memcpy(number, value, n);
        number[n] = '\0';
        if (strcmp(number, "unlimited") == 0) {
                *ret = UINT64_MAX;
                return 0;
        }
        return parse_u64(number, ret) < 0 ? -EBADMSG : 0;
}

int process_groups(const char *text, gid_t *groups, size_t n_groups, size_t *ret_n) {
        const char *value = line_of(text, "Groups:");
        size_t count = 0;

        if (!value)
                return -EBADMSG;
        for (;;) {
                uint64_t group;
                char number[16];
                size_t n;

                value += strspn(value, " \t");
                n = strcspn(value, " \t\n");
                if (n == 0)
                        break;
                if (count == n_groups)
                        return -E2BIG;
                if (n >= sizeof(number))
                        return -EBADMSG;
                memcpy(number, value, n);
                number[n] = '\0';
                if (parse_u64(number, &group) < 0 || group > UINT32_MAX)
                        return -EBADMSG;
                groups[count++] = (gid_t) group;
                value += n;
        }
        *ret_n = count;
        return 0;
}

int process_start(const char *text, uint64_t *ret) {
        const char *field = strrchr(text, ')'); /* the name before it may hold anything, blanks included */
        char number[32];
        size_t n;

        /* proc(5): the name is the 2nd field, the start the 22nd */
        for (unsigned i = 2; field && i < 22; i++) {
                field = strchr(field, ' ');
                field = field ? field + 1 : NULL;
        }
        if (!field)
                return -EBADMSG;
        n = strcspn(field, " \n");
        if (n == 0 || n >= sizeof(number))
                return -EBADMSG;
        memcpy(number, field, n);
        number[n] = '\0';
        return parse_u64(number, ret) < 0 ? -EBADMSG : 0;
}
