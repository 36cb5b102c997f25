/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * The settings: one option table feeds parser, --help, manual, sample file and README's table. Sources, later wins:
 * built-in defaults, the metadata of a CloudFormation stack (agent/stack.h), /etc/ecs-health-agent/config.json.
 */

#include <stdio.h>

#include "agent/decide/policy.h"
#include "common/options.h"

#define SETTINGS_FILE     "/etc/ecs-health-agent/config.json"
#define SETTINGS_FILE_MAX ((size_t) 256 * 1024)

/** What of the ECS agent's own settings concerns us. May hold a proxy's password: not for logs or status. */
typedef struct SettingsEcs {
        bool external;         /* ECS_EXTERNAL: not an EC2 instance */
        char cluster[256];     /* ECS_CLUSTER: short name, also where it is an ARN; "": none */
        char https_proxy[512]; /* "": none; URL or host:port */
        char no_proxy[1024];
} SettingsEcs;

typedef enum PerInstance {
        PER_INSTANCE_NEVER,
        PER_INSTANCE_WHEN_ILL,
        PER_INSTANCE_ALWAYS,
} PerInstance;

typedef struct Settings {
        Policy policy; /* also_act_on is filled from the list below by settings_read() */
        OptionList also_act_on;

        OptionText endpoint; /* ecs_agent.endpoint */
        OptionText log;
        OptionText unit;
        OptionText cluster; /* "": as introspection says */
        OptionText docker_socket;
        OptionText docker_unit;
        OptionList mounts; /* "auto" or paths */
        OptionList ignore_fstypes;
        OptionList witnesses; /* "all" or names */

        OptionText name_space;
        Span period, sample;
        unsigned per_instance; /* PerInstance */
        int64_t max_series;

        bool stack_enabled;
        OptionText stack; /* "": as the instance's tags say */
        OptionText stack_resource;
        Span stack_refresh;
} Settings;

#define SETTINGS_ROWS_MAX 64

extern const Option settings_table[];
extern const size_t settings_table_n;

/** settings_default() - built-in defaults; reads no file, so policy.external is false. Return: 0; -ENOMEM. */
int settings_default(Settings *settings);
/** settings_unsafe() - whether ECS_HEALTH_AGENT_UNSAFE=1 lifts the floors */
bool settings_unsafe(void);

/** One source of settings. */
typedef struct SettingsText {
        const char *source; /* named in problems and origins: a path, STACK_SOURCE */
        const char *text;   /* JSON; NULL: the source has none */
        size_t n;
        bool from_stack; /* cannot say where the stack is that it stands in */
} SettingsText;

/**
 * settings_compose() - defaults overlaid by @n texts in their order
 * @settings: set on success only
 * @origins:  array of settings_table_n; "default", a source or the row that it follows, per row; may be NULL. Lent: sources
 *            must outlive it
 * @problems: what was wrong, in any of them or in all together
 *
 * Return: 0; -EBADMSG with @problems filled; -ENOMEM.
 */
int settings_compose(const SettingsText *texts, size_t n, Settings *settings, const char **origins,
        OptionProblems *problems);
/** settings_origin() - where the row called @name comes from; @origins as settings_compose() has filled them */
const char *settings_origin(const char *const *origins, const char *name);
/**
 * settings_load() - the text of a settings file
 * @path: file_root() already applied
 * @ret:  owned by the caller; NULL when there is no such file
 *
 * Return: 0; -EBADMSG with @problems filled for a file that cannot be read or is too large; -ENOMEM.
 */
int settings_load(const char *path, char **ret, size_t *ret_n, OptionProblems *problems);
/** settings_read() - settings_load() and settings_compose() of that one file */
int settings_read(const char *path, Settings *settings, const char **origins, OptionProblems *problems);
/**
 * settings_ecs_config() - read /var/lib/ecs/ecs.config and /etc/ecs/ecs.config (file_root() applied); the latter wins
 *
 * The proxy is HTTPS_PROXY, else HTTP_PROXY, which the ECS agent uses for https too. Without ECS_CLUSTER the ECS agent
 * registers with the cluster "default". What is missing, cannot be read or
 * is too long is left out.
 */
void settings_ecs_config(SettingsEcs *ret);
/** settings_witness_on() - whether @name ("introspection", "log", "sockets", ...) is switched on */
bool settings_witness_on(const Settings *settings, const char *name);
/** settings_equal() - whether every option has the same value */
bool settings_equal(const Settings *a, const Settings *b);
/** settings_print_effective() - for check-config: every row with its value and where it came from, or as one JSON object
 * of { "NAME": { "value": ..., "source": ... } } without a newline. @origins: NULL is "default". */
void settings_print_effective(const Settings *settings, const char *const *origins, FILE *f, bool json);
