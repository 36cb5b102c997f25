/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * Settings as one table of typed rows, from which the JSON reader, --help, the sample file, the manual and README's
 * table all come. The table itself and the struct that it fills belong to the program.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "common/clock.h"
#include "common/json.h"

#define OPTION_TEXT_MAX 256 /* bytes of a text value, NUL included */
#define OPTION_LIST_MAX 32  /* members of a list value */

typedef char OptionText[OPTION_TEXT_MAX];

typedef struct OptionList {
        unsigned n;
        char items[OPTION_LIST_MAX][64];
} OptionList;

typedef enum OptionType {
        OPTION_BOOL,   /* bool */
        OPTION_NUMBER, /* int64_t */
        OPTION_SPAN,   /* Span; "5m" or a number of seconds */
        OPTION_SHARE,  /* int64_t in hundredths of a percent; "20%" */
        OPTION_AMOUNT, /* OptionAmount: a count or a share */
        OPTION_TEXT,   /* OptionText */
        OPTION_CHOICE, /* unsigned: index into .choices */
        OPTION_LIST, /* OptionList; one of the words in .choices where it has any; a text for a list of one */
} OptionType;

/** 5, "5" or "10%"; null: decided by the program */
typedef struct OptionAmount {
        int64_t count; /* -1: not given */
        int64_t share; /* hundredths of a percent; -1: not given */
} OptionAmount;

typedef struct Option {
        const char *name; /* path in the file: "brakes.max_sick" */
        OptionType type;
        size_t offset;        /* in the settings struct */
        const char *standard; /* default, spelled as JSON: "\"8m\"", "true", "null" */
        int64_t min,
                max; /* of numbers, spans and shares (and an amount's share); inclusive; 0, 0: any that is not negative */
        int64_t floor_min,
                floor_max;          /* narrower bounds, lifted by the unsafe switch; 0: none on that side */
        const char *const *choices; /* ended by NULL */
        bool nullable;    /* null is a value of its own: empty text, amount or list; never of other types */
        const char *help; /* one sentence, ends with a full stop */
} Option;

/** Everything that was wrong with one source; at most OPTION_PROBLEMS_MAX are kept. */
#define OPTION_PROBLEMS_MAX 16
typedef struct OptionProblems {
        unsigned n; /* how many there were, may exceed what is kept */
        char text[OPTION_PROBLEMS_MAX]
                 [320]; /* "SOURCE: brakes.max_sick: ...; expected ...; did you mean ...?" */
} OptionProblems;

/** options_default() - fill the struct at @settings from the table. @n rows. Return: 0; -ENOMEM. */
int options_default(const Option *table, size_t n, void *settings);

/**
 * options_read() - overlay one JSON text onto @settings
 * @source:   named in problems: a path, "CloudFormation metadata"
 * @unsafe:   whether floors are lifted
 * @settings: changed only if there was no problem at all
 * @origins:  array of @n pointers, one per row; those that were set point to @source afterwards; may be NULL
 * @problems: emptied first; what was wrong: syntax with line and column, unknown key with the nearest known one, wrong type, out of
 *            range with what was expected; duplicates, invalid UTF-8, trailing text
 *
 * Numbers, booleans given as strings are accepted where a number or boolean is due.
 * Return: 0; -EBADMSG with @problems filled; -ENOMEM.
 */
int options_read(const Option *table, size_t n, const char *source, const char *text, size_t n_text,
        bool unsafe, void *settings, const char **origins, OptionProblems *problems);

/** option_list_array() - @list as an array that ends with NULL; its texts are lent */
void option_list_array(const OptionList *list, const char *array[static OPTION_LIST_MAX + 1]);

/** option_format() - the value of row @option in @settings as JSON text. Return: 0; -E2BIG; -ENOMEM. */
int option_format(const Option *option, const void *settings, char *buffer, size_t n_buffer);

/** options_print_help() - for --help: name, default, range, sentence, folded to @width columns */
void options_print_help(const Option *table, size_t n, FILE *f, unsigned width);
/** options_print_sample() - a complete JSON file with every default */
void options_print_sample(const Option *table, size_t n, FILE *f);
/** options_print_markdown() - README's table */
void options_print_markdown(const Option *table, size_t n, FILE *f);
