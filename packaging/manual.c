/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Fills the man pages and the shell completion from the program's own tables, at build time, so that they cannot tell
 * of anything else than the program has:
 *
 *     manual page TEMPLATE         a man page
 *     manual completion TEMPLATE   the completion for bash
 *     manual sample                the sample configuration
 *
 * A template is copied line by line. A line "@NAME@" or "@NAME WORD@" gives way to a table, and "@VERSION@" within a
 * line to the version. A marker that is not known, or that names a command that does not exist, fails the build.
 */

#include <assert.h>
#include <errno.h>
#include <stdarg.h>
#include <string.h>

#include "agent/act/metrics.h"
#include "agent/commands.h"
#include "agent/decide/core.h"
#include "agent/settings.h"
#include "common/cleanup.h"
#include "common/file.h"

#define TEMPLATE_MAX ((size_t) 256 * 1024)
#define COMMANDS_MAX 64
#define FLAGS_MAX    32   /* of one command */
#define TEXT_MAX     4096 /* of one cell of a table; the longest default has some 500 bytes */
#define COLUMN_LIMIT 76   /* of the pages' source: some readers of man pages warn of longer lines */
#define VERSION_MARK "@VERSION@"
#define INDENT       "        "

/** What one template has brought so far. */
typedef struct Page {
        FILE *f;
        const char *path; /* of the template, for errors */
        unsigned line;
        bool shown[COMMANDS_MAX]; /* commands that had a marker of their own */
} Page;

/* --- man(7) ------------------------------------------------------------------------------------------------------ */

/* A plain '-' may come out as a hyphen, which nobody can search for or paste; so may quotes and the like. */
static void man_escape(FILE *f, const char *text, size_t n) {
        for (size_t i = 0; i < n; i++)
                switch (text[i]) {
                case '\\': fputs("\\e", f); break;
                case '-': fputs("\\-", f); break;
                case '\'': fputs("\\(aq", f); break;
                case '`': fputs("\\(ga", f); break;
                case '^': fputs("\\(ha", f); break;
                case '~': fputs("\\(ti", f); break;
                default: (void) fputc(text[i], f);
                }
}

/* A paragraph, folded. A dot at the beginning of a line would be a request. */
static void man_text(FILE *f, const char *text) {
        size_t column = 0;

        while (*(text += strspn(text, " \n")) != '\0') {
                size_t n = strcspn(text, " \n");

                if (column > 0 && column + 1 + n > COLUMN_LIMIT) {
                        (void) fputc('\n', f);
                        column = 0;
                } else if (column > 0) {
                        (void) fputc(' ', f);
                        column++;
                }
                if (column == 0 && *text == '.')
                        fputs("\\&", f);
                man_escape(f, text, n);
                column += n;
                text += n;
        }
        (void) fputc('\n', f);
}

static void man_textf(FILE *f, const char *format, ...) __attribute__((format(printf, 2, 3)));

static void man_textf(FILE *f, const char *format, ...) {
        char text[TEXT_MAX];
        va_list arguments;
        int n;

        va_start(arguments, format);
        n = vsnprintf(text, sizeof(text), format, arguments);
        va_end(arguments);
        assert(n >= 0 && (size_t) n < sizeof(text));
        man_text(f, text);
}

/* The head of an entry: @name in bold, then @rest. Not by .B, which would take quotes in them for its own. */
static void man_entry(FILE *f, const char *name, const char *rest) {
        fputs(".TP\n\\fB", f);
        man_escape(f, name, strlen(name));
        fputs("\\fR", f);
        if (*rest)
                (void) fputc(' ', f);
        man_escape(f, rest, strlen(rest));
        (void) fputc('\n', f);
}

/* What a table has as a phrase, as a sentence. */
static void man_sentence(FILE *f, const char *phrase) {
        bool small = *phrase >= 'a' && *phrase <= 'z';

        man_textf(f, "%c%s.", small ? *phrase - 'a' + 'A' : *phrase, phrase + 1);
}

/* --- what the commands say of themselves ------------------------------------------------------------------------- */

/** An option of a command. */
typedef struct Flag {
        char name[64];  /* "--for" */
        char value[64]; /* "TIME"; "": it takes none */
        char text[512];
} Flag;

