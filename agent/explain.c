/* SPDX-License-Identifier: Apache-2.0 */

/* The command `explain`: the story of an incident out of its trace and the journal, with or without a daemon. */

#include "agent/explain.h"

#include <dirent.h>
#include <inttypes.h>
#include <string.h>

#include "agent/act/journal.h"
#include "agent/commands.h"
#include "agent/story.h"
#include "common/file.h"
#include "common/parse.h"

#define JOURNAL_FILE_RUN   "/run/ecs-health-agent/journal"
#define JOURNAL_FILE_STATE "/var/lib/ecs-health-agent/journal"
/* A file has TRACE_FILE_MAX bytes at most; one more flush may lie beyond that. */
#define TRACE_READ_MAX   (2 * TRACE_FILE_MAX)
#define EXPLAIN_JSON_MAX ((size_t) 8 * 1024 * 1024)
#define INCIDENTS_MAX    1000

/* --- a trace file ------------------------------------------------------------------------------------------------ */

int trace_reader_open(TraceReader *reader, const char *path) {
        *reader = (TraceReader){};
        return file_read(path, TRACE_READ_MAX, &reader->text, &reader->n);
}

void trace_reader_done(TraceReader *reader) {
        free(reader->text);
        *reader = (TraceReader){};
}

int trace_reader_next(TraceReader *reader, TraceLine *ret) {
        const char *line, *end;
        size_t n;
        int r;

        do {
                if (reader->at >= reader->n)
                        return 0;
                line = reader->text + reader->at;
                end = memchr(line, '\n', reader->n - reader->at);
                n = end ? (size_t) (end - line) : reader->n - reader->at;
                reader->at += n + 1;
                reader->line++;
        } while (n == 0);
        r = trace_parse(line, n, ret);
        return r < 0 ? r : 1;
}

/* --- what is on disk --------------------------------------------------------------------------------------------- */

/** One incident's story, and what its file lacked. */
typedef struct Incident {
        uint64_t number;
        Story story;
        unsigned broken; /* lines that could not be read */
        bool other_format;
        int error; /* of reading the file */
} Incident;

static void incident_done(Incident *incident) {
        story_done(&incident->story);
}

static int incident_path(uint64_t number, char **ret) {
        char name[sizeof(TRACE_DIRECTORY) + 40];

        (void) snprintf(name, sizeof(name), TRACE_DIRECTORY "/%" PRIu64 TRACE_SUFFIX, number);
        return file_root(name, ret);
}

static int incident_read(Incident *incident, const char *path) {
        _cleanup_(trace_reader_done) TraceReader reader = {};
        TraceLine *line;
        int r;

        r = trace_reader_open(&reader, path);
        if (r < 0)
                return r;
        line = malloc(sizeof(*line));
        if (!line)
                return -ENOMEM;
        while ((r = trace_reader_next(&reader, line)) != 0) {
                if (r == -ENOMEM)
                        break;
                if (r > 0)
                        story_line(&incident->story, line);
                incident->broken += r < 0;
                incident->other_format |= r == -EPROTONOSUPPORT;
        }
        free(line);
        if (incident->story.incident == 0)
                incident->story.incident = incident->number;
        return r;
}

/* The newest of the two copies. Not through the journal's module, which would make directories. */
static bool journal_look(JournalEntry *ret) {
        static const char *const files[] = { JOURNAL_FILE_RUN, JOURNAL_FILE_STATE };
        bool found = false;

        for (size_t i = 0; i < ELEMENTSOF(files); i++) {
                _cleanup_(freep) char *path = NULL, *text = NULL;
                JournalEntry entry;
                size_t n = 0;

                if (file_root(files[i], &path) < 0 || file_read(path, JOURNAL_TEXT_MAX, &text, &n) < 0 ||
                        journal_parse(text, n, &entry) < 0 || (found && entry.sequence < ret->sequence))
                        continue;
                *ret = entry;
                found = true;
        }
        return found && ret->record.incident > 0;
}

static int compare_numbers(const void *a, const void *b) {
        const uint64_t x = *(const uint64_t *) a, y = *(const uint64_t *) b;

        return (x > y) - (x < y);
}

