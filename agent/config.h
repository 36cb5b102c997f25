/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * Which settings are in force: the file, watched, over the metadata of the CloudFormation stack, read now and then.
 *
 * Each source keeps its last good text: a bad one is refused as a whole, reported, and changes nothing. While a source is
 * bad and there is no good text of it, or it is not known yet what the stack says, action is "observe", unless the file
 * itself says otherwise: a bad roll-out must neither disarm nor kill a fleet, and not knowing never acts.
 */

#include "agent/settings.h"
#include "agent/stack.h"

/**
 * config_http() - how AWS is reached: by AWS_CA_BUNDLE, HTTPS_PROXY and NO_PROXY, else the proxy that the ECS agent has
 * @ecs: lent to @ret
 *
 * Return: whether the proxy is the ECS agent's.
 */
bool config_http(const SettingsEcs *ecs, HttpOptions *ret);

typedef struct Config Config;

/** ConfigChanged - other settings are in force, or config_settling() has changed; from the loop. Return: 0; an error ends the daemon. */
typedef int (*ConfigChanged)(void *userdata);

typedef struct ConfigOptions {
        const char *path;  /* of the file; file_root() applied; copied, as the next one */
        const char *cache; /* of the stack's text */
        Http *http;        /* borrowed, as the next two */
        Aws *aws;
        Imds *imds;
        ConfigChanged changed;
        void *userdata;
} ConfigOptions;

/**
 * config_new() - read the file and what the last process knew of the stack
 *
 * A bad file is logged. On a terminal it ends the start (-EBADMSG), as a service goes on.
 * Return: 0; -EBADMSG; -ENOMEM; what sd_event_add_inotify() says.
 */
int config_new(Config **ret, sd_event *event, const ConfigOptions *options);
Config *config_free(Config *config);
DEFINE_CLEANUP(Config, config_free)

/**
 * config_read() - for commands: what a daemon that starts now would compose of the file and what was kept of the stack
 * @path:    of the file; file_root() applied; lent to @origins
 * @origins: as settings_compose() fills them; may be NULL
 * @cache:   filled where it counts, else empty; to be ended by the caller
 *
 * Return: 0; -EBADMSG with @problems filled; -ENOMEM.
 */
int config_read(const char *path, Settings *settings, const char **origins, OptionProblems *problems,
        StackCache *cache);

/** config_identity() - who and where we are is known: the stack can be asked */
int config_identity(Config *config, const char *instance_id, const char *region, const char *domain);
/** config_members() - members of the cluster, for the pace of asking */
void config_members(Config *config, uint64_t members);
/** config_reload() - read the file anew, and the stack soon, as on SIGHUP */
void config_reload(Config *config);

/** config_settings() - what is in force; lent until .changed is called */
const Settings *config_settings(const Config *config);
/** config_problems() - of the source that is refused; n == 0: none. Lent as above. */
const OptionProblems *config_problems(const Config *config);
/** config_has_error() - for the metric: a source is refused, or a stack that should be read cannot be */
bool config_has_error(const Config *config);
/**
 * config_misses_stack() - whether what the stack says should be known and is not
 *
 * A stack that may not be read is nobody's mistake while it was only guessed from tags, and not asked for by name.
 */
bool config_misses_stack(const StackView *stack, const Settings *settings);
/** config_path() - of the file */
const char *config_path(const Config *config);
/** config_stack() - the reader, for status */
void config_stack(const Config *config, StackView *ret);
/** config_settling() - whether it is only a matter of seconds until the stack is known, and nothing has gone wrong yet */
bool config_settling(const Config *config);
