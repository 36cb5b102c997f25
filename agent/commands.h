/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* The commands, each with its own --help. Exit status: 0 fine, 1 problem found, 2 wrong usage. */

typedef struct Command {
        const char *name;
        const char *arguments;             /* for the usage line: "[--watch] [--json]" */
        const char *summary;               /* one line for `ecs-health-agent --help` */
        int (*run)(int argc, char **argv); /* argv[0] is the command's name */
} Command;

/** command_main() - find and run the command, or --help, --version */
int command_main(int argc, char **argv);

int command_status(int argc, char **argv);
int command_check_config(int argc, char **argv);
int command_pause(int argc, char **argv);
int command_resume(int argc, char **argv);
int command_run(int argc, char **argv);
