/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* What `explain` and `replay` share: reading a trace file. */

#include "agent/trace.h"

/** A trace file, line by line. */
typedef struct TraceReader {
        char *text;
        size_t n, at;
        unsigned line; /* number of the line read last */
} TraceReader;

/** trace_reader_open() - Return: 0; -E2BIG; what open() and read() say */
int trace_reader_open(TraceReader *reader, const char *path);
void trace_reader_done(TraceReader *reader);
/** trace_reader_next() - Return: 1 and a line; 0 at the end; -ENOMEM; -EBADMSG, -EPROTONOSUPPORT: of no use, go on */
int trace_reader_next(TraceReader *reader, TraceLine *ret);
