/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * Log records with fields. Under systemd (JOURNAL_STREAM names our stderr) they go to the journal by
 * sd_journal_sendv(); elsewhere to stderr, one line each, with the time and without the fields.
 * Credentials, tokens and signatures never reach a log: nobody passes them here.
 */

#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <syslog.h>

/** A field of a record: name (HEALTH_...), and a text, or a number when the text is NULL. Ends with { 0 }. */
typedef struct LogField {
        const char *name;
        const char *text;
        int64_t number;
} LogField;

/** log_open() - choose the target by the environment; @max_level is the least urgent syslog level that is written */
void log_open(int max_level);

/**
 * log_event() - write one record
 * @level:   syslog level
 * @message: message ID, 32 hexadecimal digits, or NULL
 * @fields:  array ended by an empty element, or NULL
 * @format:  the human sentence
 *
 * Never fails and never blocks on a full pipe; a record that cannot be written is lost.
 */
void log_event(int level, const char *message, const LogField *fields, const char *format, ...)
        __attribute__((format(printf, 4, 5)));

#define log_debug(...)   log_event(LOG_DEBUG, NULL, NULL, __VA_ARGS__)
#define log_info(...)    log_event(LOG_INFO, NULL, NULL, __VA_ARGS__)
#define log_notice(...)  log_event(LOG_NOTICE, NULL, NULL, __VA_ARGS__)
#define log_warning(...) log_event(LOG_WARNING, NULL, NULL, __VA_ARGS__)
#define log_error(...)   log_event(LOG_ERR, NULL, NULL, __VA_ARGS__)