/* Numbers of the traces, ascending. Return: how many; what opendir() says. */
static int list_numbers(uint64_t *numbers, size_t max, char **ret_directory) {
        const struct dirent *entry;
        size_t n = 0;
        DIR *dir;
        int r;

        r = file_root(TRACE_DIRECTORY, ret_directory);
        if (r < 0)
                return r;
        dir = opendir(*ret_directory);
        if (!dir)
                return errno == ENOENT || errno == ENOTDIR ? 0 : -errno;
        while (n < max && (entry = readdir(dir))) {
                size_t length = strlen(entry->d_name), suffix = strlen(TRACE_SUFFIX);
                char digits[24];

                if (length <= suffix || length - suffix >= sizeof(digits) ||
                        strcmp(entry->d_name + length - suffix, TRACE_SUFFIX) != 0)
                        continue;
                (void) snprintf(digits, sizeof(digits), "%.*s", (int) (length - suffix), entry->d_name);
                if (parse_u64(digits, &numbers[n]) >= 0 && numbers[n] > 0)
                        n++;
        }
        (void) closedir(dir);
        qsort(numbers, n, sizeof(*numbers), compare_numbers);
        return (int) n;
}

/* --- one story --------------------------------------------------------------------------------------------------- */

static Span duration_of(const Story *story) {
        Wall from = wall_is_set(story->ill_from) ? story->ill_from : story->opened;
        Wall to = wall_is_set(story->closed) ? story->closed : story->last;

        return wall_is_set(from) ? span_max(0, wall_since(to, from)) / SPAN_SEC(1) * SPAN_SEC(1) : 0;
}

/* The journal knows more than a trace that ends in the middle. */
static const char *ending(const Incident *incident, const JournalEntry *journal, char *buffer, size_t n) {
        const Story *story = &incident->story;

        if (story_ended(story) || !wall_is_set(story->opened) || !journal)
                return story_ending(story, buffer, n);
        if (journal->record.incident == incident->number && journal->record.stage != STAGE_WATCHING)
                (void) snprintf(buffer, n, "under way, or the daemon was ended in the middle; stage %s.",
                        stage_to_string((Stage) journal->record.stage));
        else
                (void) snprintf(buffer, n,
                        "the trace stops at stage %s: the daemon was ended there, and began anew with "
                        "grace.",
                        stage_to_string(story->now.stage));
        return buffer;
}

static void print_field(const char *name, const char *text, unsigned width) {
        printf("  %-10s", name);
        story_fold(text, 12, 12, width, stdout);
}

static void print_evidence(const Story *story, unsigned width) {
        printf("\nWhat the witnesses said when it was opened:\n");
        for (unsigned i = 0; i < WITNESS_N; i++) {
                if (!story->evidence[i][0])
                        continue;
                printf("  %-20s", witness_to_string(i));
                story_fold(story->evidence[i], 22, 22, width, stdout);
        }
}

static void done_text(const Story *story, char *buffer, size_t n) {
        (void) snprintf(buffer, n, "%u look%s at the peers%s%s%s%s%s%s%s.", story->looks,
                story->looks == 1 ? "" : "s", story->held ? ", held by brakes" : "",
                story->repaired ? ", a restart of the agent's service" : "",
                story->drained ? ", a drain" : "", story->undone ? ", its undoing" : "",
                story->detached ? ", " : "", story_removal(story), story->ended ? ", its end" : "");
}

static void print_incident(const Incident *incident, const JournalEntry *journal) {
        const Story *story = &incident->story;
        const Target *target = &story->header.target;
        unsigned width = command_width();
        char text[512], from[FORMAT_TIME_MAX], opened[FORMAT_TIME_MAX], span[FORMAT_SPAN_MAX];

        printf("Incident %" PRIu64 "%s%s%s%s%s%s\n", incident->number, *target->instance_id ? " of " : "",
                target->instance_id, *target->group ? ", group " : "", target->group,
                *target->cluster ? ", cluster " : "", target->cluster);
        print_field("Cause", cause_to_sentence(story->cause), width);
        if (wall_is_set(story->ill_from)) {
                (void) snprintf(text, sizeof(text), "%s; grace was over and the incident opened at %s.",
                        format_rfc3339(from, story->ill_from),
                        wall_is_set(story->opened) ? format_rfc3339(opened, story->opened) : "no time");
                print_field("Since", text, width);
        }
        done_text(story, text, sizeof(text));
        print_field("Done", text, width);
        print_field("Ended", ending(incident, journal, text, sizeof(text)), width);
        print_field("Lasted", format_span(span, duration_of(story)), width);
        if (incident->broken > 0)
                printf("  Note: %u line%s of the trace cannot be read%s.\n", incident->broken,
                        incident->broken == 1 ? "" : "s",
                        incident->other_format ? ", made by another version" : "");
        print_evidence(story, width);
        printf("\nWhat happened:\n");
        story_print(story, width, stdout);
}