/* What a command prints for --help. */
static int command_help(const Command *command, char **ret) {
        char name[64], help[] = "--help", *argv[] = { name, help, NULL };
        _cleanup_(freep) char *text = NULL;
        FILE *saved = stdout;
        size_t n = 0;
        int code;

        (void) snprintf(name, sizeof(name), "%s", command->name);
        stdout = open_memstream(&text, &n); /* a variable like any other, says the C library's manual */
        if (!stdout) {
                stdout = saved;
                return -ENOMEM;
        }
        optind = 0;
        code = command->run(2, argv);
        (void) fclose(stdout);
        stdout = saved;
        if (code != EXIT_FINE || !text)
                return -EBADMSG;

        *ret = steal_ptr(text);
        return 0;
}

/* "  --for TIME  how long", which may go on in lines that are further in */
static void flag_line(const char *line, Flag *flags, size_t *n) {
        const char *text = line + strspn(line, " ");
        size_t length = strcspn(text, " ");
        Flag *flag;

        if (strncmp(text, "--", 2) != 0) {
                if (*n > 0) {
                        flag = &flags[*n - 1];
                        length = strlen(flag->text);
                        (void) snprintf(flag->text + length, sizeof(flag->text) - length, " %s", text);
                }
                return;
        }
        assert(*n < FLAGS_MAX);
        flag = &flags[(*n)++];
        (void) snprintf(flag->name, sizeof(flag->name), "%.*s", (int) length, text);
        text += length;
        if (strspn(text, " ") == 1) {
                length = strcspn(text + 1, " ");
                (void) snprintf(flag->value, sizeof(flag->value), "%.*s", (int) length, text + 1);
                text += length + 1;
        }
        (void) snprintf(flag->text, sizeof(flag->text), "%s", text + strspn(text, " "));
}

/* The part "Options:" of what a command prints for --help; @flags: FLAGS_MAX of them, zero. */
static int command_flags(const Command *command, Flag *flags, size_t *ret_n) {
        static const char title[] = "\nOptions:\n";
        _cleanup_(freep) char *text = NULL;
        char *rest, *line;
        size_t n = 0;
        int r;

        r = command_help(command, &text);
        if (r < 0)
                return r;
        rest = strstr(text, title);
        if (rest)
                rest += strlen(title);
        while ((line = strsep(&rest, "\n")) && *line)
                flag_line(line, flags, &n);

        *ret_n = n;
        return 0;
}

static void man_command(FILE *f, const Command *command) {
        char name[128];

        (void) snprintf(name, sizeof(name), PROGRAM " %s", command->name);
        man_entry(f, name, command->arguments);
        man_sentence(f, command->summary);
}

static int man_flags(FILE *f, const Command *command) {
        Flag flags[FLAGS_MAX] = {};
        size_t n = 0;
        int r;

        r = command_flags(command, flags, &n);
        if (r < 0 || n == 0)
                return r;
        fputs(".RS\n", f);
        for (size_t i = 0; i < n; i++) {
                man_entry(f, flags[i].name, flags[i].value);
                man_sentence(f, flags[i].text);
        }
        fputs(".RE\n", f);
        return 0;
}

/* --- what stands in place of the markers ------------------------------------------------------------------------- */

static const Command *find_command(const char *name, size_t *ret_i) {
        const Command *commands;
        size_t n;

        commands = command_table(&n);
        for (size_t i = 0; i < n; i++)
                if (strcmp(commands[i].name, name) == 0) {
                        *ret_i = i;
                        return &commands[i];
                }
        return NULL;
}

/* One command; what the template has below it belongs to its entry. */
static int print_command(Page *page, const char *name) {
        const Command *command;
        size_t i = 0;

        command = find_command(name, &i);
        if (!command)
                return -ENOENT;
        page->shown[i] = true;
        man_command(page->f, command);
        return 0;
}

static int print_flags(Page *page, const char *name) {
        const Command *command;
        size_t i = 0;

        command = find_command(name, &i);
        return command ? man_flags(page->f, command) : -ENOENT;
}

/* All that have no words of their own in the template: a page without them is a poor one, but not a wrong one. */
static int print_commands(Page *page, const char *word) {
        const Command *commands;
        size_t n;
        int r = 0;

        (void) word;
        commands = command_table(&n);
        for (size_t i = 0; i < n && r >= 0; i++)
                if (!page->shown[i]) {
                        man_command(page->f, &commands[i]);
                        r = man_flags(page->f, &commands[i]);
                }
        return r;
}

/*
 * What values a row takes, in words. The options module says it in --help alone:
 *
 *       NAME: EXPECTED; default STANDARD
 *           HELP
 */
