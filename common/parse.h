/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* Readers of small texts: numbers, durations, shares, times. All refuse what they do not understand wholly. */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/clock.h"

/** parse_u64() - decimal digits only, whole text. Return: 0; -EINVAL (empty, sign, blank, letters); -ERANGE. */
int parse_u64(const char *text, uint64_t *ret);

/** parse_i64() - as parse_u64() with an optional leading '-' */
int parse_i64(const char *text, int64_t *ret);

/**
 * parse_span() - "90s", "5m", "2h", "1d", "250ms", "1h30m", "1.5s" or a bare number of seconds
 *
 * Units us, ms, s, m, min, h, d, w; each at most once, larger ones first; a fraction only in the last part.
 * Return: 0; -EINVAL if it is not a duration; -ERANGE if it does not fit.
 */
int parse_span(const char *text, Span *ret);

/** parse_go_duration() - what Go's time.Duration prints: "1h0m0s", "1m13.4s", "274.615086ms", "250µs", "12ns" */
int parse_go_duration(const char *text, size_t n, Span *ret);

/** parse_share() - "10%", "12.5%" as hundredths of a percent, 0 to 10000. Return: 0; -EINVAL; -ERANGE above 100 %. */
int parse_share(const char *text, uint32_t *ret);

/** parse_bool() - true, false, yes, no, on, off, 1, 0, without regard to case. Return: 0; -EINVAL. */
int parse_bool(const char *text, bool *ret);

/** parse_rfc3339() - "2026-06-30T10:11:12Z", with optional fraction and offset. Return: 0; -EINVAL. */
int parse_rfc3339(const char *text, size_t n, Wall *ret);

/** parse_http_date() - "Mon, 23 Nov 2026 00:30:24 GMT" (RFC 9110 IMF-fixdate). Return: 0; -EINVAL. */
int parse_http_date(const char *text, Wall *ret);

/* Long enough for the longest text that each writer below makes, NUL included. */
#define FORMAT_SPAN_MAX 32
#define FORMAT_TIME_MAX 32

/** format_span() - as people say it, at most two units: "8m", "1h 5m", "2.5s", "350ms", "0s". Return: @buffer. */
char *format_span(char buffer[static FORMAT_SPAN_MAX], Span span);

/** format_rfc3339() - "2026-06-30T10:11:12Z", whole seconds, rounded down. Return: @buffer. */
char *format_rfc3339(char buffer[static FORMAT_TIME_MAX], Wall t);

/** format_sigv4_time() - "20260630T101112Z". Return: @buffer. */
char *format_sigv4_time(char buffer[static FORMAT_TIME_MAX], Wall t);

/** edit_distance() - Levenshtein distance of two short names (at most 64 bytes; longer ones are cut) */
unsigned edit_distance(const char *a, const char *b);

/**
 * parse_env() - the next assignment of an environment file, as systemd reads it: comments, blanks, one pair of quotes
 * @rest: what is left of the text, which is changed; NULL at the end
 *
 * Return: whether there was one more; both texts lie in @rest's.
 */
bool parse_env(char **rest, const char **ret_key, const char **ret_value);
/** parse_flag() - whether a variable of the ECS agent's says yes: as Go's strconv.ParseBool, and what else people write */
bool parse_flag(const char *text);