static void put_summary(JsonWriter *w, const Incident *incident, const JournalEntry *journal) {
        const Story *story = &incident->story;
        char text[512], time[FORMAT_TIME_MAX];

        json_i64(w, "incident", (int64_t) incident->number);
        json_string(w, "since", wall_is_set(story->ill_from) ? format_rfc3339(time, story->ill_from) : NULL);
        json_string(w, "opened", wall_is_set(story->opened) ? format_rfc3339(time, story->opened) : NULL);
        json_string(w, "closed", wall_is_set(story->closed) ? format_rfc3339(time, story->closed) : NULL);
        json_i64(w, "lasted_seconds", duration_of(story) / SPAN_SEC(1));
        json_string(w, "cause", cause_to_string(story->cause));
        json_string(w, "sentence", cause_to_sentence(story->cause));
        json_string(w, "stage", story->known ? stage_to_string(story->now.stage) : NULL);
        json_bool(w, "ended", story_ended(story));
        json_string(w, "ending", ending(incident, journal, text, sizeof(text)));
        json_i64(w, "looks", story->looks);
        json_bool(w, "held", story->held);
        json_bool(w, "repaired", story->repaired);
        json_bool(w, "drained", story->drained);
        json_bool(w, "undone", story->undone);
        json_bool(w, "detached", story->detached);
        json_string(w, "action", story->detached ? action_to_string((Action) story->action) : NULL);
        json_bool(w, "orphan_ended", story->ended);
        json_i64(w, "broken_lines", incident->broken);
}

static int finish_json(JsonWriter *w) {
        int r = w->error;

        if (r >= 0)
                printf("%s\n", w->text);
        json_writer_done(w);
        return r < 0 ? command_error("explain: %s", strerror(-r)) : EXIT_FINE;
}

static int explain_json(const Incident *incident, const JournalEntry *journal) {
        const Story *story = &incident->story;
        JsonWriter w;

        json_writer_init(&w, EXPLAIN_JSON_MAX);
        json_begin_object(&w, NULL);
        put_summary(&w, incident, journal);
        json_string(&w, "instance", story->header.target.instance_id);
        json_string(&w, "group", story->header.target.group);
        json_string(&w, "cluster", story->header.target.cluster);
        json_string(&w, "version", story->header.version);
        json_begin_object(&w, "evidence");
        for (unsigned i = 0; i < WITNESS_N; i++)
                if (story->evidence[i][0])
                        json_string(&w, witness_to_string(i), story->evidence[i]);
        json_end_object(&w);
        story_write(story, &w);
        json_end_object(&w);
        return finish_json(&w);
}

static int no_trace(uint64_t number, const char *path, int error, const JournalEntry *journal) {
        if (error == -EACCES || error == -EPERM)
                return command_error("cannot read %s: %s. Run it as root: sudo " PROGRAM " explain %" PRIu64,
                        path, strerror(-error), number);
        if (error != -ENOENT && error != -ENOTDIR)
                return command_error("cannot read %s: %s", path, strerror(-error));
        if (journal && journal->record.incident == number)
                return command_error("incident %" PRIu64
                                     " left no trace (%s is not there: the disk was full or "
                                     "read-only). The journal says: %s Stage: %s.",
                        number, path, cause_to_sentence((Cause) journal->record.cause),
                        stage_to_string((Stage) journal->record.stage));
        return command_error("there is no trace of incident %" PRIu64
                             " (%s is not there). Those that are: " PROGRAM " explain",
                number, path);
}

static int explain_one(uint64_t number, bool json) {
        _cleanup_(freep) char *path = NULL;
        _cleanup_(incident_done) Incident incident = { .number = number };
        JournalEntry journal;
        bool known = journal_look(&journal);
        int r;

        r = incident_path(number, &path);
        if (r < 0)
                return command_error("explain: %s", strerror(-r));
        r = incident_read(&incident, path);
        if (r < 0)
                return no_trace(number, path, r, known ? &journal : NULL);
        if (json)
                return explain_json(&incident, known ? &journal : NULL);
        print_incident(&incident, known ? &journal : NULL);
        return EXIT_FINE;
}

/* --- the list ---------------------------------------------------------------------------------------------------- */

static void print_row(const Incident *incident, const JournalEntry *journal) {
        const Story *story = &incident->story;
        char text[512], opened[FORMAT_TIME_MAX], span[FORMAT_SPAN_MAX];

        if (incident->error < 0) {
                printf("%8" PRIu64 "  cannot be read: %s\n", incident->number, strerror(-incident->error));
                return;
        }
        printf("%8" PRIu64 "  %-20s  %-16s  %-8s  %s\n", incident->number,
                wall_is_set(story->opened) ? format_rfc3339(opened, story->opened) : "?",
                cause_to_string(story->cause), format_span(span, duration_of(story)),
                ending(incident, journal, text, sizeof(text)));
}