static int option_expected(const Option *option, char *buffer, size_t n_buffer) {
        _cleanup_(freep) char *help = NULL;
        char tail[TEXT_MAX];
        const char *begin, *end;
        size_t n = 0;
        FILE *f;

        f = open_memstream(&help, &n);
        if (!f)
                return -ENOMEM;
        options_print_help(option, 1, f, TEXT_MAX);
        if (fclose(f) != 0)
                return -ENOMEM;
        (void) snprintf(tail, sizeof(tail), "; default %s\n", option->standard);
        begin = strstr(help, ": ");
        end = strstr(help, tail);
        if (!begin || !end || end < begin + 2)
                return -EBADMSG;
        (void) snprintf(buffer, n_buffer, "%.*s", (int) (end - begin - 2), begin + 2);
        return 0;
}

static int print_options(Page *page, const char *word) {
        char expected[TEXT_MAX];

        (void) word;
        for (size_t i = 0; i < settings_table_n; i++) {
                int r = option_expected(&settings_table[i], expected, sizeof(expected));

                if (r < 0)
                        return r;
                man_entry(page->f, settings_table[i].name, "");
                man_text(page->f, settings_table[i].help);
                fputs(".br\n", page->f);
                man_textf(page->f, "Default: %s. Allowed: %s.", settings_table[i].standard, expected);
        }
        return 0;
}

/* What a refusal looks like, by refusing something. */
static int print_problems(Page *page, const char *word) {
        static const char text[] = "{ \"grcae\": \"5m\", \"brakes\": { \"max_sick\": \"80%\" } }";
        static OptionProblems problems;
        static Settings settings;
        int r;

        (void) word;
        r = settings_default(&settings);
        if (r < 0)
                return r;
        r = options_read(settings_table, settings_table_n, SETTINGS_FILE, text, strlen(text), false,
                &settings, NULL, &problems);
        if (r != -EBADMSG)
                return r < 0 ? r : -EINVAL;
        for (unsigned i = 0; i < problems.n && i < OPTION_PROBLEMS_MAX; i++) {
                if (i > 0)
                        fputs(".br\n", page->f);
                man_text(page->f, problems.text[i]);
        }
        return 0;
}

static int print_environment(Page *page, const char *word) {
        const EnvironmentRow *rows;
        size_t n;

        (void) word;
        rows = command_environment(&n);
        for (size_t i = 0; i < n; i++) {
                man_entry(page->f, rows[i].names, "");
                man_sentence(page->f, rows[i].meaning);
        }
        return 0;
}

static int print_metrics(Page *page, const char *word) {
        char unit[64];

        (void) word;
        for (unsigned i = 0; i < METRIC_N; i++) {
                (void) snprintf(unit, sizeof(unit), "(%s)", metric_table[i].unit);
                man_entry(page->f, metric_table[i].name, unit);
                man_text(page->f, metric_table[i].doc);
        }
        return 0;
}

static int print_brakes(Page *page, const char *word) {
        (void) word;
        for (unsigned i = 0; i < BRAKE_N; i++) {
                man_entry(page->f, brake_table[i].name, "");
                man_text(page->f, brake_table[i].doc);
        }
        return 0;
}

static int print_causes(Page *page, const char *word) {
        (void) word;
        for (unsigned i = 0; i < CAUSE_N; i++) {
                man_entry(page->f, cause_to_string(i), "");
                man_text(page->f, cause_to_sentence(i));
        }
        return 0;
}

static int print_stages(Page *page, const char *word) {
        char text[TEXT_MAX] = "";
        size_t n = 0;

        (void) word;
        for (unsigned i = 0; i < STAGE_N; i++)
                n += (size_t) snprintf(text + n, sizeof(text) - n, "%u %s%s", i, stage_to_string(i),
                        i + 1 < STAGE_N ? ", " : ".");
        man_text(page->f, text);
        return 0;
}

