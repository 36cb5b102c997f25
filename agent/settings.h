/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * The settings: one option table feeds parser, --help, sample file and README's table. Sources, later wins: built-in
 * defaults, /etc/ecs-health-agent/config.json.
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
} Settings;

extern const Option settings_table[];
extern const size_t settings_table_n;

/** settings_default() - built-in defaults; reads no file, so policy.external is false. Return: 0; -ENOMEM. */
int settings_default(Settings *settings);
/** settings_unsafe() - whether ECS_HEALTH_AGENT_UNSAFE=1 lifts the floors */
bool settings_unsafe(void);
/**
 * settings_read() - defaults overlaid by one file
 * @path:     file_root() already applied; a file that does not exist is an empty one
 * @settings: set on success only
 * @origins:  array of settings_table_n; "default", @path or the row that it follows, per row; may be NULL. Lent: @path must
 *            outlive it
 * @problems: what was wrong; also an unreadable or too large file
 *
 * Return: 0; -EBADMSG with @problems filled; -ENOMEM.
 */
int settings_read(const char *path, Settings *settings, const char **origins, OptionProblems *problems);
/**
 * settings_ecs_config() - read /var/lib/ecs/ecs.config and /etc/ecs/ecs.config (file_root() applied); the latter wins
 *
 * The proxy is HTTPS_PROXY, else HTTP_PROXY, which the ECS agent uses for https too. Without ECS_CLUSTER the ECS agent
 * registers with the cluster "default". What is missing, cannot be read or
 * is too long is left out.
 */
void settings_ecs_config(SettingsEcs *ret);
/** settings_fallback() - what a service with bad settings and no earlier good ones runs by: defaults, action observe.
 * Return: 0; -ENOMEM. */
int settings_fallback(Settings *settings);
/** settings_witness_on() - whether @name ("introspection", "log", "sockets", ...) is switched on */
bool settings_witness_on(const Settings *settings, const char *name);
/** settings_equal() - whether every option has the same value */
bool settings_equal(const Settings *a, const Settings *b);
/** settings_print_effective() - for check-config: every row with its value and where it came from, or as one JSON object
 * of { "NAME": { "value": ..., "source": ... } } without a newline. @origins: NULL is "default". */
void settings_print_effective(const Settings *settings, const char *const *origins, FILE *f, bool json);