static int list_json(const uint64_t *numbers, size_t n, const JournalEntry *journal) {
        JsonWriter w;

        json_writer_init(&w, EXPLAIN_JSON_MAX);
        json_begin_object(&w, NULL);
        json_begin_array(&w, "incidents");
        for (size_t i = 0; i < n; i++) {
                _cleanup_(incident_done) Incident incident = { .number = numbers[i] };
                _cleanup_(freep) char *path = NULL;

                if (incident_path(numbers[i], &path) < 0 || incident_read(&incident, path) < 0)
                        continue;
                json_begin_object(&w, NULL);
                put_summary(&w, &incident, journal);
                json_end_object(&w);
        }
        json_end_array(&w);
        json_end_object(&w);
        return finish_json(&w);
}

static int list_nothing(const char *directory, const JournalEntry *journal) {
        printf("There is no trace of an incident in %s.\n", directory);
        if (journal)
                printf("The journal knows incident %" PRIu64 ": %s Stage: %s.\n", journal->record.incident,
                        cause_to_sentence((Cause) journal->record.cause),
                        stage_to_string((Stage) journal->record.stage));
        else
                printf("This host has had none, or none since its traces were removed. To see what one "
                       "would "
                       "look like: " PROGRAM " drill\n");
        return EXIT_FINE;
}

static int explain_list(bool json) {
        _cleanup_(freep) char *directory = NULL;
        uint64_t numbers[INCIDENTS_MAX] = {};
        JournalEntry entry;
        const JournalEntry *journal = journal_look(&entry) ? &entry : NULL;
        int n = list_numbers(numbers, ELEMENTSOF(numbers), &directory);

        if (n < 0)
                return command_error("cannot list %s: %s%s", directory ? directory : TRACE_DIRECTORY,
                        strerror(-n),
                        n == -EACCES || n == -EPERM ? ". Run it as root: sudo " PROGRAM " explain" : "");
        if (json)
                return list_json(numbers, (size_t) n, journal);
        if (n == 0)
                return list_nothing(directory, journal);
        printf("%8s  %-20s  %-16s  %-8s  %s\n", "INCIDENT", "OPENED", "CAUSE", "LASTED", "ENDED");
        for (int i = 0; i < n; i++) {
                _cleanup_(incident_done) Incident incident = { .number = numbers[i] };
                _cleanup_(freep) char *path = NULL;

                incident.error = incident_path(numbers[i], &path);
                if (incident.error >= 0)
                        incident.error = incident_read(&incident, path);
                print_row(&incident, journal);
        }
        printf("\nIts story: " PROGRAM " explain %" PRIu64 "\n", numbers[n - 1]);
        return EXIT_FINE;
}

/* --- the command ------------------------------------------------------------------------------------------------- */

static int help_explain(void) {
        command_print_usage("explain", stdout);
        fputs("Without ID lists the incidents of this host: when, why, how long, how each ended. With ID "
              "tells "
              "the story of\n"
              "one: what the witnesses said, the verdict, grace, what ECS answered, each look at the peers "
              "with "
              "its numbers,\n"
              "the brakes that held and why, what was done, and every call to AWS with its answer. All "
              "times are "
              "UTC.\n\n"
              "It reads what the daemon has left in " TRACE_DIRECTORY ";\n"
              "the daemon need not run. The last 20 incidents are kept, 1 MB in all.\n\n"
              "Options:\n"
              "  --json  as one JSON document, for programs\n\n"
              "Examples:\n"
              "  sudo " PROGRAM " explain\n"
              "  sudo " PROGRAM " explain 3\n"
              "  sudo " PROGRAM " explain 3 --json | jq -r '.timeline[].text'\n\n"
              "Exit status: 0 told, 1 there is no such incident, or it cannot be read.\n",
                stdout);
        return EXIT_FINE;
}

int command_explain(int argc, char **argv) {
        static const struct option options[] = { { "json", no_argument, NULL, 'j' },
                { "help", no_argument, NULL, 'h' }, {} };
        bool json = false;
        uint64_t number = 0;
        int c;

        while ((c = command_option_next(argc, argv, options)) >= 0)
                switch (c) {
                case 'j': json = true; break;
                case 'h': return help_explain();
                default: return command_option_error("explain", argv, c);
                }
        if (argc - optind > 1)
                return command_usage_error("explain", "unexpected argument \"%s\"", argv[optind + 1]);
        if (optind == argc)
                return explain_list(json);
        if (parse_u64(argv[optind], &number) < 0 || number == 0 || number > INT64_MAX)
                return command_usage_error("explain",
                        "\"%s\" is not an incident; expected its number, as " PROGRAM " explain lists them",
                        argv[optind]);
        return explain_one(number, json);
}