/* For "case": each command and its options, with "=" behind those that take a value. */
static int print_completion_cases(Page *page, const char *word) {
        const Command *commands;
        size_t n_commands;

        (void) word;
        commands = command_table(&n_commands);
        for (size_t i = 0; i < n_commands; i++) {
                Flag flags[FLAGS_MAX] = {};
                size_t n = 0;
                int r;

                r = command_flags(&commands[i], flags, &n);
                if (r < 0)
                        return r;
                fprintf(page->f, INDENT "%s)\n" INDENT INDENT "options='", commands[i].name);
                for (size_t k = 0; k < n; k++)
                        fprintf(page->f, "%s%s ", flags[k].name, *flags[k].value ? "=" : "");
                fprintf(page->f, "--help'\n%s" INDENT INDENT ";;\n",
                        strstr(commands[i].arguments, "FILE") ? INDENT INDENT "files=1\n" : "");
        }
        return 0;
}

static int print_completion_commands(Page *page, const char *word) {
        const Command *commands;
        size_t n;

        (void) word;
        commands = command_table(&n);
        fputs(INDENT "commands='", page->f);
        for (size_t i = 0; i < n; i++)
                fprintf(page->f, "%s ", commands[i].name);
        fputs("--help --version'\n", page->f);
        return 0;
}

typedef struct Marker {
        const char *name;
        int (*print)(Page *page, const char *word); /* @word: "" where there is none */
} Marker;

static const Marker page_markers[] = {
        { "COMMAND", print_command },
        { "COMMANDS", print_commands },
        { "FLAGS", print_flags },
        { "OPTIONS", print_options },
        { "PROBLEMS", print_problems },
        { "ENVIRONMENT", print_environment },
        { "METRICS", print_metrics },
        { "BRAKES", print_brakes },
        { "CAUSES", print_causes },
        { "STAGES", print_stages },
        {},
};

static const Marker completion_markers[] = {
        { "CASES", print_completion_cases },
        { "COMMANDS", print_completion_commands },
        {},
};

/* --- templates --------------------------------------------------------------------------------------------------- */

static int complain(const Page *page, const char *what, const char *detail) {
        fprintf(stderr, "%s:%u: %s \"%s\"\n", page->path, page->line, what, detail);
        return -EINVAL;
}

/* "@NAME@" or "@NAME WORD@" */
static int print_marker(Page *page, const Marker *markers, char *line) {
        char *name = line + 1, *word;

        name[strlen(name) - 1] = '\0';
        word = name + strcspn(name, " ");
        if (*word)
                *word++ = '\0';
        for (; markers->name; markers++)
                if (strcmp(markers->name, name) == 0)
                        return markers->print(page, word) < 0
                                       ? complain(page, "no table for the marker", *word ? word : name)
                                       : 0;
        return complain(page, "unknown marker", name);
}

static int print_line(Page *page, const Marker *markers, char *line) {
        size_t n = strlen(line);
        const char *version;

        if (n > 2 && line[0] == '@' && line[n - 1] == '@')
                return print_marker(page, markers, line);
        version = strstr(line, VERSION_MARK);
        if (version)
                fprintf(page->f, "%.*s" ECS_HEALTH_AGENT_VERSION "%s\n", (int) (version - line), line,
                        version + strlen(VERSION_MARK));
        else
                fprintf(page->f, "%s\n", line);
        return 0;
}

static int fill(FILE *f, const char *path, const Marker *markers) {
        _cleanup_(freep) char *text = NULL;
        Page page = { .f = f, .path = path };
        char *rest, *line;
        size_t n = 0;
        int r;

        (void) command_table(&n);
        assert(n <= COMMANDS_MAX);
        r = file_read(path, TEMPLATE_MAX, &text, NULL);
        if (r < 0) {
                fprintf(stderr, "%s: %s\n", path, strerror(-r));
                return r;
        }
        rest = text;
        while ((line = strsep(&rest, "\n")) && (rest || *line)) {
                page.line++;
                r = print_line(&page, markers, line);
                if (r < 0)
                        return r;
        }
        return 0;
}

int main(int argc, char **argv) {
        int r = 0;

        if (argc == 3 && strcmp(argv[1], "page") == 0)
                r = fill(stdout, argv[2], page_markers);
        else if (argc == 3 && strcmp(argv[1], "completion") == 0)
                r = fill(stdout, argv[2], completion_markers);
        else if (argc == 2 && strcmp(argv[1], "sample") == 0)
                options_print_sample(settings_table, settings_table_n, stdout);
        else {
                fputs("usage: manual page TEMPLATE | completion TEMPLATE | sample\n", stderr);
                return EXIT_USAGE;
        }
        if (r >= 0 && fflush(stdout) != 0) {
                perror("standard output");
                r = -EIO;
        }
        return r < 0 ? EXIT_PROBLEM : EXIT_FINE;
}
