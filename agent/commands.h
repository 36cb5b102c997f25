/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* The commands, each with its own --help. Exit status: 0 fine, 1 problem found, 2 wrong usage. */

#include <getopt.h>
#include <stdbool.h>
#include <stdio.h>

#define PROGRAM      "ecs-health-agent"
#define EXIT_FINE    0
#define EXIT_PROBLEM 1
#define EXIT_USAGE   2

typedef struct Command {
        const char *name;
        const char *arguments;             /* for the usage line: "[--watch] [--json]" */
        const char *summary;               /* one line for `ecs-health-agent --help` */
        int (*run)(int argc, char **argv); /* argv[0] is the command's name */
} Command;

/** command_main() - find and run the command, or --help, --version */
int command_main(int argc, char **argv);

int command_status(int argc, char **argv);
int command_doctor(int argc, char **argv);
int command_explain(int argc, char **argv);
int command_replay(int argc, char **argv);
int command_drill(int argc, char **argv);
int command_metrics(int argc, char **argv);
int command_iam_policy(int argc, char **argv);
int command_check_config(int argc, char **argv);
int command_pause(int argc, char **argv);
int command_resume(int argc, char **argv);
int command_run(int argc, char **argv);

/** A variable of the environment, for usage and manual. */
typedef struct EnvironmentRow {
        const char *names; /* "HTTPS_PROXY, NO_PROXY" */
        const char *meaning;
} EnvironmentRow;

const EnvironmentRow *command_environment(size_t *ret_n);
/** command_table() - all of them, for usage, manual and completion; @ret_n: how many */
const Command *command_table(size_t *ret_n);

/* What the commands share. Errors go to standard error, with the program's name before them. */

/** command_usage_error() - wrong usage, with a hint at --help. Return: EXIT_USAGE. */
int command_usage_error(const char *command, const char *format, ...) __attribute__((format(printf, 2, 3)));
/** command_error() - Return: EXIT_PROBLEM */
int command_error(const char *format, ...) __attribute__((format(printf, 1, 2)));
/** command_print_usage() - the line "Usage: ..." and an empty one */
void command_print_usage(const char *name, FILE *f);
/** command_option_next() - getopt_long() that leaves the complaining to command_option_error() */
int command_option_next(int argc, char **argv, const struct option *options);
/** command_option_error() - what command_option_next() did not like. Return: EXIT_USAGE. */
int command_option_error(const char *command, char **argv, int c);
/**
 * command_take_json() - a command that takes --json, --help and nothing else: one of @help and @run is called
 *
 * Return: what that said; EXIT_USAGE.
 */
int command_take_json(int argc, char **argv, int (*help)(void), int (*run)(bool json));
/** command_colour() - whether standard output wants colours (a terminal, no NO_COLOR) */
bool command_colour(void);
/** command_width() - columns of standard output; $COLUMNS, else 100, where it is no terminal */
unsigned command_width(void);
